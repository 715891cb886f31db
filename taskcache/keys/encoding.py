"""This is where we turn values into canonical bytes, the same in every process, and never the same for two values.

The format: a value is `tag length ":" payload`, a netstring with a word in front, so it says where it ends and no two
values can run into each other. Containers hold their members' bytes; those without an order sort them.

    42 → int2:42        "a" → str1:a        [42, "a"] → list15:int2:42str1:a

Where two values are equal in Python and still differ to a function, they are two here: a miss is cheaper than a wrong
value. So 1, 1.0, True and Decimal(1) differ, and 0.0 from -0.0, Decimal("1.0") from Decimal("1.00"), a naive time from
the same with fold=1, range(0) from range(5, 5). The exceptions are decided: an aware datetime is its instant, whatever
its zone; all NaNs are one, since hardware chooses their bits.

Stored keys depend on these bytes: a change here is a change of every key (tests/pure/key_vectors.json).
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PosixPath, PurePath, PurePosixPath, PureWindowsPath, WindowsPath
from types import EllipsisType, NoneType
from typing import Any, Final
from uuid import UUID

from taskcache.keys.arrays import read_array
from taskcache.keys.declared import CONTENT_TYPES, declared_fields
from taskcache.keys.identity import Reference, identity_of
from taskcache.keys.naming import is_builtin, name_of, type_name
from taskcache.keys.refusal import SOME_ARGUMENT, Refused, key_step, no_identity, type_label

# A level takes up to three Python frames: 100 levels fit the usual recursion limit of 1000 with room for the caller.
MAX_DEPTH: Final = 100

# 128 bits: an accident needs 2**64 keys, and blake2b leaves no way to make one on purpose.
DIGEST_BYTES: Final = 16

# How a path shows a member of a set or a key of a dict (str.format doubles the braces).
_MEMBER_STEP: Final = "{{…}}"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND: Final = timedelta(microseconds=1)


def encode(value: object, where: str = SOME_ARGUMENT) -> bytes:
    """
    Write `value` as canonical bytes.

    Raises `UncacheableArgument`, which names the way to the culprit from `where` on, its type, and the cures.
    """
    try:
        return _walk(value, 0)
    except Refused as refused:
        raise refused.error(where) from None


def digest(canonical: bytes) -> str:
    """Hash canonical bytes to 32 hex digits."""
    return hashlib.blake2b(canonical, digest_size=DIGEST_BYTES).hexdigest()


def _frame(tag: bytes, payload: bytes) -> bytes:
    return b"%b%d:%b" % (tag, len(payload), payload)


def _walk(value: Any, depth: int) -> bytes:
    write = _WRITERS.get(type(value))
    if write is not None:
        return write(value, depth)
    return _write_declared(value, depth)


def _write_int(value: int, depth: int) -> bytes:
    # Decimal for people; hex beyond 64 bits, because decimal digits take quadratic time and Python limits them.
    return _frame(b"int", b"%d" % value) if value.bit_length() <= 64 else _frame(b"bigint", b"%x" % value)


def _write_float(value: float, depth: int) -> bytes:
    # float.hex shows every IEEE bit of a number, the sign of zero too, and one NaN for all.
    return _frame(b"float", value.hex().encode())


def _write_complex(value: complex, depth: int) -> bytes:
    return _frame(b"complex", _write_float(value.real, depth) + _write_float(value.imag, depth))


def _write_str(value: str, depth: int) -> bytes:
    # surrogatepass: undecodable file names hold lone surrogates, and each is itself.
    return _frame(b"str", value.encode("utf-8", "surrogatepass"))


def _check_depth(depth: int) -> None:
    # Counting levels finds cycles as well, and costs less than remembering where we are.
    if depth >= MAX_DEPTH:
        raise Refused(
            f"is nested deeper than {MAX_DEPTH} levels, or contains itself", "pass something flatter or without cycles"
        )


def _members(values: Iterable[object], depth: int, step: str = "[{}]") -> list[bytes]:
    """Encode members in order; a refusal learns at which index it happened, as `step` shows it."""
    _check_depth(depth)
    written: list[bytes] = []
    try:
        for value in values:
            written.append(_walk(value, depth + 1))
    except Refused as refused:
        refused.steps.append(step.format(len(written)))
        raise
    return written


def _write_list(value: list[object], depth: int) -> bytes:
    return _frame(b"list", b"".join(_members(value, depth)))


def _write_tuple(value: tuple[object, ...], depth: int) -> bytes:
    return _frame(b"tuple", b"".join(_members(value, depth)))


def _unordered(value: Iterable[object], depth: int) -> bytes:
    # A copy: another thread may change the set while we walk it. An index into a set would tell nobody anything.
    return b"".join(sorted(_members(list(value), depth, step=_MEMBER_STEP)))


def _write_set(value: set[object], depth: int) -> bytes:
    return _frame(b"set", _unordered(value, depth))


def _write_frozenset(value: frozenset[object], depth: int) -> bytes:
    return _frame(b"frozenset", _unordered(value, depth))


def _write_dict(value: dict[object, object], depth: int) -> bytes:
    items = list(value.items())
    keys = _members([key for key, _ in items], depth, step=_MEMBER_STEP)
    pairs: list[bytes] = []
    try:
        for key, (_, item) in zip(keys, items, strict=True):
            pairs.append(key + _walk(item, depth + 1))
    except Refused as refused:
        refused.steps.append(key_step(items[len(pairs)][0]))
        raise
    # Whole pairs are sorted, not keys: two NaN keys have the same bytes and their values decide.
    return _frame(b"dict", b"".join(sorted(pairs)))


def _write_datetime(value: datetime, depth: int) -> bytes:
    if value.tzinfo is None:
        return _frame(b"datetime", f"{value.isoformat()}/{value.fold}".encode())
    if value.utcoffset() is None:
        raise Refused("has a timezone that does not know its offset", "pass a datetime with a full timezone")
    # Subtraction, not astimezone: the first and last days of the calendar have no UTC date.
    return _frame(b"instant", b"%d" % ((value - _EPOCH) // _MICROSECOND))


def _write_time(value: time, depth: int) -> bytes:
    wall = f"{value.replace(tzinfo=None).isoformat()}/{value.fold}"
    if value.tzinfo is None:
        return _frame(b"time", wall.encode())
    offset = value.utcoffset()
    if offset is None:
        raise Refused(
            "is a time of day in a zone whose offset depends on the date", "pass a datetime, or the zone's name apart"
        )
    return _frame(b"zonedtime", f"{wall}/{offset // _MICROSECOND}".encode())


def _write_timezone(value: timezone, depth: int) -> bytes:
    # Two of one offset are equal and may still call themselves differently.
    return _frame(b"timezone", f"{value.utcoffset(None) // _MICROSECOND}/{value.tzname(None)}".encode())


def _zone_name(value: Any) -> str | None:
    """The name of a `zoneinfo.ZoneInfo`, which is not imported to know it; None for all else, and for one from a file."""
    cls = type(value)
    return value.key if (cls.__module__, cls.__qualname__) == ("zoneinfo", "ZoneInfo") else None


def _write_decimal(value: Decimal, depth: int) -> bytes:
    # as_tuple, not str: str depends on the decimal context.
    parts = value.as_tuple()
    return _frame(b"decimal", f"{parts.sign}/{''.join(map(str, parts.digits))}/{parts.exponent}".encode())


def _write_path(value: PurePath, depth: int) -> bytes:
    return _frame(b"path", type(value).__name__.encode() + b"/" + str(value).encode("utf-8", "surrogatepass"))


def _write_range(value: range, depth: int) -> bytes:
    return _frame(b"range", b"".join(_members((value.start, value.stop, value.step), depth)))


def _write_slice(value: slice, depth: int) -> bytes:
    return _frame(b"slice", b"".join(_members((value.start, value.stop, value.step), depth)))


def _write_reference(value: Reference, depth: int) -> bytes:
    """Write a reference and the object it stands for alike, so that the key of a call is the same on both sides."""
    _check_depth(depth)
    try:
        return _frame(b"object", _write_str(value.type_name, depth) + _walk(value.key, depth + 1))
    except Refused as refused:
        refused.steps.append(".__cache_key__")
        raise


def _write_class(value: type, depth: int) -> bytes:
    if "<locals>" in value.__qualname__:
        raise Refused(
            f"is the class {value.__qualname__}, made inside a function, so its name may mean several",
            "define the class at module level",
        )
    return _frame(b"class", type_name(value).encode("utf-8", "surrogatepass"))


def _write_own_class(value: type, depth: int) -> bytes:
    """Write a class that is all there is to tell values apart, so its name has to lead back to it."""
    written = _write_class(value, depth)
    if not is_builtin(value) and name_of(value) is None:
        raise Refused(
            f"is the class {value.__qualname__}, which is not what {value.__module__} holds by that name, so the name may "
            "mean several",
            "define the class at module level under its own name",
        )
    return written


def _write_enum(value: enum.Enum, depth: int) -> bytes:
    # By name: a value may be anything. A flag by value, because a combination has no name before Python 3.11.
    if isinstance(value, enum.Flag):
        return _frame(b"flag", _write_own_class(type(value), depth) + _write_int(int(value._value_), depth))
    if type(value).__members__.get(value._name_) is not value:
        raise Refused(
            f"is a {type(value).__name__} that `_missing_` made, whose name {value._name_!r} may mean several",
            "pass its value",
        )
    return _frame(b"enum", _write_own_class(type(value), depth) + _write_str(str(value._name_), depth))


def _write_fields(value: object, fields: list[tuple[str, object]], depth: int) -> bytes:
    _check_depth(depth)
    written = [_write_class(type(value), depth)]
    for name, item in fields:
        try:
            written.append(_write_str(name, depth) + _walk(item, depth + 1))
        except Refused as refused:
            refused.steps.append(f".{name}")
            raise
    return _frame(b"fields", b"".join(written))


def _write_declared(value: Any, depth: int) -> bytes:
    """Write what is not one of the plain types: a class, an identified object, declared fields, an array."""
    # Not isinstance: `list[int]` pretends to be the class `list` on Python 3.10, and would get its key.
    if issubclass(type(value), type):
        return _write_own_class(value, depth)
    if (identity := identity_of(value)) is not None:
        return _write_reference(identity, depth)
    # Nor is a mock or a lazy object what it pretends to be.
    if issubclass(type(value), enum.Enum):
        return _write_enum(value, depth)
    if (fields := declared_fields(value)) is not None:
        return _write_fields(value, fields, depth)
    if (array := read_array(value)) is not None:
        kind, content = array
        return _frame(kind.encode(), content)
    if (zone := _zone_name(value)) is not None:
        return _frame(b"zone", zone.encode())
    for plain in CONTENT_TYPES:
        if isinstance(value, plain):
            raise Refused(
                f"is of type {type_label(value)}, a {plain.__name__} that may hold more than its content",
                f"convert it with `{plain.__name__}(...)`, give the class `__cache_key__`, "
                f"call `identify({type(value).__name__}, key=...)`",
            )
    raise no_identity(value)


# Exact types only: a subclass may mean something else, so it has to say what it is.
_WRITERS: Final[dict[type, Callable[[Any, int], bytes]]] = {
    NoneType: lambda value, depth: b"none0:",
    EllipsisType: lambda value, depth: b"ellipsis0:",
    bool: lambda value, depth: b"bool1:1" if value else b"bool1:0",
    int: _write_int,
    float: _write_float,
    complex: _write_complex,
    str: _write_str,
    bytes: lambda value, depth: _frame(b"bytes", value),
    bytearray: lambda value, depth: _frame(b"bytearray", bytes(value)),
    list: _write_list,
    tuple: _write_tuple,
    set: _write_set,
    frozenset: _write_frozenset,
    dict: _write_dict,
    date: lambda value, depth: _frame(b"date", value.isoformat().encode()),
    time: _write_time,
    datetime: _write_datetime,
    timedelta: lambda value, depth: _frame(b"timedelta", b"%d" % (value // _MICROSECOND)),
    timezone: _write_timezone,
    Decimal: _write_decimal,
    UUID: lambda value, depth: _frame(b"uuid", value.hex.encode()),
    range: _write_range,
    slice: _write_slice,
    Reference: _write_reference,
    **dict.fromkeys((PurePath, Path, PurePosixPath, PosixPath, PureWindowsPath, WindowsPath), _write_path),
}
