"""This is where an invalidation beats a computation that began before it, whichever way it is said."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import redis

from taskcache import Cache
from taskcache.freshness import SHORT_HEAD_BYTES
from tests.with_redis.gate import Gate, threads, wait_for_followers

Way = Callable[[Cache, Any], object]
AsyncWay = Callable[[Cache, Any], Awaitable[object]]

# Each outdates the computation of price(7) that is under way.
WAYS: dict[str, Way] = {
    "bust": lambda cache, price: price.bust(7),
    "bust_all": lambda cache, price: price.bust_all(),
    "delete": lambda cache, price: cache.delete(price.key_for(7)),
    "delete_many": lambda cache, price: cache.delete_many(["other", price.key_for(7)]),
    "set": lambda cache, price: cache.set(price.key_for(7), "set", 60),
    "set_many": lambda cache, price: cache.set_many({price.key_for(7): "set"}, 60),
    "set for no time": lambda cache, price: cache.set(price.key_for(7), "set", 0),
    "put": lambda cache, price: price.put("put", 7),
    "flush": lambda cache, price: cache.flush(),
    "invalidate a tag": lambda cache, price: cache.invalidate("prices"),
    "invalidate a tag of the arguments": lambda cache, price: cache.invalidate("price-7"),
    "refresh": lambda cache, price: price.refresh(7),
}
ASYNC_WAYS: dict[str, AsyncWay] = {
    "bust": lambda cache, price: price.aio.bust(7),
    "bust_all": lambda cache, price: price.aio.bust_all(),
    "delete": lambda cache, price: cache.aio.delete(price.key_for(7)),
    "delete_many": lambda cache, price: cache.aio.delete_many([price.key_for(7), "other"]),
    "set": lambda cache, price: cache.aio.set(price.key_for(7), "set", 60),
    "put": lambda cache, price: price.aio.put("put", 7),
    "flush": lambda cache, price: cache.aio.flush(),
    "invalidate a tag": lambda cache, price: cache.aio.invalidate("prices"),
    "refresh": lambda cache, price: price.aio.refresh(7),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_call_after_an_invalidation_never_gets_the_older_computation(cache: Cache, gate: Gate, way: str) -> None:
    """Those who waited get the old value, nobody who calls afterwards does, and the late value is not stored."""
    source = "old"

    @cache.cached(tags=("prices", "price-{number}"))
    def price(number: int) -> str:
        read = source
        gate.pass_first()
        return read

    with threads(2) as run:
        leader = run(lambda: price(7))
        gate.wait_reached()
        follower = run(lambda: price(7))
        wait_for_followers(cache, 1)
        source = "new"
        WAYS[way](cache, price)
        while_it_runs = price(7)
        gate.open()
        old = (leader.result(30), follower.result(30))

    fresh = "put" if way == "put" else "new"
    assert (("old", "old"), fresh, fresh) == (old, while_it_runs, price(7))


@pytest.mark.parametrize("way", WAYS)
def test_a_late_value_is_not_stored_even_when_nobody_called_meanwhile(cache: Cache, gate: Gate, way: str) -> None:
    """The first call after the late publish computes anew; that nobody displaced the flight does not save it."""
    source = "old"

    @cache.cached(tags=("prices", "price-{number}"))
    def price(number: int) -> str:
        read = source
        gate.pass_first()
        return read

    with threads(1) as run:
        leader = run(lambda: price(7))
        gate.wait_reached()
        source = "new"
        WAYS[way](cache, price)
        gate.open()
        old = leader.result(30)

    fresh = "put" if way == "put" else "new"
    assert ("old", fresh) == (old, price(7))


@pytest.mark.parametrize("way", ASYNC_WAYS)
async def test_an_awaited_invalidation_beats_a_coroutine_under_way(cache: Cache, way: str) -> None:
    """The same for `async def` and the verbs under `aio`."""
    source = "old"
    reached, opened = asyncio.Event(), asyncio.Event()

    @cache.cached(tags=("prices",))
    async def price(number: int) -> str:
        read = source
        if not reached.is_set():
            reached.set()
            await opened.wait()
        return read

    leader = asyncio.create_task(price(7))
    await reached.wait()
    follower = asyncio.create_task(price(7))
    await asyncio.to_thread(wait_for_followers, cache, 1)
    source = "new"
    await ASYNC_WAYS[way](cache, price)
    while_it_runs = await price(7)
    opened.set()

    fresh = "put" if way == "put" else "new"
    assert ("old", "old", fresh, fresh) == (await leader, await follower, while_it_runs, await price(7))


@pytest.mark.parametrize("way", ["bust", "flush", "invalidate a tag", "delete"])
def test_what_is_stored_is_outdated_too(cache: Cache, way: str) -> None:
    """An invalidation without any computation under way makes the next call compute."""
    source = "old"

    @cache.cached(tags=("prices",))
    def price(number: int) -> str:
        return source

    before = price(7)
    source = "new"
    WAYS[way](cache, price)

    assert ("old", "new") == (before, price(7))


@pytest.mark.parametrize("size", [10, 200_000])
@pytest.mark.parametrize("way", ["invalidated", "damaged"])
def test_what_is_of_no_use_is_computed_anew_whatever_its_size(
    cache: Cache, client: redis.Redis, way: str, size: int
) -> None:
    """An entry that is still there and may not be returned: a small one, and one that is read into a buffer of its own."""
    runs = iter(range(9))

    @cache.cached()
    def f(number: int) -> tuple[int, bytes]:
        return next(runs), os.urandom(size)

    def spoil() -> None:
        entry = client.get(name)
        assert isinstance(entry, bytes)
        client.set(name, entry[:SHORT_HEAD_BYTES] + b"\xc1" * (len(entry) - SHORT_HEAD_BYTES), keepttl=True)

    name = cache.make_key(f.key_for(1))
    f(1)
    for run in (1, 2):
        f.bust_all() if way == "invalidated" else spoil()

        assert [run, run] == [f(1)[0], f(1)[0]]


def test_many_invalidations_in_a_row_leave_the_last_word_to_the_last(cache: Cache) -> None:
    """Computations displaced one after the other end in any order; the latest value is the one that is stored."""
    gates = [Gate() for _ in range(4)]
    begun: list[int] = []

    @cache.cached()
    def price(number: int) -> int:
        mine = len(begun)
        begun.append(mine)
        gates[mine].pass_first()
        return mine

    with threads(4) as run:
        leaders = []
        for gate in gates:
            leaders.append(run(lambda: price(7)))
            gate.wait_reached()
            price.bust(7)
        # The newest first: every later publish is a late one.
        for gate, leader in zip(reversed(gates), reversed(leaders), strict=True):
            gate.open()
            leader.result(30)
        values = [leader.result() for leader in leaders]
        gates.append(Gate())
        gates[-1].open()

    assert ([0, 1, 2, 3], 4) == (values, price(7))


def test_invalidating_one_call_leaves_the_others(cache: Cache) -> None:
    """`bust` is about one call, `bust_all` about one function."""
    counts = {"price": 0, "weight": 0}

    @cache.cached()
    def price(number: int) -> int:
        counts["price"] += 1
        return counts["price"]

    @cache.cached()
    def weight(number: int) -> int:
        counts["weight"] += 1
        return counts["weight"]

    price(1), price(2), weight(1)
    price.bust(1)
    after_bust = (price(2), price(1), weight(1))
    price.bust_all()
    after_bust_all = (price(1), price(2), weight(1))

    assert ((2, 3, 1), (4, 5, 1)) == (after_bust, after_bust_all)


def test_an_invalidation_that_did_not_arrive_is_not_reported_as_done(cache_name: str) -> None:
    """A bust that cannot be sent raises NoServer; silence would mean stale values."""
    from taskcache import NoServer
    from tests.nodes.server import free_port

    away = Cache(f"redis://127.0.0.1:{free_port()}/0", name=cache_name)

    @away.cached()
    def price(number: int) -> int:
        return number

    for way in ("bust", "bust_all", "delete", "set", "put", "flush"):
        with pytest.raises(NoServer):
            WAYS[way](away, price)


def test_the_stamp_of_a_function_outlives_every_entry_under_it(
    cache: Cache, client: redis.Redis, cache_name: str
) -> None:
    """Each computation extends the stamp, so that a function in steady use does not lose all its entries at once."""

    @cache.cached(timeout=3600)
    def price(number: int) -> int:
        return number

    price(1)
    (stamp,) = client.keys(f"{cache_name}~fn:*")
    client.pexpire(stamp, 1000)
    price(2)

    assert 3600_000 < client.pttl(stamp)


@pytest.mark.keeps_forever
def test_the_stamp_outlives_an_entry_whose_lifetime_is_known_late(
    cache: Cache, client: redis.Redis, cache_name: str
) -> None:
    """A lifetime that comes from the result may be longer than the default: its stamp lives as long."""

    @cache.cached(timeout=lambda days: days * 86_400)
    def price(days: int) -> int:
        return days

    price(30)
    (stamp,) = client.keys(f"{cache_name}~fn:*")

    assert 30 * 86_400_000 < client.pttl(stamp)
