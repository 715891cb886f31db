"""This is where we write the values that msgpack has no type for and that hold no other values.

Each type has a number, which is part of the wire format, and a pair of functions. A reader may raise anything of
`typed.MALFORMED` for bytes that no writer made.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from pathlib import PosixPath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import Any, Final
from uuid import UUID, SafeUUID

# year, month, day, hour, minute, second, microsecond, fold
_DATETIME: Final = struct.Struct("<HBBBBBIB")
# Database rows are full of naive and UTC datetimes: those are ISO text, which C reads fastest, and begin with a digit.
_PACKED: Final = ord("P")
_DATE: Final = struct.Struct("<HBB")
_TIME: Final = struct.Struct("<BBBIB")
_TIMEDELTA: Final = struct.Struct("<iII")
_COMPLEX: Final = struct.Struct("<dd")

_PATHS: Final = (PurePosixPath, PureWindowsPath, PosixPath, WindowsPath)


class Unwritable(Exception):
    """A value of a type we know that still cannot be written; the message says why."""


def _write_int(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)


def _read_int(data: memoryview) -> int:
    return int.from_bytes(data, "little", signed=True)


def _write_str(value: str) -> bytes:
    return value.encode("utf-8", "surrogatepass")


def _read_str(data: memoryview) -> str:
    return str(data, "utf-8", "surrogatepass")


def _write_complex(value: complex) -> bytes:
    return _COMPLEX.pack(value.real, value.imag)


def _read_complex(data: memoryview) -> complex:
    return complex(*_COMPLEX.unpack(data))


def _write_decimal(value: Decimal) -> bytes:
    return str(value).encode()


def _read_decimal(data: memoryview) -> Decimal:
    return Decimal(str(data, "ascii"))


def _write_uuid(value: UUID) -> bytes:
    return value.bytes if value.is_safe is SafeUUID.unknown else value.bytes + bytes((value.is_safe is SafeUUID.safe,))


def _read_uuid(data: memoryview) -> UUID:
    if len(data) == 16:
        return UUID(bytes=bytes(data))
    if len(data) != 17:
        raise ValueError("a UUID has 16 bytes")
    return UUID(bytes=bytes(data[:16]), is_safe=SafeUUID.safe if data[16] else SafeUUID.unsafe)


def _write_date(value: date) -> bytes:
    return _DATE.pack(value.year, value.month, value.day)


def _read_date(data: memoryview) -> date:
    return date(*_DATE.unpack(data))


def _write_time(value: time) -> bytes:
    clock = _TIME.pack(value.hour, value.minute, value.second, value.microsecond, value.fold)
    return clock if value.tzinfo is None else clock + _write_zone(value.tzinfo)


def _read_time(data: memoryview) -> time:
    hour, minute, second, microsecond, fold = _TIME.unpack_from(data)
    return time(hour, minute, second, microsecond, _read_zone_after(data, _TIME.size), fold=fold)


def _write_datetime(value: datetime) -> bytes:
    zone = value.tzinfo
    if not value.fold and (zone is None or zone is timezone.utc):
        return value.isoformat().encode()
    moment = _DATETIME.pack(
        value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond, value.fold
    )
    return bytes((_PACKED,)) + moment + (b"" if zone is None else _write_zone(zone))


def _read_datetime(data: memoryview) -> datetime:
    if data[0] != _PACKED:
        return datetime.fromisoformat(str(data, "ascii"))
    year, month, day, hour, minute, second, microsecond, fold = _DATETIME.unpack_from(data, 1)
    zone = _read_zone_after(data, 1 + _DATETIME.size)
    return datetime(year, month, day, hour, minute, second, microsecond, zone, fold=fold)


def _write_timedelta(value: timedelta) -> bytes:
    return _TIMEDELTA.pack(value.days, value.seconds, value.microseconds)


def _read_timedelta(data: memoryview) -> timedelta:
    return timedelta(*_TIMEDELTA.unpack(data))


def _write_zone(zone: tzinfo) -> bytes:
    from zoneinfo import ZoneInfo  # one in twelve of what importing taskcache takes, for those who have zones

    if type(zone) is ZoneInfo:
        if zone.key is None:
            raise Unwritable("is a time zone without a name")
        return b"Z" + zone.key.encode()
    if type(zone) is timezone:
        # The only public way to learn whether a name was given is how it pickles.
        offset, *name = zone.__getinitargs__()  # type: ignore[attr-defined]  # typeshed leaves it out
        written = b"N" if name else b"F"
        return written + _write_timedelta(offset) + (_write_str(name[0]) if name else b"")
    raise Unwritable(f"has a time zone of type {type(zone).__module__}.{type(zone).__qualname__}; use zoneinfo")


def _read_zone(data: memoryview) -> tzinfo:
    kind, rest = bytes(data[:1]), data[1:]
    if kind == b"Z":
        from zoneinfo import ZoneInfo

        return ZoneInfo(str(rest, "utf-8"))
    offset = _read_timedelta(rest[: _TIMEDELTA.size])
    if kind == b"F":
        return timezone(offset)
    if kind == b"N":
        return timezone(offset, _read_str(rest[_TIMEDELTA.size :]))
    raise ValueError("an unknown kind of time zone")


def _read_zone_after(data: memoryview, at: int) -> tzinfo | None:
    return _read_zone(data[at:]) if len(data) > at else None


def _write_path(value: PurePosixPath | PureWindowsPath) -> bytes:
    return bytes((_PATHS.index(type(value)),)) + _write_str(str(value))


def _read_path(data: memoryview) -> PurePosixPath | PureWindowsPath:
    return _PATHS[data[0]](_read_str(data[1:]))


_LEAVES: Final[tuple[tuple[int, tuple[type, ...], Callable[[Any], bytes], Callable[[memoryview], object]], ...]] = (
    (16, (int,), _write_int, _read_int),
    (17, (str,), _write_str, _read_str),
    (18, (bytearray,), bytes, bytearray),
    (19, (complex,), _write_complex, _read_complex),
    (20, (Decimal,), _write_decimal, _read_decimal),
    (21, (UUID,), _write_uuid, _read_uuid),
    (22, (date,), _write_date, _read_date),
    (23, (time,), _write_time, _read_time),
    (24, (datetime,), _write_datetime, _read_datetime),
    (25, (timedelta,), _write_timedelta, _read_timedelta),
    (26, (timezone, tzinfo), _write_zone, _read_zone),
    (27, _PATHS, _write_path, _read_path),
)

WRITERS: Final[dict[type, tuple[int, Callable[[Any], bytes]]]] = {
    kind: (code, write) for code, kinds, write, _ in _LEAVES for kind in kinds
}
READERS: Final[dict[int, Callable[[memoryview], object]]] = {code: read for code, _, _, read in _LEAVES}
