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
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import attrs
import msgspec
import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskcache.errors import UncacheableArgument
from taskcache.keys.encoding import MAX_DEPTH, digest, encode


class Colour(enum.Enum):
    RED = 1
    ALSO_RED = 1  # noqa: PIE796 # an alias is what is tested
    GREEN = 2


class Level(enum.IntEnum):
    LOW = 1


class Right(enum.Flag):
    READ = 1
    WRITE = 2


@dataclass
class Point:
    x: object
    y: object = 0
    note: str = field(default="", compare=False)


@dataclass
class Spot:
    x: object
    y: object = 0


class Named(Point):
    """Adds a method, and no state."""

    def shout(self) -> str:
        return "!"


class Stateful(Point):
    """Adds state without declaring it."""

    def __init__(self, x: object, secret: object) -> None:
        super().__init__(x)
        self.secret = secret


class Slotted(Point):
    __slots__ = ("secret",)


class Pair(NamedTuple):
    left: object
    right: object


class Shouting(Pair):
    """A named tuple with a method."""

    __slots__ = ()


@attrs.define
class Box:
    content: object
    label: str = attrs.field(default="", eq=False)


class Packet(msgspec.Struct):
    content: object


class Method:
    def __init__(self, key: object) -> None:
        self.key = key

    def __cache_key__(self) -> object:
        return self.key


class Text(str):
    __slots__ = ()


class Plain:
    pass


@dataclass
class Tagged(str):
    tag: str = ""


def _is_hashable(value: object) -> bool:
    # Signaling NaNs are not, nor are slices before Python 3.12.
    try:
        hash(value)
    except TypeError:
        return False
    return True


scalars = st.one_of(
    st.none(),
    st.just(...),
    st.booleans(),
    st.integers(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.complex_numbers(),
    st.text(st.characters(exclude_categories=())),
    st.binary(),
    st.binary().map(bytearray),
    st.dates(),
    st.times(),
    st.datetimes(),
    st.datetimes(timezones=st.just(dt.timezone.utc) | st.just(dt.timezone(dt.timedelta(hours=5)))),
    st.timedeltas(),
    st.decimals(),
    st.uuids(),
    st.builds(range, st.integers(-3, 3), st.integers(-3, 3), st.integers(1, 3)),
    st.builds(slice, st.none() | st.integers(), st.none() | st.integers()),
    st.text(st.characters(exclude_characters="\0")).map(pathlib.PurePosixPath),
    st.sampled_from(
        [int, str, Point, Colour, Colour.RED, Colour.GREEN, Level.LOW, Right.READ, Right.READ | Right.WRITE]
    ),
)
hashables = st.recursive(
    scalars.filter(_is_hashable),
    lambda inner: (
        st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3) | st.builds(Pair, inner, inner)
    ),
    max_leaves=4,
)
anything = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.sets(hashables, max_size=4),
        st.frozensets(hashables, max_size=4),
        st.dictionaries(hashables, inner, max_size=4),
        st.builds(Point, inner, inner),
        st.builds(Spot, inner, inner),
        st.builds(Pair, inner, inner),
        st.builds(Box, inner),
        st.builds(Packet, inner),
    ),
    max_leaves=10,
)
# Few values, so that pairs of them are often equal or nearly so.
near = st.recursive(
    st.sampled_from(
        [
            None,
            True,
            False,
            0,
            1,
            0.0,
            -0.0,
            1.0,
            math.nan,
            "",
            "1",
            "a",
            b"",
            b"1",
            b"a",
            decimal.Decimal(1),
            1j,
            1 + 0j,
            decimal.Decimal("1.0"),
            Level.LOW,
            Colour.RED,
            dt.date(1, 1, 1),
            dt.datetime(1, 1, 1),
            "int1:1",
            b"int1:1",
        ]
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2),
        st.lists(inner, max_size=2).map(tuple),
        st.dictionaries(st.sampled_from([0, "0", None, (), "a"]), inner, max_size=2),
        st.frozensets(st.sampled_from([0, "0", None, (), "a"]), max_size=2),
        st.builds(Point, inner),
        st.builds(Spot, inner),
        st.builds(Pair, inner, inner),
    ),
    max_leaves=3,
)


def model(value: Any) -> object:
    """Say what a value is in terms that == compares rightly; written apart from the encoder, to judge it."""
    kind = type(value)
    if isinstance(value, enum.Enum):
        return kind, value.name, value.value
    if kind in (list, tuple):
        return kind, tuple(model(each) for each in value)
    if kind in (set, frozenset):
        return kind, frozenset(collections.Counter(model(each) for each in value).items())
    if kind is dict:
        return kind, frozenset(collections.Counter((model(key), model(item)) for key, item in value.items()).items())
    if kind is float:
        return kind, "nan" if value != value else (value, math.copysign(1, value))
    if kind is complex:
        return kind, model(value.real), model(value.imag)
    if kind is dt.datetime and value.tzinfo is not None:
        return kind, "aware", value.astimezone(dt.timezone.utc)
    if kind in (dt.datetime, dt.time):
        return kind, value, value.fold
    if kind is decimal.Decimal:
        return kind, value.as_tuple()
    if kind is bytearray:
        return kind, bytes(value)
    if kind in (range, slice):
        return kind, model(value.start), model(value.stop), model(value.step)
    if kind is Pair:
        return kind, model(value.left), model(value.right)
    if kind in (Point, Spot):
        return kind, model(value.x), model(value.y)
    if kind in (Box, Packet):
        return kind, model(value.content)
    return kind, value


def reordered(value: Any) -> Any:
    """Build an equal value whose sets and dicts were filled the other way round."""
    kind = type(value)
    if kind in (list, tuple):
        return kind(reordered(each) for each in value)
    if kind in (set, frozenset):
        return kind(reversed(list(value)))
    if kind is dict:
        return {key: reordered(item) for key, item in reversed(list(value.items()))}
    return value


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
        dt.timezone.utc,
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
        f"`user.x['address'][3]` is of type {__name__}.Plain, which has no identity to build a key from; "
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
