"""This is where a coroutine is more than the call that it makes: tasks that it leaves behind, and a loop with other work."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from taskcache import Cache, UsageError, opening


async def test_what_a_body_leaves_behind_is_no_part_of_it(cache: Cache) -> None:
    """A task begun inside has a copy of its context, also where the computation was one within another."""
    runs, over = iter(range(100)), asyncio.Event()
    begun: list[asyncio.Task[list[int]]] = []

    async def refresh() -> list[int]:
        await over.wait()
        return [await prices.aio.refresh(), await all_prices.aio.refresh()]

    @cache.cached(timeout=60)
    async def prices() -> int:
        if not begun:
            begun.append(asyncio.create_task(refresh()))
        return next(runs)

    @cache.cached(timeout=60)
    async def all_prices() -> int:
        return await prices() + 100

    assert 100 == await all_prices()
    over.set()

    assert [1, 101] == await begun[0]
    assert [1, 101] == [await prices(), await all_prices()]


async def test_an_object_with_an_async_call_is_awaited(cache: Cache) -> None:
    """As asyncio's own wrappers are."""

    class Fetch:
        async def __call__(self, number: int) -> int:
            return number + 1

    fetch = cache.cached(name="fetch")(Fetch())

    assert [8, 8] == [await fetch(7), await fetch(7)]
    assert 1 == fetch.stats()["computed"]


async def test_an_async_def_behind_a_plain_decorator_is_refused_with_the_cure(cache: Cache) -> None:
    """What it gives is no value; a secret, which lets other things be stored, would not help."""

    async def fetch(number: int) -> int:
        return number

    def logged(number: int) -> Any:
        return fetch(number)

    with pytest.raises(UsageError, match="right over the async def"):
        cache.cached(name="logged")(logged)(7)


@pytest.mark.parametrize("how", ["await", "aio", "get_or_set"])
async def test_a_server_is_looked_for_beside_the_loop(
    redis_url: str, cache_name: str, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """It may have to be started."""
    found_by = []

    def open_server(*args: Any) -> opening.Opened:
        found_by.append(threading.current_thread())
        return opened(*args)

    opened = opening.open_server
    monkeypatch.setattr(opening, "open_server", open_server)
    with Cache(redis_url, name=cache_name, default_timeout=60) as cache:

        @cache.cached()
        async def one() -> int:
            return 1

        calls: dict[str, Any] = {
            "await": one,
            "aio": cache.cached(name="two")(lambda: 1).aio,
            "get_or_set": lambda: cache.aio.get_or_set("key", 1),
        }
        assert 1 == await calls[how]()

    assert len(found_by) == 1
    assert found_by[0] is not threading.current_thread()
