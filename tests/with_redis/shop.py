"""This is where decorated functions are that other processes import, and what they do in those processes."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from taskcache import Cache

# The address comes with the environment, as it does in a real application.
cache = Cache(os.environ.get("TASKCACHE_TEST_URL", "redis://127.0.0.1:1/0"), name="spawned", default_timeout=60)


@cache.cached()
def who_computed(number: int) -> tuple[int, int]:
    """The process that computed this."""
    return number, os.getpid()


@cache.cached()
async def who_awaited(number: int) -> tuple[int, int]:
    """The same as a coroutine."""
    return number, os.getpid()


def plain(number: int) -> tuple[int, int]:
    """A function that keeps its name when it is decorated under another one."""
    return number, os.getpid()


decorated = cache.cached(tags=("shop",))(plain)


class Shop:
    """Methods travel with their objects."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __cache_key__(self) -> str:
        return self.name

    @cache.cached()
    def price(self, number: int) -> tuple[str, int, int]:
        return self.name, number, os.getpid()

    @cache.cached_property()
    def owner(self) -> int:
        return os.getpid()

    @staticmethod
    @cache.cached()
    def weight(number: int) -> tuple[int, int]:
        return number, os.getpid()

    @classmethod
    @cache.cached()
    def size(cls, number: int) -> tuple[str, int, int]:
        return cls.__name__, number, os.getpid()


def call(function: Callable[..., Any], *args: Any) -> Any:
    """Call what was pickled."""
    return function(*args)


def get(cache: Cache, key: str) -> tuple[Any, int]:
    """Read with a cache that was pickled."""
    return cache.get(key), os.getpid()
