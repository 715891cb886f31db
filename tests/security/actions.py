"""This is where everything is done that a cache does: each action is tried under rights of which one is missing."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

from taskcache import FOREVER, Cache

_numbers = itertools.count(1)


def fresh() -> int:
    """A number nobody has used."""
    return next(_numbers)


def primitives(cache: Cache) -> None:
    n = fresh()
    cache.set(f"k{n}", [n], timeout=60)
    cache.set_many({f"a{n}": 1, f"b{n}": [2]}, timeout=60)
    assert {f"a{n}": 1, f"b{n}": [2]} == cache.get_many([f"a{n}", f"b{n}", "none"])
    assert [n] == cache.get(f"k{n}")
    assert n == cache.get_or_set(f"c{n}", lambda: n, timeout=60)
    assert (1, 1, 0) == (cache.delete(f"k{n}"), cache.delete_many([f"a{n}", "none"]), cache.delete("none"))
    cache.incr(f"i{n}")
    assert 3 == cache.incr(f"i{n}", 2)
    cache.delete(f"i{n}")


def awaitable(cache: Cache) -> None:
    async def run() -> None:
        n = fresh()
        await cache.aio.set(f"k{n}", [n], timeout=60)
        assert [n] == await cache.aio.get(f"k{n}")
        await cache.aio.delete(f"k{n}")
        assert n == await cache.aio.incr(f"i{n}", n)
        await cache.aio.delete(f"i{n}")
        await cache.aio.close() if hasattr(cache.aio, "close") else None

    asyncio.run(run())


def functions(cache: Cache) -> None:
    @cache.cached(name="acl.cached", timeout=60, tags=("t",))
    def square(number: int) -> int:
        return number * number

    @cache.cached(name="acl.forever", timeout=FOREVER)
    def cube(number: int) -> int:
        return number**3

    n = fresh()
    assert (n * n, n * n) == (square(n), square(n))
    entry = square.peek(n)
    assert entry is not None
    assert entry.value == n * n
    square.bust(n)
    square.put(5, n)
    assert 5 == square(n)
    cache.invalidate("t")
    square.bust_all()
    assert (n**3, n**3) == (cube(n), cube(n))
    cube.bust(n)
    cube.bust_all()


def near(cache: Cache) -> None:
    @cache.cached(name="acl.near", timeout=60, near=True)
    def square(number: int) -> int:
        return number * number

    n = fresh()
    assert [n * n] * 3 == [square(n) for _ in range(3)]


def listing(cache: Cache) -> None:
    n = fresh()
    cache.set(f"l{n}", 1, timeout=60)
    assert f"l{n}" in list(cache.keys(strip_prefix=True))
    assert cache.flush() >= 1


ACTIONS: tuple[Callable[[Any], None], ...] = (primitives, awaitable, functions, near, listing)
