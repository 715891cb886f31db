"""This is where we make values of every type the typed codec writes, and compare them to the last detail."""

from __future__ import annotations

import decimal
import enum
import math
import pathlib
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta, timezone
from functools import cached_property
from typing import Any, Generic, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

import numpy
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

unhurried = hypothesis_settings(
    deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
T = TypeVar("T")


class Colour(enum.Enum):
    RED = "r"
    BLUE = ("b", 2)
    CRIMSON = RED


class Level(enum.IntEnum):
    LOW = 1


class Right(enum.Flag):
    READ = 1
    WRITE = 2


class Point(NamedTuple):
    x: Any
    y: Any = 0


@dataclass
class Order:
    number: Any
    lines: Any = field(default_factory=list)
    total: Any = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.note = "set beside the fields"

    @cached_property
    def costly(self) -> int:
        return 42


@dataclass(frozen=True, slots=True)
class Frozen:
    left: Any
    right: Any


@dataclass
class Box(Generic[T]):
    held: T


@dataclass
class Strict:
    value: int

    def __post_init__(self) -> None:
        constructed.append(self.value)


constructed: list[int] = []


class Text(str):
    pass


@dataclass
class Listed(list):  # type: ignore[type-arg]  # only its class is of interest
    name: str = ""


def is_same(left: Any, right: Any) -> bool:
    """Whether two values are equal, of equal types all the way down, and in the same order."""
    if type(left) is not type(right):
        return False
    if isinstance(left, numpy.ndarray | numpy.generic):
        return bool((left.dtype, left.shape, left.tobytes()) == (right.dtype, right.shape, right.tobytes()))
    if isinstance(left, float):
        return math.copysign(1, left) == math.copysign(1, right) if left == right else left != left and right != right
    if isinstance(left, complex):
        return is_same(left.real, right.real) and is_same(left.imag, right.imag)
    if isinstance(left, decimal.Decimal):
        return bool(left.as_tuple() == right.as_tuple())
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(is_same, left, right))
    if isinstance(left, dict):
        return is_same(list(left.items()), list(right.items()))
    if isinstance(left, set | frozenset):
        return len(left) == len(right) and all(any(is_same(one, other) for other in right) for one in left)
    if isinstance(left, datetime | time):
        return repr(left) == repr(right) and left.fold == right.fold and type(left.tzinfo) is type(right.tzinfo)
    if hasattr(left, "__dataclass_fields__"):
        names = left.__dataclass_fields__
        return is_same([getattr(left, name) for name in names], [getattr(right, name) for name in names])
    return bool(left == right)


ZONES = st.sampled_from(
    (None, timezone.utc, timezone(timedelta(hours=-3, microseconds=7)), timezone(timedelta(0), "zulu"), ZoneInfo("UTC"))
)
TEXTS = st.text(st.characters(codec=None)) | st.text(st.characters(categories=["Cs"]), max_size=3)
_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | TEXTS
    | st.binary()
    | st.dates()
    | st.times(timezones=ZONES)
    | st.datetimes(timezones=ZONES)
    | st.timedeltas()
    | st.decimals().filter(lambda number: not number.is_snan())
    | st.uuids()
    | st.complex_numbers()
    | st.sampled_from((Colour.RED, Colour.BLUE, Level.LOW, Right.READ, Right.READ | Right.WRITE, Right(0)))
    | st.builds(range, st.integers(), st.integers(), st.integers(1))
    | TEXTS.map(lambda text: pathlib.PurePosixPath(text.replace("\0", "")))
)


# Composite, because hypothesis spells strategies out when it reports and these are long.
@st.composite
def scalars(draw: st.DrawFn) -> object:
    return draw(_SCALARS)


@st.composite
def keys(draw: st.DrawFn) -> object:
    return draw(_KEYS)


_KEYS = st.recursive(scalars(), lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3))
VALUES = st.recursive(
    scalars() | st.binary().map(bytearray),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(keys(), inner, max_size=4)
        | st.sets(keys(), max_size=4)
        | st.frozensets(keys(), max_size=4)
        | st.builds(Point, inner, inner)
        | st.builds(Frozen, inner, inner)
        | st.builds(Order, inner, inner)
    ),
    max_leaves=20,
)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.integers(0, 9), inner, max_size=4),
)
