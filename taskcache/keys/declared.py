"""This is where we read the fields that a class declares: dataclass, NamedTuple, attrs, pydantic, msgspec."""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Collection, Iterable
from typing import Any, Final, TypeAlias

Fields: TypeAlias = "list[tuple[str, object]]"

# Where `cached_property` keeps the identity of an object that has no other.
TOKEN_ATTRIBUTE: Final = "_taskcache_token"
# What instances hold for this process only. A generic class notes its parameters on each instance; they say nothing about
# the value and are not plain data.
OF_PROCESS: Final = frozenset(("__orig_class__", TOKEN_ATTRIBUTE))

# A declared class that is also one of these holds content that is in no field.
CONTENT_TYPES: Final = (str, bytes, bytearray, int, float, complex, list, tuple, dict, set, frozenset)


def declared_fields(value: Any) -> Fields | None:
    """
    Give the fields that make `value` what it is, in declared order; None for a class that declares none.

    A field that the class leaves out of its equality (`compare=False`, `eq=False`) is left out here: its author said
    that it does not tell two objects apart. A subclass that adds state without declaring it is not declared.
    """
    cls = type(value)
    if issubclass(cls, tuple):
        return _named_tuple(value)
    if isinstance(value, CONTENT_TYPES):
        return None
    if dataclasses.is_dataclass(cls):
        return _read(value, "__dataclass_fields__", [field.name for field in dataclasses.fields(cls) if field.compare])
    if hasattr(cls, "__attrs_attrs__"):
        return _read(value, "__attrs_attrs__", [field.name for field in cls.__attrs_attrs__ if field.eq])
    if hasattr(cls, "__struct_fields__"):
        # Its metaclass declares the fields of every subclass, so there is no undeclared one.
        return _all_of(value, cls.__struct_fields__)
    # Not isinstance, here as above: a mock or a lazy object pretends to be what it stands for.
    if (pydantic := sys.modules.get("pydantic")) is not None and issubclass(cls, pydantic.BaseModel):
        return _pydantic(value)
    return None


def _named_tuple(value: Any) -> Fields | None:
    names = getattr(type(value), "_fields", None)
    if not isinstance(names, tuple) or len(names) != len(value):
        return None
    # Adding methods in a subclass of a named tuple is common and adds nothing to say; adding state is refused.
    if _undeclared(value, ()):
        return None
    return list(zip(names, value, strict=True))


def _read(value: Any, marker: str, names: Iterable[str]) -> Fields | None:
    cls = type(value)
    if marker not in cls.__dict__ and _adds_state(value, marker):
        return None
    return _all_of(value, names)


def _all_of(value: Any, names: Iterable[str]) -> Fields | None:
    # A field that was never set (init=False) has no value to go by: the class says too little.
    if not all(hasattr(value, name) for name in names):
        return None
    return [(name, getattr(value, name)) for name in names]


def _adds_state(value: Any, marker: str) -> bool:
    """Tell whether a subclass without a declaration of its own keeps something that no field says."""
    declared = {name if isinstance(name, str) else name.name for name in getattr(type(value), marker)}
    if _undeclared(value, declared):
        return True
    for base in type(value).__mro__:
        if marker in base.__dict__:
            return False
        if base.__dict__.get("__slots__"):
            return True
    return False


def _undeclared(value: Any, declared: Collection[str]) -> bool:
    """Tell whether an instance keeps what no field says, and what does not follow from its fields."""
    return any(
        name not in declared
        and name not in OF_PROCESS
        and not isinstance(_in_class(value, name), functools.cached_property)
        for name in getattr(value, "__dict__", ())
    )


def _in_class(value: Any, name: str) -> Any:
    return next((vars(base)[name] for base in type(value).__mro__ if name in vars(base)), None)


def _pydantic(value: Any) -> Fields | None:
    cls = type(value)
    # model_fields is version 2, __fields__ version 1. Extras are content that the configuration asked to keep.
    names = getattr(cls, "model_fields", None)
    extras = getattr(value, "__pydantic_extra__", None) or {}
    fields = _all_of(value, list(cls.__fields__ if names is None else names))
    return None if fields is None else fields + sorted((name, extra) for name, extra in extras.items())
