"""This is where type checkers learn what a decorator with options makes of a function."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, ParamSpec, Protocol, TypeVar, overload

from taskcache.batching import BoundCall
from taskcache.decorators import AsyncFunction, CachedFunction
from taskcache.properties import CachedProperty

P = ParamSpec("P")
R = TypeVar("R")


class CachedDecorator(Protocol):
    """What `cached(...)` with options gives."""

    def __call__(self, fn: Callable[P, R], /) -> CachedFunction[P, R]: ...


class PropertyDecorator(Protocol):
    """What `cached_property(...)` with options gives."""

    def __call__(self, fn: Callable[[Any], R], /) -> CachedProperty[R]: ...


class AsyncDecorator(Protocol):
    """What `cache_async(...)` with options gives; an `async def` gives its value, not its coroutine."""

    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncFunction[P, R]: ...
    @overload
    def __call__(self, fn: Callable[P, R], /) -> AsyncFunction[P, R]: ...


class BatchDecorator(Protocol):
    """What `cache_async(batch=True, ...)` gives: a function of one call, whatever its arguments, from one of a list of calls."""

    @overload
    def __call__(
        self, fn: Callable[[list[BoundCall]], Coroutine[Any, Any, Sequence[R | Exception]]], /
    ) -> AsyncFunction[..., R]: ...
    @overload
    def __call__(self, fn: Callable[[list[BoundCall]], Sequence[R | Exception]], /) -> AsyncFunction[..., R]: ...
