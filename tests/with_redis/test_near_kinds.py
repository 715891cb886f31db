"""This is where every kind of decorated function is near: methods, coroutines, properties, tasks, keys of one's own."""

from __future__ import annotations

import gc
import pickle
from typing import Any

import celery
import pytest
import redis

from taskcache import Cache
from tests.nodes.server import tracking_clients
from tests.nodes.waiting import wait_until
from tests.with_redis.near import bring_near, is_near, near_of, reads, reads_of


class Shop:
    """Something with an identity, to call methods on."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __cache_key__(self) -> int:
        return self.number


@pytest.mark.own_server
def test_a_method_is_near(cache: Cache, client: redis.Redis) -> None:
    """The object is an argument like others; `obj.method.bust` reaches what is near."""
    runs = iter(range(100))

    class Store(Shop):
        @cache.cached(near=True)
        def price(self, number: int) -> int:
            return next(runs)

    one, same, other = Store(1), Store(1), Store(2)
    old = bring_near(cache, Store.price, one, 7)

    assert 0 == reads_of(client, lambda: [one.price(7), same.price(7)])
    assert old != other.price(7)
    one.price.bust(7)
    assert old != same.price(7)


@pytest.mark.own_server
def test_a_property_is_near(cache: Cache, client: redis.Redis) -> None:
    """`del obj.name` reaches what is near."""
    runs = iter(range(100))

    class Store(Shop):
        @cache.cached_property(near=True)
        def total(self) -> int:
            return next(runs)

    store = Store(1)
    near_of(cache)
    wait_until(lambda: store.total >= 0 and reads_of(client, lambda: store.total) == 0, "the property to be near")
    del store.total

    assert 1 == store.total


@pytest.mark.own_server
def test_a_key_of_ones_own_is_near(cache: Cache, client: redis.Redis) -> None:
    """`key_fn` makes another key and changes nothing else."""
    runs = iter(range(100))

    @cache.cached(near=True, key_fn=lambda args, kwargs: str(args[0]))
    def price(number: int) -> int:
        return next(runs)

    old = bring_near(cache, price, 7)

    assert 0 == reads_of(client, lambda: price(7))
    price.bust(7)
    assert old != price(7)


@pytest.mark.own_server
def test_a_function_without_parameters_is_near(cache: Cache, client: redis.Redis) -> None:
    """Nothing to tell calls apart by is one call."""
    runs = iter(range(100))

    @cache.cached(near=True)
    def total() -> int:
        return next(runs)

    old = bring_near(cache, total)

    assert 0 == reads_of(client, lambda: total())
    total.bust()
    assert old != total()


@pytest.mark.own_server
def test_any_number_of_arguments_is_near(cache: Cache, client: redis.Redis) -> None:
    """*args and **kwargs go by the digest of the call."""

    @cache.cached(near=True)
    def total(*numbers: int, **named: int) -> int:
        return sum(numbers) + sum(named.values())

    bring_near(cache, total, 1, 2)

    assert 0 == reads_of(client, lambda: total(1, 2))
    assert (3, 6, 1) == (total(1, 2), total(1, 2, a=3), total(1))


@pytest.mark.own_server
async def test_a_coroutine_function_is_near(cache: Cache, client: redis.Redis) -> None:
    """Awaited hits ask nobody either, also those of a plain function under `aio`."""
    runs = iter(range(100))

    @cache.cached(near=True)
    async def price(number: int) -> int:
        return next(runs)

    @cache.cached(near=True)
    def plain(number: int) -> int:
        return number

    near_of(cache)
    for _ in range(3):
        old = await price(7)
        await plain.aio(7)
    before = reads(client)
    assert (old, 7) == (await price(7), await plain.aio(7))
    assert before == reads(client)
    await price.aio.bust(7)
    assert old != await price(7)


@pytest.mark.own_server
def test_a_task_is_near(cache: Cache, client: redis.Redis) -> None:
    """A call of a `cache_async` function finds its value here before it looks on the server."""
    cache.app = celery.Celery("near", broker="memory://")

    @cache.cache_async(near=True)
    def render(page: int) -> str:
        raise AssertionError("nobody computes here")

    render.put("rendered", 7)
    near_of(cache)
    wait_until(lambda: render(7)() == "rendered" and is_near(cache, render.key_for(7)), "the value to be near")
    result = render(7)

    assert 0 == reads_of(client, lambda: render(7)())
    assert ("rendered", "hit", "done") == (result(), result.source, result.state)
    render.put("again", 7)
    assert "again" == render(7)()


def test_metrics_count_near_hits(cache: Cache) -> None:
    """With `metrics=True` they are timed like others."""

    @cache.cached(near=True, metrics=True)
    def price(number: int) -> int:
        return number

    bring_near(cache, price, 7)
    before = price.metrics["hits"]
    price(7)

    assert before + 1 == price.metrics["hits"]


def decorated(cache: Cache) -> Any:
    """Another decoration of the same function."""

    @cache.cached(near=True, name="twice", version=1)
    def twice(number: int) -> int:
        return 2 * number

    return twice


@pytest.mark.own_server
def test_two_decorations_of_one_name_share_what_is_near(cache: Cache, client: redis.Redis) -> None:
    """Each has a front of its own before the same values."""
    one, other = decorated(cache), decorated(cache)
    bring_near(cache, one, 7)
    other(7)

    assert 0 == reads_of(client, lambda: [other(7), one(7)])
    one.bust_all()
    for _ in range(3):
        assert 14 == other(7) == one(7)


@pytest.mark.own_server
def test_two_caches_of_one_process_are_apart(redis_url: str, cache: Cache, client: redis.Redis) -> None:
    """Names keep them apart here as they do on the server."""
    with Cache(redis_url, f"{cache.name}:inner", 60) as inner:
        ours, theirs = decorated(cache), decorated(inner)
        bring_near(cache, ours, 7)
        bring_near(inner, theirs, 7)
        inner.flush()

        assert 0 == reads_of(client, lambda: ours(7))
        assert 1 == reads_of(client, lambda: theirs(7)) or theirs(7) == 14


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_near_function_travels_by_value(cache: Cache, protocol: int) -> None:
    """What is local to a test goes by value, and is near where it arrives."""
    cloudpickle = pytest.importorskip("cloudpickle")
    twice = decorated(cache)
    again = pickle.loads(cloudpickle.dumps(twice, protocol=protocol))

    assert (14, 14, type(twice)) == (twice(7), again(7), type(again))


def test_functions_with_options_for_one_call_leave_nothing_behind(cache: Cache) -> None:
    """`fn.with_options(...)(x)` again and again: what was made for a call goes with it."""
    twice = decorated(cache)
    bring_near(cache, twice, 7)
    for _ in range(50):
        options = twice.with_options(near=60)
        assert [14] * 3 == [options(7) for _ in range(3)]
    del options
    gc.collect()

    assert 2 >= len(near_of(cache).stamp(twice.stamp).fronts)
    assert 14 == twice(7)


@pytest.mark.own_server
def test_a_cache_that_is_forgotten_stops_listening(redis_url: str, cache_name: str, client: redis.Redis) -> None:
    """Nobody has to close it."""
    its_client = redis.Redis.from_url(redis_url)
    cache = Cache(its_client, cache_name, 60)
    twice = decorated(cache)
    twice.put(14, 7)
    bring_near(cache, twice, 7)
    assert 1 == len(tracking_clients(client))
    wire = cache.station._wire
    del cache, twice
    wait_until(lambda: gc.collect() >= 0 and not tracking_clients(client), "the connection to be closed")
    its_client.close()
    assert wire is not None
    wire.close()
