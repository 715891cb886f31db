"""This is where we say by what an object is known, and how a worker gets it back.

An object's identity is its own class and a key. The key comes from the nearest class in its MRO that says one:
by `identify(cls, key=...)`, or by a `__cache_key__` attribute, property or method; on one class, `identify` wins,
because it is the word of the application. Else a Django model is known by label, primary key and database.

A subclass inherits the way to the key but is a type of its own: Admin 1 and User 1 are two identities, for a function
may treat them differently, and a miss is cheaper than a wrong value. Its loader is inherited too.
Classes go by module and qualified name: two classes of one name, made inside a function, are one here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar, overload

from taskcache.errors import UsageError
from taskcache.keys.naming import find, type_name
from taskcache.keys.refusal import ENCODED_MODULES, SOME_ARGUMENT, Refused, type_label

T = TypeVar("T")

_MISSING: Final = object()


@dataclass(frozen=True, slots=True)
class Reference:
    """What stands for an object on the way to a worker: the "module:qualname" of its type, and its key."""

    type_name: str
    key: object


class Registration:
    """What `identify` was told about a class."""

    __slots__ = ("key", "load")

    def __init__(self, key: Callable[[Any], object], load: Callable[[Any], object] | None) -> None:
        self.key = key
        self.load = load


# The only module state of this package. Classes are declared at import, like the classes themselves, and for good.
_registry: dict[type, Registration] = {}


@overload
def identify(
    cls: type[T], /, *, key: Callable[[T], object], load: Callable[[Any], object] | None = None
) -> type[T]: ...
@overload
def identify(
    *, key: Callable[[Any], object], load: Callable[[Any], object] | None = None
) -> Callable[[type[T]], type[T]]: ...
def identify(
    cls: type[T] | None = None,
    /,
    *,
    key: Callable[[T], object],
    load: Callable[[Any], object] | None = None,
) -> type[T] | Callable[[type[T]], type[T]]:
    """
    Say that objects of `cls` are known by `key(object)`; returns `cls`, and without it a class decorator.

    With `load`, such an argument travels to the worker as its key and `load(key)` gets the object there.
    A second call for the same class replaces the first, as a reloaded module does. New in 0.1.
    """
    if cls is None:
        return lambda decorated: identify(decorated, key=key, load=load)
    if not isinstance(cls, type):
        raise UsageError(f"identify({cls!r}): pass a class, or use it as a decorator: @identify(key=...)")
    if cls.__module__ in ENCODED_MODULES or cls is object:
        raise UsageError(
            f"identify({cls.__name__}): what is Python's own has a key already, or none; identify a class of your own"
        )
    for option, function in (("key", key), ("load", load)):
        if not callable(function) and not (option == "load" and function is None):
            raise UsageError(f"identify({cls.__name__}, {option}={function!r}): pass a callable")
    if load is not None and "<locals>" in cls.__qualname__:
        raise UsageError(
            f"identify({cls.__name__}, load=...): no worker can find a class made inside a function; "
            "define it at module level, or leave out load="
        )
    _registry[cls] = Registration(key, load)
    return cls


def identity_of(value: object) -> Reference | None:
    """
    Say by what `value` is known, None when nothing declares it.

    Raises `Refused` when it is declared, but this object has no key yet.
    """
    cls = type(value)
    for base in cls.__mro__:
        if (registration := _registry.get(base)) is not None:
            return Reference(type_name(cls), _present(registration.key(value), value, "the key of identify()"))
        if "__cache_key__" in base.__dict__:
            return Reference(type_name(cls), _own_key(value))
    # Looked up in the instance's own dict, never with getattr: an RPC proxy answers any name, over the network.
    if "__cache_key__" in getattr(value, "__dict__", ()):
        return Reference(type_name(cls), _own_key(value))
    if _is_django_model(cls):
        return Reference(type_name(cls), _django_key(value))
    return None


def reference(value: object) -> Reference | None:
    """
    Give what stands for `value` on the way to a worker; None when it travels as itself.

    Raises `UncacheableArgument` when the object has no key yet.
    """
    if type(value).__module__ in ENCODED_MODULES or not _is_loadable(type(value)):
        return None
    try:
        return identity_of(value)
    except Refused as refused:
        raise refused.error(SOME_ARGUMENT) from None


def load(reference: Reference) -> object:
    """
    Get the object a Reference stands for; whatever its loader raises is raised.

    Only classes this process has imported already are looked at: a message must not be able to import a module.
    """
    cls = _find(reference.type_name)
    registration = None if cls is None else _loader(cls)
    if registration is not None and registration.load is not None:
        return registration.load(reference.key)
    if cls is not None and _is_django_model(cls):
        return _load_django(cls, reference.key)
    raise UsageError(
        f"nothing here loads {reference.type_name}; import the module that calls "
        f"`identify({reference.type_name.rpartition(':')[2]}, key=..., load=...)` in the worker"
    )


def _own_key(value: Any) -> object:
    key = value.__cache_key__
    return _present(key() if callable(key) else key, value, "`__cache_key__`")


def _present(key: object, value: object, source: str) -> object:
    # None is what an unsaved row has for a primary key: all of them would share one entry.
    if key is None:
        raise Refused(
            f"is a {type_label(value)} without a key: {source} gave None",
            "save the object first, return a key that is not None",
        )
    return key


def _loader(cls: type) -> Registration | None:
    """Find the registration that identity_of uses for objects of `cls`; None when `__cache_key__` comes first."""
    for base in cls.__mro__:
        if (registration := _registry.get(base)) is not None:
            return registration
        if "__cache_key__" in base.__dict__:
            return None
    return None


def _is_loadable(cls: type) -> bool:
    registration = _loader(cls)
    if registration is not None:
        return registration.load is not None
    return _is_django_model(cls) and not any("__cache_key__" in base.__dict__ for base in cls.__mro__)


def _find(name: str) -> type | None:
    # The newest first: a module that was reloaded, or a cell that was run again, has another class of that name.
    return next((cls for cls in reversed(_registry) if type_name(cls) == name), None) or find(name)


def _is_django_model(cls: type) -> bool:
    """Tell a Django model by its looks, so that Django is never imported for it."""
    meta = getattr(cls, "_meta", None)
    return isinstance(getattr(meta, "label", None), str) and hasattr(meta, "concrete_model") and hasattr(cls, "pk")


def _django_key(value: Any) -> tuple[str, object, str | None]:
    state = getattr(value, "_state", None)
    # `adding` catches a model whose primary key is made here (a UUID): no worker could load it.
    if value.pk is None or getattr(state, "adding", False):
        raise Refused(f"is an unsaved {value._meta.label}", "save it before the call, pass its fields instead")
    return (value._meta.label, value.pk, getattr(state, "db", None))


def _load_django(cls: Any, key: Any) -> object:
    _, pk, database = key
    # The base manager sees every row; a default manager may hide some, such as soft-deleted ones.
    return cls._base_manager.using(database).get(pk=pk)
