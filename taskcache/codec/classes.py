"""This is where we write instances of declared classes by the class's name, and find the class again without importing.

Declared are dataclasses, NamedTuples and Enums: their parts are known, so they can be rebuilt without running any of
their code. `__init__` and `__post_init__` do not run; they ran when the value was made.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from enum import Enum, Flag
from functools import lru_cache
from types import MemberDescriptorType
from typing import Any, Final
from zlib import crc32

from msgspec import Struct

# A script is `__main__` here and a module by its own name in the workers that import it.
_MAIN_NAMES: Final = ("__main__", "__mp_main__")
_HEAP_TYPE: Final = 1 << 9


class Shape(Struct, frozen=True):
    """What we know about the instances of one dataclass or NamedTuple."""

    fields: tuple[str, ...]
    # Of the field names: yesterday's bytes must not fill today's fields.
    fingerprint: int
    # Why instances cannot be rebuilt; empty when they can.
    obstacle: str


def name_of(cls: type) -> str | None:
    """Name a class as "module:qualname"; None when that name would not lead back to this very class."""
    module = cls.__module__
    if module in _MAIN_NAMES:
        script = _script_name()
        module = script if script and script not in sys.modules else "__main__"
    name = f"{module}:{cls.__qualname__}"
    return name if find(name) is cls else None


def find(name: str) -> type | None:
    """Find a class that this process has already imported. Never imports, and runs no `__getattr__` of a module."""
    module_name, _, qualname = name.partition(":")
    module = sys.modules.get(module_name)
    if module is None and module_name == _script_name():
        module = sys.modules.get("__main__")
    try:
        # Past lazy modules, which would load themselves when asked for an attribute.
        names = object.__getattribute__(module, "__dict__")
    except AttributeError:
        return None
    found: object = None
    for part in qualname.split("."):
        found = names.get(part)
        if not isinstance(found, type):
            return None
        names = vars(found)
    return found if isinstance(found, type) else None


def _script_name() -> str | None:
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return str(spec.name)
    path = getattr(main, "__file__", None)
    return os.path.splitext(os.path.basename(path))[0] if path else None


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
        if not base.__flags__ & _HEAP_TYPE:
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
    # A generic class notes its parameters on each instance; they say nothing about the value and are not plain data.
    return {name: held[name] for name in held if name not in shape.fields and name != "__orig_class__"} or None


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
    name: str | None = member.name
    if type(member).__members__.get(name or "") is member:
        return name, None
    if isinstance(member, Flag) and isinstance(member.value, int):
        return None, int(member.value)
    return None


def make_member(name: object, member: object, value: object) -> object:
    """Find an Enum member again. Raises `LookupError` when it is not there, ValueError for a flag that cannot be."""
    cls = find(name) if type(name) is str else None
    if cls is None or not issubclass(cls, Enum):
        raise LookupError(f"{name} is not an Enum this process has imported")
    if member is None and issubclass(cls, Flag) and type(value) is int:
        return cls(value)
    return cls.__members__[member]  # type: ignore[index]  # a wrong type is a KeyError like any wrong name
