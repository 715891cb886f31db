"""This is where we keep one value of every type that comes back from the cache as it went in."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Any, NamedTuple


class Colour(Enum):
    RED = "red"


class Point(NamedTuple):
    x: int
    y: int


@dataclass(frozen=True)
class Order:
    number: int
    lines: tuple[str, ...] = ()


VALUES: dict[str, Any] = {
    "None": None,
    "True": True,
    "False": False,
    "zero": 0,
    "int": 42,
    "negative": -7,
    "beyond 64 bits": 2**64,
    "beyond 1000 bits": -(3**700),
    "float": 0.1,
    "infinity": float("inf"),
    "str": "grün 🟢",
    "empty str": "",
    "number as str": "42",
    "bytes": b"\x00\xff",
    "list": [1, [2, "three"]],
    "empty list": [],
    "tuple": (1, (2,)),
    "dict": {"a": 1, 2: "b", (3, 4): None},
    "set": {1, "two"},
    "frozenset": frozenset((1, 2)),
    "date": dt.date(2026, 2, 28),
    "time": dt.time(23, 59, 59, 999_999),
    "naive datetime": dt.datetime(2026, 1, 2, 3, 4, 5, 678),
    "aware datetime": dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.timezone(dt.timedelta(hours=5, minutes=30))),
    "timedelta": dt.timedelta(days=-1, microseconds=5),
    "Decimal": Decimal("1.10"),
    "UUID": uuid.UUID(int=7),
    "complex": 1 + 2j,
    "enum": Colour.RED,
    "NamedTuple": Point(1, 2),
    "dataclass": Order(7, ("a", "b")),
    "10 KB": "x" * 10_240,
    "1 MB": bytes(1_000_000),
}
