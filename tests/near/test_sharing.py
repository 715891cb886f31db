"""This is where we see which values callers may share, and which each of them gets a copy of."""

from __future__ import annotations

import functools
import uuid
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest

from taskcache.near.sharing import may_be_shared


class Colour(Enum):
    RED = 1


class Point(NamedTuple):
    x: object
    y: object = 0


@dataclass(frozen=True, slots=True)
class Frozen:
    inside: object


@dataclass(frozen=True)
class FrozenWithDict:
    inside: object

    @functools.cached_property
    def members(self) -> list[int]:
        return []


@dataclass(slots=True)
class Open:
    inside: object


class Text(str):
    pass


class OddZone(tzinfo):
    def utcoffset(self, moment: datetime | None) -> timedelta:
        return timedelta(0)

    dst = tzname = utcoffset  # type: ignore[assignment]  # never asked


# A subclass with a place to write to.
class Loose(namedtuple("Loose", "x")):
    pass


SHARED: list[Any] = [
    *(None, True, 7, 1.5, 2j, "text", b"bytes", Decimal("1.0"), uuid.UUID(int=1), range(3)),
    *(date(2026, 1, 1), timedelta(1), time(12), datetime(2026, 1, 1), datetime(2026, 1, 1, tzinfo=timezone.utc)),
    *(datetime(2026, 1, 1, tzinfo=ZoneInfo("UTC")), Colour.RED),
    *((), (1, "a", (None, b"")), frozenset({1, (2, 3)}), Point(1), Frozen((1, Frozen("a")))),
]
COPIED: list[Any] = [
    *([], {}, set(), bytearray(), OrderedDict(), [1], {"a": 1}, object(), Text("a")),
    *((1, []), (1, (2, {})), Point([]), Frozen([]), Frozen((1, {})), frozenset({Frozen([]).__class__})),
    *(Open(1), FrozenWithDict(1), Loose(1), datetime(2026, 1, 1, tzinfo=OddZone())),
]


@pytest.mark.parametrize("value", SHARED, ids=repr)
def test_what_nobody_can_change_is_shared(value: object) -> None:
    """Scalars, and tuples, frozen sets, named tuples and frozen slotted dataclasses of them."""
    assert may_be_shared(value)


@pytest.mark.parametrize("value", COPIED, ids=lambda value: type(value).__name__)
def test_what_somebody_could_change_is_copied(value: object) -> None:
    """One mutable part, however deep, or a place to write to, makes a value one of which each caller gets a copy."""
    assert not may_be_shared(value)


def test_a_value_deeper_than_one_looks_is_copied() -> None:
    """Looking is bounded; copying is never wrong."""
    deep: object = 1
    for _ in range(50):
        deep = (deep,)

    assert not may_be_shared(deep)
