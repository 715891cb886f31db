"""This is where hits take the short way: one read, and no second one by whoever has to go on from there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis
from celery import Celery

from taskcache import Cache, current
from taskcache.decorators import AsyncFunction
from tests.nodes.waiting import wait_until
from tests.with_redis.test_primitives_many import commands_of

Led = AsyncFunction[[list[int]], int]


@pytest.fixture
def total(cache: Cache) -> Led:
    """A task with one value stored that no body gives; calls that have to be computed are computed at once."""
    cache.app = Celery("eager", broker="memory://", set_as_current=False)
    cache.app.conf.task_always_eager = True

    @cache.cache_async(timeout=60)
    def total(numbers: list[int]) -> int:
        return sum(numbers)

    total.put(-1, [1, 2])
    total([1, 2])  # finds the server
    return total


@pytest.mark.own_server
def test_a_call_of_a_task_whose_value_is_stored_is_one_read(total: Led, client: redis.Redis) -> None:
    """One MGET of the stamp and the entry, and nothing else."""
    values: list[int] = []
    told = commands_of(client, lambda: values.append(total([1, 2])()))

    assert [-1] == values
    assert {"mget": 1} == {name: count for name, count in told.items() if not name.startswith("config")}


@pytest.mark.own_server
async def test_awaited_it_is_one_read_too(total: Led, client: redis.Redis) -> None:
    """`await fn.aio(x)`."""
    await total.aio([1, 2])
    client.config_resetstat()
    result = await total.aio([1, 2])

    assert -1 == await result
    assert 1 == client.info("commandstats")["cmdstat_mget"]["calls"]


def _plain(cache: Cache) -> Callable[[int], Any]:
    return cache.cached(timeout=60)(lambda number: number)


def _tagged(cache: Cache) -> Callable[[int], Any]:
    return cache.cached(timeout=60, tags=("a tag",))(lambda number: number)


@pytest.mark.own_server
@pytest.mark.parametrize("made", [_plain, _tagged])
def test_a_miss_reads_its_entry_once(
    cache: Cache, client: redis.Redis, made: Callable[[Cache], Callable[[int], Any]]
) -> None:
    """What the short way has read goes on to the long one."""
    function = made(cache)
    function(1), function(1)

    assert 1 == commands_of(client, lambda: function(2))["mget"]


@pytest.mark.own_server
async def test_an_awaited_miss_reads_its_entry_once(cache: Cache, client: redis.Redis) -> None:
    """The same with `async def`."""

    @cache.cached(timeout=60)
    async def function(number: int) -> int:
        return number

    await function(1), await function(1)
    client.config_resetstat()
    await function(2)

    assert 1 == client.info("commandstats")["cmdstat_mget"]["calls"]


def test_a_hit_knows_what_every_result_knows(cache: Cache, total: Led) -> None:
    """Its key is that of the arguments as they were, whatever the caller does with them before he asks."""
    numbers = [1, 2]
    key = total.key_for(numbers)
    result = total(numbers)
    numbers.append(3)

    assert ("hit", True, None, key) == (result.source, result.ready(), result.task_id, result.key)
    assert result.age is not None
    assert 0 <= result.age < 60
    assert result.expires_in is not None
    assert 0 < result.expires_in <= 60
    assert -1 == cache.result(result.id)() == result()
    assert result.exception is None
    assert not result.cancel()
    assert "total done hit" in repr(result)
    assert [] == list(result.updates())


def test_a_hit_travels(total: Led) -> None:
    """As what says where its value is."""
    find, (cache, result_id) = total([1, 2]).__reduce__()

    assert -1 == find(cache, result_id)()


@pytest.mark.own_server
def test_calls_with_near_of_a_function_without_it_ask_nobody(total: Led, client: redis.Redis) -> None:
    """Options of some calls do not take the way of the others, nor these theirs; what is invalidated is near no more."""
    near = total.with_options(near=True)
    wait_until(lambda: "mget" not in commands_of(client, lambda: near([1, 2])), "the value is near")
    result = near([1, 2])
    asked = commands_of(client, lambda: total([1, 2]))
    key = total.key_for([1, 2])
    total.bust([1, 2])

    assert (-1, "hit", key) == (result(), result.source, result.key)
    assert 1 == asked["mget"]
    wait_until(lambda: near([1, 2])(timeout=10) == 3, "the near value is gone")


@pytest.mark.parametrize("secret", [None, "a secret that is long enough for this"])
def test_windows_of_all_sorts_are_looked_up_alike(
    cache_name: str, redis_url: str, client: redis.Redis, secret: str | None
) -> None:
    """Hits among misses, long values, those with tags of their bodies, and damaged ones: as each call by itself has it."""
    computed: list[int] = []

    with Cache(redis_url, name=cache_name, secret=secret) as cache:

        @cache.cached(timeout=60)
        def value(number: int) -> dict[str, Any]:
            computed.append(number)
            if number % 7 == 3:
                current().tags.add("of some bodies")
            return {"number": number, "text": "long " * (2000 if number % 11 == 5 else 1)}

        value(0)
        numbers = range(600)
        missing = [number for number in numbers if number % 5 == 2 or 250 <= number < 510]
        stored = [number for number in numbers if number not in missing]
        value.map(stored)()
        damaged = [number for number in stored if number % 13 == 1]
        for number in damaged:
            client.set(
                cache.make_key(value.key_for(number)), b"\xc5\x01 not an entry of ours, though it begins as one", ex=60
            )
        computed.clear()
        batch = value.map(numbers)
        values = batch()

        assert values == [value.uncached(number) for number in numbers]
        assert sorted({*missing, *damaged}) == sorted(computed[: -len(numbers)])
        # Those with tags of their bodies take one more read each.
        assert len([number for number in stored if number not in damaged and number % 7 != 3]) == batch.hits

        computed.clear()
        again = value.map(numbers)
        assert values == again()
        assert len([number for number in numbers if number % 7 != 3]) == again.hits
        assert [] == computed
        value.bust_all()
        anew = value.map(numbers)
        anew.begin()
        assert 0 == anew.hits


def test_an_attribute_of_the_function_is_its_own(cache: Cache) -> None:
    """Code that counts in `fn.hits` does not meet ours."""
    cache.app = Celery("eager", broker="memory://", set_as_current=False)
    cache.app.conf.task_always_eager = True

    def plain(number: int) -> int:
        return number

    plain.hits = 0  # type: ignore[attr-defined]
    counted: Any = cache.cache_async(timeout=60)(plain)
    for _ in range(3):
        counted.hits += 1
        assert 1 == counted(1)(timeout=10)

    assert 3 == counted.hits


def test_within_the_computation_of_its_own_key_a_stored_value_is_no_answer(cache: Cache) -> None:
    """The body that asks for its own call computes it: what is stored is what it is about to replace."""
    cache.app = Celery("eager", broker="memory://", set_as_current=False)
    cache.app.conf.task_always_eager = True
    depths: list[int] = []

    @cache.cache_async(timeout=60)
    def nested(name: str) -> str:
        depths.append(len(depths))
        if len(depths) > 1:
            return "inner"
        nested.put("stored meanwhile", name)
        nested(name + " of another")
        return "outer " + nested(name)()

    nested.put("stored", "found")
    nested("found")

    assert "outer inner" == nested("asked")(timeout=10)
