"""This is where the plain commands are awaited: the same names, arguments and results under `cache.aio`."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
import redis

from taskcache import Cache, NoServer, UnstorableValue, UsageError
from tests.with_redis.values import VALUES


async def test_what_was_set_can_be_got(cache: Cache) -> None:
    """Both faces of a cache see the same values."""
    assert True is await cache.aio.set("foo", "bar", 10)

    assert ("bar", "bar") == (await cache.aio.get("foo"), cache.get("foo"))
    assert (None, 7) == (await cache.aio.get("nothing"), await cache.aio.get("nothing", 7))


@pytest.mark.parametrize("name", VALUES)
async def test_types_come_back_as_they_were(cache: Cache, name: str) -> None:
    """A value is read as it was written, type and all."""
    await cache.aio.set("key", VALUES[name])
    found = await cache.aio.get("key")

    assert (type(VALUES[name]), VALUES[name]) == (type(found), found)


async def test_many_at_once(cache: Cache) -> None:
    """The plural forms."""
    assert True is await cache.aio.set_many({"a": 1}, 10, b=2, data=3)
    assert {"a": 1, "b": 2, "data": 3} == await cache.aio.get_many(["a", "missing", "b", "data"])
    assert 2 == await cache.aio.delete_many(["a", "b", "missing"])
    assert ({}, True, 0) == (await cache.aio.get_many([]), await cache.aio.set_many(), await cache.aio.delete_many([]))


async def test_a_delta_that_is_no_whole_number_is_refused(cache: Cache) -> None:
    """As without `aio`."""
    with pytest.raises(UsageError, match="delta=1.5"):
        await cache.aio.incr("count", 1.5)  # type: ignore[arg-type]  # that is the point


async def test_deleting_and_counting(cache: Cache, client: redis.Redis) -> None:
    """`delete` says how many were there, `incr` what it counted to."""
    await cache.aio.set("key", "value")
    counted = [await cache.aio.incr("count"), await cache.aio.incr("count", 2)]
    client.expire(cache.make_key("count"), 60)

    assert (1, 0, [1, 3], 3) == (
        await cache.aio.delete("key"),
        await cache.aio.delete("key"),
        counted,
        await cache.aio.get("count"),
    )


async def test_keys_and_flush(cache: Cache) -> None:
    """`keys` is iterated with `async for`; `flush` counts entries."""
    await cache.aio.set_many({str(number): number for number in range(2500)})
    keys = [key async for key in cache.aio.keys(strip_prefix=True)]

    assert (2500, {str(number) for number in range(2500)}) == (len(keys), set(keys))
    assert (2500, []) == (await cache.aio.flush(), [key async for key in cache.aio.keys()])


async def test_a_stop_iteration_is_an_error_like_others(cache: Cache) -> None:
    """No future takes it: who awaited was never told, and so was everybody else who waited for that key."""
    nothing: list[int] = []
    with pytest.raises(RuntimeError, match="StopIteration"):
        await asyncio.wait_for(cache.aio.get_or_set("key", lambda: next(iter(nothing))), 20)

    assert 1 == await asyncio.wait_for(cache.aio.get_or_set("key", lambda: 1), 20)


async def test_get_or_set_computes_once(cache: Cache) -> None:
    """A value, a function, or an `async def`; those who miss together share one computation."""
    runs = 0

    async def compute() -> int:
        nonlocal runs
        runs += 1
        return runs

    values = await asyncio.gather(*(cache.aio.get_or_set("key", compute) for _ in range(20)))

    assert {1} == set(values)
    assert (5, 6) == (await cache.aio.get_or_set("five", 5), await cache.aio.get_or_set("six", lambda: 6))


async def test_counters(cache: Cache) -> None:
    """Both faces count together."""
    await cache.aio.set("a", 1)
    await cache.aio.get("a")
    cache.get("missing")

    assert {"hits": 1, "misses": 1, "writes": 1} == cache.metrics


async def test_bad_input(cache: Cache) -> None:
    """The same errors."""
    with pytest.raises(UnstorableValue):
        await cache.aio.set("key", object())
    with pytest.raises(UsageError, match="timeout"):
        await cache.aio.set("key", 1, -1)
    with pytest.raises(UsageError, match="several keys"):
        await cache.aio.get_many("abc")
    with pytest.raises(UsageError, match="str"):
        await cache.aio.delete(7)  # type: ignore[arg-type]  # that is the point


async def test_commands_without_a_server_raise(cache_name: str) -> None:
    """NoServer, in bounded time, which names the address."""
    cache = Cache("redis://127.0.0.1:1/0", name=cache_name)
    with pytest.raises(NoServer, match="127.0.0.1:1"):
        await cache.aio.get("key")
    with pytest.raises(NoServer, match="127.0.0.1:1"):
        await cache.aio.set_many({"a": 1, "b": 2})
    with pytest.raises(NoServer, match="127.0.0.1:1"):
        await cache.aio.flush()


async def test_a_cache_is_an_asynchronous_context(redis_url: str, cache_name: str) -> None:
    """`async with` closes this loop's connections at its end, and the cache opens again when it is used."""
    async with Cache(redis_url, name=cache_name, default_timeout=60) as cache:
        await cache.aio.set("key", 1)

    assert 1 == await cache.aio.get("key")
    await cache.aio.close()


def test_one_cache_serves_one_loop_after_the_other(cache: Cache) -> None:
    """Connections belong to a loop and end with it: nothing of the first loop is left for the second."""

    async def use() -> Any:
        await cache.aio.set("key", 1)
        return await asyncio.gather(*(cache.aio.get("key") for _ in range(20)))

    values = [asyncio.run(use()) for _ in range(3)]
    gc.collect()

    assert [[1] * 20] * 3 == values


async def test_a_thousand_coroutines_share_a_few_connections(cache: Cache, client: redis.Redis) -> None:
    """A herd of coroutines does not open a thousand connections."""
    await cache.aio.set("key", 1)
    before = len(client.client_list())
    values = await asyncio.gather(*(cache.aio.get("key") for _ in range(1000)))

    assert [1] * 1000 == values
    assert len(client.client_list()) - before <= 60


async def test_a_cancelled_command_leaves_the_connection_usable(cache: Cache) -> None:
    """The reply of a cancelled command is not taken for the answer of the next one."""
    await cache.aio.set_many({str(number): number for number in range(200)})
    for _ in range(20):
        asked = [asyncio.create_task(cache.aio.get(str(number))) for number in range(20)]
        await asyncio.sleep(0)
        for task in asked[::2]:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)

        assert list(range(200)) == await asyncio.gather(*(cache.aio.get(str(number)) for number in range(200)))


async def test_what_a_function_gives_is_awaited(cache: Cache) -> None:
    """`get_or_set` takes a value, a function, an `async def`, and a lambda that calls one."""

    async def fetched(city: str) -> str:
        await asyncio.sleep(0)
        return f"weather of {city}"

    assert "weather of a" == await cache.aio.get_or_set("a", lambda: fetched("a"))
    assert "weather of a" == await cache.aio.get_or_set("a", lambda: fetched("b"))
    assert [1, 2] == [await cache.aio.get_or_set("plain", 1), await cache.aio.get_or_set("called", lambda: 2)]


async def test_a_wrong_key_is_named_to_a_coroutine(cache: Cache) -> None:
    """As `get_or_set` of the cache itself names it."""
    with pytest.raises(UsageError, match=r"a key is a str.*str\(5\)"):
        await cache.aio.get_or_set(5, 1)  # type: ignore[call-overload]  # the mistake


async def test_a_key_that_is_asked_for_twice_counts_once(cache: Cache) -> None:
    """It is one hit or one miss, for `get_many` of either kind."""
    cache.set("a", 1)
    cache.get_many(["a", "a", "b", "b"])
    await cache.aio.get_many(["a", "a", "b", "b"])

    assert {"hits": 2, "misses": 2, "writes": 1} == cache.metrics


async def test_two_caches_with_one_key_are_two(redis_url: str, cache: Cache, cache_name: str) -> None:
    """A value of one that is computed from the same key of another is read, stored and shared there."""
    runs = iter(range(9))
    with Cache(redis_url, name=f"{cache_name}-far", default_timeout=60) as far:
        for _ in range(2):
            assert 0 == cache.get_or_set("x", lambda: far.get_or_set("x", lambda: next(runs)))
            cache.delete("x")

        assert 0 == far.get("x")
