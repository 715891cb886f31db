"""This is where we hold the canonical bytes to their word: never one for two values, never two for one."""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import enum
import math
import os
import pathlib
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable
from typing import Any, cast

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskcache.errors import UncacheableArgument
from taskcache.keys.encoding import MAX_DEPTH, digest, encode
from tests.pure.kinds import (
    Box,
    Colour,
    Level,
    Method,
    Named,
    Pair,
    Plain,
    Point,
    Shouting,
    Slotted,
    Spot,
    Stateful,
    Tagged,
    Text,
    anything,
    model,
    near,
    reordered,
)


@given(near, near)
def test_two_values_have_the_same_bytes_exactly_when_they_are_the_same(one: object, other: object) -> None:
    """Bytes are equal when type and value are, all the way down, and only then."""
    assert (model(one) == model(other)) == (encode(one) == encode(other))


@given(anything, anything)
def test_values_of_every_supported_type_are_told_apart(one: object, other: object) -> None:
    """The same holds for any two values of any supported types."""
    assert (model(one) == model(other)) == (encode(one) == encode(other))


@given(st.lists(near, max_size=3), st.lists(near, max_size=3))
def test_values_in_a_row_cannot_run_into_each_other(one: list[object], other: list[object]) -> None:
    """Bytes of several values, joined, are those of no other values."""
    same = b"".join(map(encode, one)) == b"".join(map(encode, other))

    assert (model(one) == model(other)) == same


@given(anything)
def test_the_order_in_which_sets_and_dicts_were_filled_does_not_count(value: object) -> None:
    """An equal value, filled in another order, has the same bytes."""
    assert encode(value) == encode(reordered(value))


@pytest.mark.parametrize(
    "values",
    [
        [
            1,
            True,
            1.0,
            "1",
            b"1",
            bytearray(b"1"),
            decimal.Decimal(1),
            1 + 0j,
            Level.LOW,
            numpy.int64(1),
            numpy.bool_(True),
        ],
        [0.0, -0.0, 0, False, None, "", b"", (), [], {}, set(), frozenset()],
        [decimal.Decimal("1"), decimal.Decimal("1.0"), decimal.Decimal("1.00")],
        [dt.time(1), dt.time(1, fold=1), dt.time(1, tzinfo=dt.timezone.utc)],
        [dt.datetime(2024, 1, 1), dt.datetime(2024, 1, 1, fold=1), dt.date(2024, 1, 1)],
        [range(0), range(5, 5), range(0, 0, 2), slice(0), slice(0, 0)],
        ["é", "e\u0301", "\ud83d\ude00", "\U0001f600"],
        [2**64 - 1, 2**64, -(2**64), str(2**64)],
        [Point(1), Spot(1), (1, 0), {"x": 1, "y": 0}, Pair(1, 0), Shouting(1, 0), Named(1)],
        [int, "int", "builtins:int", Point, Spot],
        [pathlib.PurePosixPath("a"), pathlib.PureWindowsPath("a"), pathlib.Path("a"), "a"],
        [[1, [2]], [[1], 2], [1, 2], [[1, 2]]],
    ],
    ids=lambda values: repr(values[0]),
)
def test_values_that_python_calls_equal_or_prints_alike_stay_apart(values: list[object]) -> None:
    """Where a function could tell two values apart, their bytes differ."""
    assert len(values) == len({encode(value) for value in values})


def test_all_nans_are_one() -> None:
    """The bits of a NaN are the hardware's choice and do not count."""
    assert encode(math.nan) == encode(-math.nan) == encode(math.inf - math.inf)


def test_an_aware_datetime_is_its_instant() -> None:
    """Noon in UTC and two o'clock at +02:00 are the same moment and the same bytes."""
    noon = dt.datetime(2024, 7, 1, 12, tzinfo=dt.timezone.utc)

    assert encode(noon) == encode(noon.astimezone(dt.timezone(dt.timedelta(hours=2))))


def test_the_ends_of_the_calendar_have_an_instant_too() -> None:
    """A datetime whose UTC date does not exist is encoded like any other."""
    first = dt.datetime.min.replace(tzinfo=dt.timezone(dt.timedelta(hours=2)))

    assert encode(first) != encode(first + dt.timedelta(microseconds=1))


def test_the_decimal_context_does_not_count() -> None:
    """Settings of the decimal module change how a number prints, not its bytes."""
    number = decimal.Decimal("1E+30")
    expected = encode(number)

    with decimal.localcontext() as context:
        context.capitals = 0
        context.prec = 2

        assert expected == encode(number)


def test_a_member_that_was_made_for_what_is_missing_is_refused() -> None:
    """All of them have one name, which says nothing of their values."""

    class Shade(enum.Enum):
        RED = 1

        @classmethod
        def _missing_(cls, value: object) -> Shade:
            made = object.__new__(cls)
            made._name_, made._value_ = "UNKNOWN", value
            return made

    with pytest.raises(UncacheableArgument, match="_missing_"):
        encode(Shade(7))


def test_an_alias_of_an_enum_member_is_the_member() -> None:
    """Two names of one member are one."""
    assert encode(Colour.RED) == encode(Colour.ALSO_RED)


def test_a_field_left_out_of_equality_is_left_out_of_the_key() -> None:
    """What a class does not compare does not tell two of its objects apart."""
    assert encode(Point(1, note="a")) == encode(Point(1, note="b"))
    assert encode(Box(1, label="a")) == encode(Box(1, label="b"))


def test_pydantic_models_are_their_fields() -> None:
    """A pydantic model is its class and fields, extras included."""
    pydantic = pytest.importorskip("pydantic")

    class Model(pydantic.BaseModel):  # type: ignore[misc, name-defined]  # not installed everywhere
        x: int

    class Open(Model):
        model_config = pydantic.ConfigDict(extra="allow")

    Model.__qualname__, Open.__qualname__ = "Model", "Open"  # as if made at module level

    assert encode(Model(x=1)) == encode(Model(x="1"))
    assert 4 == len({encode(each) for each in (Model(x=1), Model(x=2), Open(x=1), Open(x=1, y=2))})


def test_arrays_are_their_dtype_shape_and_content() -> None:
    """Each of the three tells arrays apart; how the memory is laid out does not."""
    array = numpy.arange(6, dtype="i4").reshape(2, 3)
    others = [
        array.astype("i8"),
        array.reshape(3, 2),
        array + 1,
        array.tolist(),
        array[0, 0],
        array[0:1, 0:1],
        array[0],
    ]

    assert encode(array) == encode(numpy.asfortranarray(array)) == encode(array[:, ::-1][:, ::-1])
    assert len(others) + 1 == len({encode(each) for each in [array, *others]})


def test_padding_of_structured_arrays_does_not_count() -> None:
    """Bytes between the fields hold anything, and are not read."""
    dtype = numpy.dtype([("a", "i1"), ("b", "i8")], align=True)
    clean = numpy.zeros(1, dtype)
    dirty = numpy.full(dtype.itemsize, 255, "u1").view(dtype)
    dirty["a"] = dirty["b"] = 0

    assert clean.tobytes() != dirty.tobytes()
    assert encode(clean) == encode(dirty)
    assert encode(clean[0]) == encode(dirty[0])


@pytest.mark.parametrize(
    "array",
    [numpy.array([object()], dtype=object), numpy.zeros(1, "longdouble"), numpy.ma.masked_array([1], [True])],
    ids=["object", "longdouble", "masked"],
)
def test_arrays_whose_bytes_are_not_their_value_are_refused(array: object) -> None:
    """Pointers, padding and masks are no content to build a key from."""
    with pytest.raises(UncacheableArgument):
        encode(array)


def make_local_class() -> type:
    class Local:
        pass

    return Local


@pytest.mark.parametrize(
    "value",
    [
        object(),
        Plain(),
        Text("a"),
        collections.OrderedDict(a=1),
        collections.deque([1]),
        Tagged("a"),
        Stateful(1, secret=2),
        Slotted(1),
        make_local_class(),
        make_local_class()(),
        len,
        lambda: None,
        iter(()),
        memoryview(b"a"),
        dt.time(1, tzinfo=cast("dt.tzinfo", type("Wavering", (dt.tzinfo,), {"utcoffset": lambda *_: None})())),
        list[int],
        sys,
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_declares_no_identity_is_refused(value: object) -> None:
    """Anything that does not say what it is known by is an error, never a guess."""
    with pytest.raises(UncacheableArgument):
        encode(value)


def test_the_error_names_the_way_the_type_and_the_cures() -> None:
    """The message leads to the culprit and says what helps."""
    with pytest.raises(UncacheableArgument) as caught:
        encode(Point({"address": [1, 2, 3, Plain()]}), where="user")

    expected = (
        f"`user.x['address'][3]` is of type {Plain.__module__}.Plain, which has no identity to build a key from; "
        "give the class `__cache_key__`, call `identify(Plain, key=...)`, "
        "declare its fields (dataclass, NamedTuple, Enum), "
        'or leave it out with `ignore=("user",)`'
    )
    assert expected == str(caught.value)


@pytest.mark.parametrize("value", [{Plain()}, {Plain(): 1}, {(Plain(),): 1}])
def test_members_without_a_place_are_shown_without_one(value: object) -> None:
    """A member of a set and a key of a dict have no index that would mean anything."""
    with pytest.raises(UncacheableArgument, match=r"`argument\{…\}"):
        encode(value)


def test_long_keys_stay_out_of_messages() -> None:
    """Keys of a mapping may be data of users; only short plain ones are shown."""
    with pytest.raises(UncacheableArgument, match=r"`argument\[…\]`"):
        encode({"secret" * 10: Plain()})


def cyclic(kind: str) -> object:
    """Build something that contains itself."""
    items: list[object] = []
    mapping: dict[str, object] = {}
    point = Point(1)
    knot: dict[str, tuple[object, Any]] = {
        "list": (items, lambda: items.append(items)),
        "wide": (items, lambda: items.extend([items, items])),
        "dict": (mapping, lambda: mapping.update(me=mapping)),
        "tuple": ((items,), lambda: items.append((items,))),
        "dataclass": (point, lambda: setattr(point, "x", point)),
    }
    value, tie = knot[kind]
    tie()
    return value


@pytest.mark.parametrize("kind", ["list", "wide", "dict", "tuple", "dataclass"])
def test_what_contains_itself_is_refused_clearly(kind: str) -> None:
    """A cycle is named as such, never a RecursionError."""
    with pytest.raises(UncacheableArgument, match="contains itself"):
        encode(cyclic(kind))


def in_list(value: object) -> object:
    return [value]


def in_frozenset(value: object) -> object:
    return frozenset([value])


def in_dict(value: object) -> object:
    return {"k": value}


@pytest.mark.parametrize("wrap", [in_list, in_frozenset, in_dict, Point, Method], ids=lambda wrap: wrap.__name__)
def test_deep_nesting_is_refused_clearly(wrap: Callable[[object], object]) -> None:
    """Up to the limit all is well, beyond it the error says so."""
    value: object = 1
    for _ in range(MAX_DEPTH):
        value = wrap(value)
    encode(value)

    with pytest.raises(UncacheableArgument, match="nested deeper than 100 levels"):
        encode(wrap(value))


def test_very_large_integers_are_no_problem() -> None:
    """Python's limit on decimal digits does not apply to keys."""
    assert encode(10**10_000) != encode(10**10_000 + 1)


def test_a_digest_is_128_bits_of_blake2b() -> None:
    """32 hex digits, the same for the same bytes."""
    assert "cae66941d9efbd404e4d88758ea67670" == digest(b"")


def interpreters() -> list[str]:
    """Find the Pythons of this machine that run; a version manager's shim may be there and not run."""
    found = [shutil.which(f"python3.{minor}") for minor in range(10, 15)]
    running = [path for path in found if path and subprocess.run([path, "-c", ""], capture_output=True).returncode == 0]
    return list(dict.fromkeys([sys.executable, *running]))


@pytest.mark.parametrize("seed", ["0", "1", "4242"])
def test_every_process_gives_the_stored_bytes(seed: str) -> None:
    """The stored vectors hold under every hash seed, in every Python found here."""
    script = str(pathlib.Path(__file__).with_name("make_key_vectors.py"))
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    runs = [
        subprocess.run([python, script], capture_output=True, text=True, env=environment, timeout=60)
        for python in interpreters()
    ]

    assert [] == [(run.args, run.stdout, run.stderr) for run in runs if run.returncode != 0]


def test_a_uuid_is_neither_its_text_nor_its_number() -> None:
    """A UUID is a type of its own."""
    value = uuid.UUID(int=5)

    assert 4 == len({encode(each) for each in (value, str(value), value.hex, 5)})
