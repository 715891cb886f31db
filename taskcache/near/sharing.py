"""This is where we tell values that callers may share from those of which each must get a copy."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from types import NoneType
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

# Exact types: a subclass may carry attributes that somebody sets.
_SCALARS: Final = frozenset(
    (NoneType, bool, int, float, complex, str, bytes, date, timedelta, Decimal, UUID, range, timezone, ZoneInfo)
)
_TIMES: Final = (datetime, time)
# Deeper values are read anew for each caller, which is slower and never wrong.
_LEVELS: Final = 8


def may_be_shared(value: object, levels: int = _LEVELS) -> bool:
    """
    Whether nobody can change `value`, however they hold it: then every caller may get the same object.

    Frozen dataclasses count only with `slots=True`: elsewhere `functools.cached_property` and `__dict__` write past the
    freeze.
    """
    kind = type(value)
    if kind in _SCALARS:
        return True
    if kind in _TIMES:
        return type(value.tzinfo) in _SCALARS  # type: ignore[attr-defined]  # one of the two
    if isinstance(value, Enum):
        # A member is the same object wherever it is decoded: copies would not keep callers apart.
        return True
    if levels == 0:
        return False
    if kind is tuple or kind is frozenset or (isinstance(value, tuple) and not hasattr(value, "__dict__")):
        return all(may_be_shared(part, levels - 1) for part in value)  # type: ignore[attr-defined]  # one of the three
    return _is_frozen(value) and all(
        may_be_shared(getattr(value, field.name), levels - 1) for field in fields(_as_dataclass(value))
    )


def _is_frozen(value: object) -> bool:
    parameters = getattr(type(value), "__dataclass_params__", None)
    return is_dataclass(value) and bool(parameters and parameters.frozen) and not hasattr(value, "__dict__")


def _as_dataclass(value: Any) -> Any:
    return value
