"""This is where we hold that a value comes back as exactly what it was, and that no bytes make it anything worse."""

from __future__ import annotations

import decimal
import pathlib
import sys
import types
import uuid
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import msgspec
import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskcache.codec.typed import MAX_DEPTH, decode, encode
from taskcache.errors import UnstorableValue, UntrustedValue
from tests.pure import values
from tests.pure.values import (
    PLAIN,
    VALUES,
    Box,
    Colour,
    Frozen,
    Listed,
    Order,
    Point,
    Right,
    Strict,
    Text,
    constructed,
    is_same,
    unhurried,
)


@unhurried
@given(VALUES)
def test_every_value_comes_back_as_it_was(value: object) -> None:
    """Types, nesting, order, signs, time zones: what is decoded is what was encoded."""
    assert is_same(value, decode(encode(value)))


@unhurried
@given(PLAIN)
def test_plain_data_is_plain_messagepack(value: object) -> None:
    """Data of built-in types costs no more than msgspec: the bytes are the same."""
    assert msgspec.msgpack.encode(value) == encode(value)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ((1, "a"), "d6019201a161"),
        ({1}, "d5029101"),
        (frozenset({1}), "d5039101"),
        ({(1,): 2}, "c7060492d501910102"),
        (range(3), "d60993000301"),
        (2**64, "c70910000000000000000001"),
        ("\ud800", "c70311eda080"),
        (bytearray(b"x"), "d41278"),
        (1j, "d8130000000000000000000000000000f03f"),
        (decimal.Decimal("1.10"), "d614312e3130"),
        (uuid.UUID(int=1), "d81500000000000000000000000000000001"),
        (date(2024, 1, 2), "d616e8070102"),
        (time(1, 2, 3, 4, fold=1), "d7170102030400000001"),
        (datetime(2024, 1, 2, tzinfo=timezone.utc), "c71918323032342d30312d30325430303a30303a30302b30303a3030"),
        (datetime(2024, 1, 2, tzinfo=ZoneInfo("UTC")), "c7111850e807010200000000000000005a555443"),
        (timedelta(-1, 2, 3), "c70c19ffffffff0200000003000000"),
        (timezone(timedelta(hours=1), "x"), "c70e1a4e00000000100e00000000000078"),
        (pathlib.PurePosixPath("a"), "d51b0061"),
        (numpy.array([1], "i2"), "c70e200800000093a33c69329101c20100"),
        (numpy.int8(1), "c70c210700000093a37c693190c201"),
        (Point(1, 2), "c7200594b774657374732e707572652e76616c7565733a506f696e74ce8c7a29620102"),
        (Frozen(1, 2), "c7220695b874657374732e707572652e76616c7565733a46726f7a656ece42ee976ec00102"),
        (Colour.RED, "c71f0793b874657374732e707572652e76616c7565733a436f6c6f7572a3524544c0"),
        (Right.READ | Right.WRITE, "c71b0793b774657374732e707572652e76616c7565733a5269676874c003"),
    ],
    ids=repr,
)
def test_the_wire_format_is_pinned(value: object, written: str) -> None:
    """Old and new processes share a cache: what these bytes mean can never change, only be added to."""
    assert written == encode(value).hex()
    assert is_same(value, decode(bytes.fromhex(written)))


@pytest.mark.parametrize(
    "value",
    [
        numpy.arange(6).reshape(2, 3),
        numpy.arange(6).reshape(2, 3).T,
        numpy.arange(20)[::3],
        numpy.zeros((0, 3)),
        numpy.array(5),
        numpy.array(["ab", "c"]),
        numpy.array([b"ab", b"c"]),
        numpy.array([], dtype="U3"),
        numpy.array(["2020-01-01"], dtype="M8[D]"),
        numpy.array([(1, (2.0, 3.0))], dtype=[("a", ">i4"), ("b", "f8", (2,))]),
        numpy.float64(1.5),
        numpy.float32("nan"),
        numpy.int8(-1),
        numpy.bool_(True),
        numpy.complex64(1j),
        numpy.datetime64("2020-01-01T00:00", ("s", 25)),
        numpy.str_("ab"),
    ],
    ids=repr,
)
def test_numpy_comes_back_as_it_was(value: Any) -> None:
    """Arrays and scalars keep dtype, shape, order and byte order, and arrays can be written to."""
    again: Any = decode(encode(value))

    assert is_same(value, again)
    if isinstance(value, numpy.ndarray):
        assert again.flags.writeable
        assert value.flags.f_contiguous == again.flags.f_contiguous or not value.flags.forc


def test_text_times_and_ids_keep_what_equality_does_not_see() -> None:
    """A fold, the zone's own name, a safe UUID and a Decimal's zeros survive."""
    moment = datetime(2024, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1)
    safe = uuid.UUID(int=5, is_safe=uuid.SafeUUID.safe)
    again: Any = decode(encode([moment, safe, decimal.Decimal("1.10"), decimal.Decimal("-sNaN12")]))

    assert ("Europe/Berlin", 1) == (again[0].tzinfo.key, again[0].fold)
    assert safe.is_safe is again[1].is_safe
    assert ["1.10", "-sNaN12"] == list(map(str, again[2:]))
    assert decode(encode(timezone.utc)) is timezone.utc


def test_a_dataclass_brings_what_it_holds_beside_its_fields() -> None:
    """Cached properties and what `__post_init__` set belong to the instance and come with it."""
    order = Order(1)
    assert order.costly == 42
    again: Any = decode(encode(order))

    assert {**vars(order), "total": 0} == vars(again)
    assert Box[int](3) == decode(encode(Box[int](3)))


def test_rebuilding_runs_no_constructor() -> None:
    """An instance is rebuilt from its parts; `__init__` and `__post_init__` ran when it was made."""
    written = encode(Strict(1))
    constructed.clear()

    assert Strict(1) == decode(written)
    assert [1] == constructed


class Hidden:
    pass


class OwnZone(tzinfo):
    def utcoffset(self, _: datetime | None) -> timedelta:
        return timedelta(0)

    dst = utcoffset

    def tzname(self, _: datetime | None) -> str:
        return "own"


def local_dataclass() -> object:
    @dataclass
    class Local:
        x: int

    return Local(1)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (Hidden(), r"^the value is of type .*Hidden, which"),
        ([1, {"a": (0, Hidden())}], r"^the value\[1\]\['a'\]\[1\] is of type"),
        ({"k": {Hidden()}}, r"^the value\['k'\]\{\.\.\.\} is of type"),
        (Frozen(1, [Hidden()]), r"^the value\.right\[0\] is of type"),
        (Point(Hidden()), r"^the value\.x is of type"),
        ({Hidden(): 1}, r"^the value\[<.*Hidden>\] is of type"),
        ({"x" * 99: Hidden()}, r"^the value\['x{39}…\] is of type"),
        (Text("x"), r"convert it with str\(\.\.\.\)"),
        (OrderedDict(), r"convert it with dict\(\.\.\.\)"),
        (local_dataclass(), r"cannot be found again by that name"),
        (Listed(), r"also a list"),
        (numpy.array([object()]), r"dtype object"),
        (numpy.str_("a\0"), r"cannot be written down"),
        (datetime(2020, 1, 1, tzinfo=OwnZone()), r"OwnZone; use zoneinfo"),
        (lambda: 0, r"of type function"),
        (Hidden, r"of type type"),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
def test_the_refusal_names_path_type_and_cure(value: object, said: str) -> None:
    """What cannot be written is refused with where it is, what it is and what to do."""
    with pytest.raises(UnstorableValue, match=said) as refused:
        encode(value)

    assert "TASKCACHE_SECRET" in str(refused.value)


@pytest.mark.parametrize("nest", [lambda inner: [inner], lambda inner: {"k": inner}, lambda inner: (inner,)])
def test_depth_has_a_limit_that_reads_back(nest: Callable[[object], object]) -> None:
    """The deepest value that is written is read again even on a deep stack; one deeper is refused."""
    value: object = 1
    for _ in range(MAX_DEPTH):
        value = nest(value)

    def at_depth(frames: int) -> object:
        return at_depth(frames - 1) if frames else decode(encode(value))

    assert value == at_depth(300)
    with pytest.raises(UnstorableValue, match="nested deeper"):
        encode(nest(value))


def test_a_value_that_holds_itself_is_refused() -> None:
    """A cycle is an error that says so, not a stack overflow."""
    cycle: list[object] = []
    cycle.append({"again": cycle})

    with pytest.raises(UnstorableValue, match="holds itself"):
        encode(cycle)


@unhurried
@given(st.binary(max_size=60))
def test_arbitrary_bytes_are_untrusted(data: bytes) -> None:
    """Bytes nobody wrote decode to something, or are refused in one way."""
    with suppress(UntrustedValue):
        decode(data)


@unhurried
@given(VALUES, st.data())
def test_damaged_values_are_untrusted(value: object, data: st.DataObject) -> None:
    """A flipped bit or a lost end never raises anything but `UntrustedValue`."""
    raw = bytearray(encode(value))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    raw = raw[: data.draw(st.integers(0, len(raw)))]
    with suppress(UntrustedValue):
        decode(raw)


ARRAY = encode(numpy.array([("ab", 1.0)], dtype=[("a", "U2"), ("b", "f8")]))


@unhurried
@given(st.integers(0, len(ARRAY) - 1), st.integers(0, 255))
def test_damaged_arrays_are_untrusted(at: int, byte: int) -> None:
    """A damaged dtype, shape or length never becomes an object array or a crash."""
    raw = bytearray(ARRAY)
    raw[at] = byte
    try:
        again = decode(raw)
    except UntrustedValue:
        return

    assert not getattr(getattr(again, "dtype", None), "hasobject", False)


@pytest.mark.parametrize(
    "raw",
    [b"", b"\xc1", b"\x91" * 100_000, b"\xdd\xff\xff\xff\xff", b"\xc7\x00\x63", b"\x01\x01", b"\xc7\x02\x1b\x03x"],
)
def test_hostile_bytes_are_untrusted(raw: bytes) -> None:
    """Endless nesting, endless lengths and unknown extensions are refused in one way."""
    with pytest.raises(UntrustedValue):
        decode(raw)


def forget_class(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delattr(values, name)


@pytest.mark.parametrize("value", [Frozen(1, 2), Point(1), Colour.RED], ids=["dataclass", "named tuple", "enum"])
def test_a_class_that_is_not_here_is_untrusted(value: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """A class this process does not have makes a miss; nothing is imported to find it."""
    written = encode(value)
    forget_class(monkeypatch, type(value).__name__)

    with pytest.raises(UntrustedValue, match="imported"):
        decode(written)


def test_nothing_is_imported_to_find_a_class(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that is not loaded stays so, and a module's `__getattr__` is not asked."""
    lazy = types.ModuleType("lazy_module")
    asked: list[str] = []
    lazy.__getattr__ = asked.append  # type: ignore[method-assign]  # a module function, PEP 562
    monkeypatch.setitem(sys.modules, "lazy_module", lazy)
    for name in ("lazy_module:Point", "this:Point", "numpy.typing.mypy_plugin:Point"):
        with pytest.raises(UntrustedValue):
            decode(msgspec.msgpack.encode(msgspec.msgpack.Ext(5, msgspec.msgpack.encode([name, 0, 1]))))

    assert not asked
    assert not {"this", "numpy.typing.mypy_plugin"} & set(sys.modules)


@pytest.mark.parametrize("value", [Frozen(1, 2), Point(1)], ids=["dataclass", "named tuple"])
def test_other_fields_than_yesterday_are_untrusted(value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a deploy that renamed a field, yesterday's bytes are a miss and not a half-filled object."""

    @dataclass
    class Changed:
        left: int
        renamed: int

    class Renamed(NamedTuple):
        x: int
        renamed: int

    written = encode(value)
    changed = Renamed if isinstance(value, tuple) else Changed
    monkeypatch.setattr(values, type(value).__name__, changed)

    with pytest.raises(UntrustedValue, match="other fields"):
        decode(written)


def test_a_script_and_the_worker_that_imports_it_share_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A class of a script run as `__main__` is written under the name workers import it by, and read back by both."""
    script = types.ModuleType("__main__")
    script.__file__ = "somewhere/shop_script.py"
    exec("from typing import NamedTuple\nclass Item(NamedTuple):\n    name: str", vars(script))
    item = vars(script)["Item"]("tea")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "__main__", script)
        written = encode(item)
        assert is_same(item, decode(written))
    worker = types.ModuleType("shop_script")
    exec("from typing import NamedTuple\nclass Item(NamedTuple):\n    name: str", vars(worker))
    monkeypatch.setitem(sys.modules, "shop_script", worker)

    assert type(decode(written)) is vars(worker)["Item"]


@dataclass(frozen=True)
class Reference:
    key: int


class Row:
    def __init__(self, key: int) -> None:
        self.key = key


def refer(value: object) -> object | None:
    return Reference(value.key) if isinstance(value, Row) else None


def test_references_travel_instead_of_objects() -> None:
    """An object that `refer` knows is written as its reference and loaded by `resolve`, wherever it sits."""
    value = [Row(1), {"row": (Row(2), Frozen(Row(3), None))}]
    again: Any = decode(encode(value, refer=refer), resolve=lambda reference: f"row {reference.key}")

    assert ["row 1", {"row": ("row 2", Frozen("row 3", None))}] == again
    with pytest.raises(UntrustedValue, match="reference"):
        decode(encode(value, refer=refer))


def test_an_error_of_resolve_is_not_the_fault_of_the_bytes() -> None:
    """When a row is gone, the caller sees the database's own error."""

    def resolve(_: object) -> object:
        raise KeyError("row is gone")

    with pytest.raises(KeyError, match="row is gone") as failed:
        decode(encode((Row(1),), refer=refer), resolve=resolve)

    assert failed.value.__cause__ is None


def test_dates_are_not_datetimes() -> None:
    """A date comes back as a date and a midnight as a datetime, although one is a subclass of the other."""
    assert [date, datetime] == [type(one) for one in decode(encode([date(1, 1, 1), datetime(1, 1, 1)]))]  # type: ignore[attr-defined]
