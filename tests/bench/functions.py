"""This is where the functions are made that every cache decorates: two arguments, and a value that is there already."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from taskcache import Cache
from tests.bench.ground import HOUR_S, Ground


def named(name: str, value: Any) -> Callable[[int, str], Any]:
    """A plain function; its name is part of the key of most caches."""

    def fn(number: int, name: str) -> Any:
        return value

    fn.__name__ = fn.__qualname__ = _identifier(name)
    return fn


def named_async(name: str, value: Any) -> Callable[[int, str], Awaitable[Any]]:
    """An `async def`."""

    async def fn(number: int, name: str) -> Any:
        return value

    fn.__name__ = fn.__qualname__ = _identifier(name)
    return fn


def _identifier(name: str) -> str:
    return "".join(sign if sign.isalnum() else "_" for sign in name)


def ours(ground: Ground, **options: Any) -> Cache:
    """A cache as the README makes it; only its name is our own."""
    return Cache(ground.url(), name="bench", default_timeout=HOUR_S, **options)


def has_option(name: str) -> bool:
    """Whether the decorators have this option already; an unknown one is refused."""
    from taskcache.options import CachedOptions

    return name in CachedOptions.__annotations__
