"""This is where we collect the values that keys are made of: one of every kind, and what makes two of them the same."""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import enum
import math
import pathlib
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import attrs
import msgspec
from hypothesis import strategies as st


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
        # Not `astimezone`, which knows no hour before the year 1 begins.
        return kind, "aware", (value.replace(tzinfo=None) - dt.datetime.min) - (value.utcoffset() or dt.timedelta())
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
