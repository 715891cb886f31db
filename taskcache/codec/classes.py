"""This is where we write instances of declared classes by the class's name, and find the class again without importing.

Declared are dataclasses, NamedTuples and Enums: their parts are known, so they can be rebuilt without running any of
their code. `__init__` and `__post_init__` do not run; they ran when the value was made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from enum import Enum, Flag
from functools import lru_cache
from types import MemberDescriptorType
from typing import Any
from zlib import crc32

from msgspec import Struct

from taskcache.keys.declared import OF_PROCESS
from taskcache.keys.naming import find, is_builtin


class Shape(Struct, frozen=True):
    """What we know about the instances of one dataclass or NamedTuple."""

    fields: tuple[str, ...]
    # Of the field names: yesterday's bytes must not fill today's fields.
    fingerprint: int
    # Why instances cannot be rebuilt; empty when they can.
    obstacle: str


def is_named_tuple(cls: type) -> bool:
    """Whether a class was made by `NamedTuple` or `namedtuple`."""
    names = getattr(cls, "_fields", None)
    return issubclass(cls, tuple) and type(names) is tuple and all(type(name) is str for name in names)


@lru_cache(maxsize=1024)
def shape_of(cls: type) -> Shape | None:
    """Describe a dataclass or NamedTuple; None for every other class."""
    if is_named_tuple(cls):
        names: tuple[str, ...] = cls._fields  # type: ignore[attr-defined]  # is_named_tuple saw it
        return Shape(names, _fingerprint(names), "")
    if not is_dataclass(cls):
        return None
    names = tuple(field.name for field in fields(cls))
    return Shape(names, _fingerprint(names), _obstacle(cls, names))


def _fingerprint(names: Sequence[str]) -> int:
    return crc32("\0".join(names).encode("utf-8", "surrogatepass"))


def _obstacle(cls: type, names: tuple[str, ...]) -> str:
    for base in cls.__mro__[:-1]:
        if is_builtin(base):
            return f"is a dataclass that is also a {base.__name__}"
        slots = vars(base).get("__slots__", ())
        hidden = {slots} if isinstance(slots, str) else set(slots)
        if hidden - set(names) - {"__dict__", "__weakref__"}:
            return "has slots that are not fields"
    for name in names:
        held = next((vars(base)[name] for base in cls.__mro__ if name in vars(base)), None)
        if hasattr(type(held), "__set__") and not isinstance(held, MemberDescriptorType):
            return f"has a field {name!r} that is computed by a descriptor"
    return ""


def extras_of(value: object, shape: Shape) -> dict[str, Any] | None:
    """Read what a dataclass instance holds beside its fields (a cached property, what `__post_init__` set)."""
    held = getattr(value, "__dict__", {})
    return {name: held[name] for name in held if name not in shape.fields and name not in OF_PROCESS} or None


def make_dataclass(name: object, fingerprint: object, extras: object, values: list[object]) -> object:
    """Rebuild a dataclass instance. Raises `LookupError` when its class is not here or has other fields now."""
    cls, shape = _declared(name, fingerprint)
    if issubclass(cls, tuple) or shape.obstacle or len(values) != len(shape.fields):
        raise LookupError(f"{name} is not a dataclass with {len(values)} fields")
    instance = object.__new__(cls)
    for field, value in zip(shape.fields, values, strict=True):
        object.__setattr__(instance, field, value)
    if type(extras) is dict:
        instance.__dict__.update(extras)
    return instance


def make_named_tuple(name: object, fingerprint: object, values: list[object]) -> object:
    """Rebuild a NamedTuple. Raises `LookupError` when its class is not here or has other fields now."""
    cls, shape = _declared(name, fingerprint)
    if not issubclass(cls, tuple) or len(values) != len(shape.fields):
        raise LookupError(f"{name} is not a NamedTuple with {len(values)} fields")
    return tuple.__new__(cls, values)


def _declared(name: object, fingerprint: object) -> tuple[type[Any], Shape]:
    cls = find(name) if type(name) is str else None
    shape = shape_of(cls) if cls is not None else None
    if cls is None or shape is None:
        raise LookupError(f"{name} is not a class this process has imported")
    if shape.fingerprint != fingerprint:
        raise LookupError(f"{name} has other fields than when the value was written")
    return cls, shape


def member_parts(member: Enum) -> tuple[str | None, object] | None:
    """Take an Enum member apart: its name, or for a combination of flags its value; None when neither leads back."""
    # Past properties of the class's own.
    name: str | None = member._name_
    if type(member).__members__.get(name or "") is member:
        return name, None
    if isinstance(member, Flag) and isinstance(member._value_, int):
        return None, int(member._value_)
    return None


def make_member(name: object, member: object, value: object) -> object:
    """Find an Enum member again. Raises `LookupError` when it is not there, ValueError for a flag that cannot be."""
    cls = find(name) if type(name) is str else None
    if cls is None or not issubclass(cls, Enum):
        raise LookupError(f"{name} is not an Enum this process has imported")
    if member is None and issubclass(cls, Flag) and type(value) is int:
        return cls(value)
    return cls.__members__[member]  # type: ignore[index]  # a wrong type is a KeyError like any wrong name
