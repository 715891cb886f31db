"""This is where the third decorator is: `cached_property`, computed once for each object."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from msgspec.structs import replace

from taskcache.decorators import CachedFunction
from taskcache.drivers import threads
from taskcache.errors import UncacheableArgument, UsageError
from taskcache.keys.declared import TOKEN_ATTRIBUTE
from taskcache.keys.encoding import digest, encode
from taskcache.options import Options
from taskcache.protocol.entry import new_token

if TYPE_CHECKING:
    from typing_extensions import Self

    from taskcache.cache import Cache

R = TypeVar("R")

_naming = threading.Lock()


def _after_fork() -> None:
    global _naming
    _naming = threading.Lock()


threads.after_fork(_after_fork)


class _Token:
    """A random identity for one object; it does not follow the object into a copy."""

    def __init__(self, instance: object) -> None:
        self.text = new_token()
        try:
            self._owner: Callable[[], object] = weakref.ref(instance)
        except TypeError:
            # Its address would be that of another object one day. The collector parts the two again.
            self._owner = lambda: instance

    def is_of(self, instance: object) -> bool:
        return self._owner() is instance

    def __reduce__(self) -> Any:
        # Of no object: the unpickled one gets a token of its own.
        return _Token, (_Token,)


class CachedProperty(Generic[R]):
    """A property computed once for each object; `del obj.name` busts it."""

    SLOT = TOKEN_ATTRIBUTE

    def __init__(self, cache: Cache, fn: Callable[[Any], R], options: Options) -> None:
        key_fn = options.key_fn
        self._keyed = key_fn
        self.function: CachedFunction[Any, R] = CachedFunction(cache, fn, replace(options, key_fn=self._key))
        if self.function.origin.is_coroutine:
            raise UsageError(
                f"{self.function.name} is an async def; use @cache.cached() and `await obj.{fn.__name__}()`"
            )
        self.__doc__ = fn.__doc__
        self.__name__ = fn.__name__
        self.__isabstractmethod__ = getattr(fn, "__isabstractmethod__", False)

    def _key(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        if self._keyed is not None:
            return self._keyed(args, kwargs)
        instance = args[0]
        try:
            return digest(encode(instance, "self"))
        except UncacheableArgument:
            return digest(encode(self._token(instance)))

    def _token(self, instance: Any) -> str:
        """Never `id()`: an address is used again, and then one object would get another's value."""
        token = getattr(instance, self.SLOT, None)
        if isinstance(token, _Token) and token.is_of(instance):
            return token.text
        # Threads that meet a new object together must give it one token.
        with _naming:
            token = getattr(instance, self.SLOT, None)
            if isinstance(token, _Token) and token.is_of(instance):
                return token.text
            token = _Token(instance)
            try:
                object.__setattr__(instance, self.SLOT, token)
            except AttributeError:
                raise UncacheableArgument(
                    f"{type(instance).__name__} has no identity and no place to keep one (__slots__); give it "
                    f"`__cache_key__`, or add {self.SLOT!r} to its __slots__"
                ) from None
        return token.text

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type | None = None) -> R: ...
    def __get__(self, instance: object | None, owner: type | None = None) -> Self | R:
        if instance is None:
            return self
        return self.function(instance)

    def __set__(self, instance: object, value: object) -> None:
        raise AttributeError(f"{self.__name__} is computed; `del obj.{self.__name__}` makes it compute anew")

    def __delete__(self, instance: object) -> None:
        self.function.bust(instance)

    def __repr__(self) -> str:
        return f"<cached_property {self.function.name}>"
