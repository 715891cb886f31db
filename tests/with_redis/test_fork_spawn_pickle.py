"""This is where caches, functions and results cross into other processes: by fork, by spawn, by pickle."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import cloudpickle
import pytest

from taskcache import Cache
from taskcache.calls import following
from taskcache.calls.alone import COMPUTE_LIMIT
from taskcache.drivers.pending import Pending
from tests.nodes.server import free_port
from tests.nodes.waiting import wait_until
from tests.with_redis.gate import Gate, Renewals, threads, wait_for_followers

ROOT = Path(__file__).parents[2]


@pytest.fixture
def shop(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module `shop`, imported with this test's server, here and in every process that is started."""
    import importlib

    import tests.with_redis.shop as module

    monkeypatch.setenv("TASKCACHE_TEST_URL", redis_url)
    importlib.reload(module)
    yield module
    module.cache.close()


@pytest.fixture
def spawned(shop: Any) -> Iterator[ProcessPoolExecutor]:
    """A pool of one process that has nothing of ours but what it imports."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


def in_child(body: Callable[[], Any]) -> Any:
    """Run `body` in a forked child and give back what it gave; the child ends whatever happens."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            try:
                said = (True, body())
            except BaseException as error:
                said = (False, f"{type(error).__name__}: {error}")
            os.write(writing, pickle.dumps(said))
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        wait_until(lambda: os.waitpid(child, os.WNOHANG)[0] == child, "the child to end", timeout=30)
        succeeded, value = pickle.loads(pipe.read())
    assert succeeded, value
    return value


# Pickle


def test_a_cache_pickles_as_a_reference(cache: Cache) -> None:
    """In one process it is the same cache again; the pickle holds an address and a name."""
    cache.set("key", 1)
    pickled = pickle.dumps(cache)

    assert cache is pickle.loads(pickled)
    assert len(pickled) < 1000


def test_a_pickle_holds_no_password_and_no_secret() -> None:
    """What travels may be read by others."""
    cache = Cache("redis://user:hidden-word@127.0.0.1:1/0", secret="a-secret-of-16-bytes")
    pickled = pickle.dumps(cache)

    assert b"hidden-word" not in pickled
    assert b"a-secret-of" not in pickled


def test_a_function_pickles_by_its_name(shop: Any) -> None:
    """The very function comes back, its verbs with it, and the code does not travel."""
    for function in (shop.who_computed, shop.who_awaited, shop.Shop.weight):
        assert function is pickle.loads(pickle.dumps(function))
    assert len(pickle.dumps(shop.who_computed)) < 200


def test_options_of_a_call_pickle_with_the_function(shop: Any) -> None:
    """A view of `with_options` is the same function with the same other options, also with a near cache."""
    for changed in ({"on_cache_error": "raise"}, {"near": True}):
        view = pickle.loads(pickle.dumps(shop.who_computed.with_options(**changed)))

        assert changed == {name: getattr(view.options, name) for name in changed}
        assert (7, os.getpid()) == view(7)
        assert shop.who_computed.key_for(7) == view.key_for(7)


def test_a_function_decorated_under_another_name_stays_decorated(shop: Any) -> None:
    """What its own name finds is the plain function."""
    copied = pickle.loads(pickle.dumps(shop.decorated))

    assert ((7, os.getpid()), ("shop",)) == (copied(7), copied.options.tags)
    assert shop.decorated.key_for(7) == copied.key_for(7)


def test_a_method_pickles_with_its_object(shop: Any) -> None:
    """As Python's own bound methods do."""
    bound = pickle.loads(pickle.dumps(shop.Shop("a").price))

    assert ("a", 7, os.getpid()) == bound(7)
    assert shop.Shop("a").price.key_for(7) == bound.key_for(7)


def test_a_closure_travels_with_cloudpickle(redis_url: str, cache: Cache) -> None:
    """A function that nobody can import goes by value, with the key it had."""
    factor = 3

    @cache.cached()
    def times(number: int) -> int:
        return number * factor

    copied = cloudpickle.loads(cloudpickle.dumps(times))

    assert (21, times.key_for(7), times.name) == (copied(7), copied.key_for(7), copied.name)


def test_a_plain_pickle_of_a_closure_is_refused(cache: Cache) -> None:
    """As Python refuses the function itself."""

    @cache.cached()
    def local(number: int) -> int:
        return number

    with pytest.raises((pickle.PicklingError, AttributeError), match="local"):
        pickle.dumps(local)


# Spawn


def test_a_spawned_process_shares_entries(shop: Any, spawned: ProcessPoolExecutor) -> None:
    """What one process computed is a hit in the other, both ways."""
    theirs = spawned.submit(shop.who_computed, 1).result(60)
    mine = shop.who_computed(2)

    assert (theirs, mine) == (shop.who_computed(1), spawned.submit(shop.who_computed, 2).result(60))
    assert mine[1] == os.getpid() != theirs[1]


def test_methods_travel_to_a_spawned_process(shop: Any, spawned: ProcessPoolExecutor) -> None:
    """Methods, static methods, class methods, and caches as arguments."""
    object_ = shop.Shop("a")
    theirs = [
        spawned.submit(shop.call, object_.price, 1).result(60),
        spawned.submit(shop.call, shop.Shop.weight, 1).result(60),
        spawned.submit(shop.call, shop.Shop.size, 1).result(60),
    ]
    shop.cache.set("key", "value")
    value, pid = spawned.submit(shop.get, shop.cache, "key").result(60)

    assert theirs == [object_.price(1), shop.Shop.weight(1), shop.Shop.size(1)]
    assert ("value", True) == (value, pid != os.getpid())


def test_a_decorated_function_is_mapped_over_a_pool(shop: Any, spawned: ProcessPoolExecutor) -> None:
    """`pool.map(fn, ...)` works on the decorated function itself."""
    theirs = list(spawned.map(shop.who_computed, range(5)))

    assert [0, 1, 2, 3, 4] == [number for number, _ in theirs]
    assert theirs == [shop.who_computed(number) for number in range(5)]


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_a_script_maps_its_own_function_over_a_pool(shop: Any, method: str) -> None:
    """A function of `__main__` travels to a process pool as every function does, and its entries are shared."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.with_redis.main_program", method],
        cwd=ROOT,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert "" == done.stderr
    mapped, called, stats = json.loads(done.stdout)

    assert ([0, 2, 4, 6], [0, 2, 4, 6], 4, 0) == (mapped, called, stats["hits"], stats["computed"])


# Fork


def test_a_child_uses_connections_of_its_own(cache: Cache) -> None:
    """Parent and child go on at the same time without reading each other's answers."""
    cache.set_many({str(number): number for number in range(100)})
    keys = [str(number) for number in range(100)]

    def read_all() -> bool:
        return all(cache.get(key) == int(key) for _ in range(20) for key in keys)

    with threads(1) as run:
        parent = run(read_all)
        assert True is in_child(read_all)
        assert True is parent.result(30)


def test_a_child_waits_for_no_lock_of_a_thread_that_it_has_not(redis_url: str, cache_name: str) -> None:
    """A fork may come while another thread opens the cache, computes in all its slots, or borrows a connection."""
    with Cache(redis_url, name=cache_name) as used, Cache(redis_url, name=cache_name) as unused:
        used.set("key", 7, 60)
        pool = used.station.server.client.connection_pool
        held = [unused._lock, pool._lock, *[used.alone.slots] * COMPUTE_LIMIT]
        for lock in held:
            lock.acquire()
        try:
            assert (7, 7, 8) == in_child(
                lambda: (unused.get("key"), used.get("key"), used.get_or_set("other", lambda: 8, 60))
            )
        finally:
            for lock in held:
                lock.release()


def test_a_child_waits_for_no_turn_of_a_thread_that_it_has_not(cache_name: str, gate: Gate) -> None:
    """A fork may come while another thread computes without the server."""
    away = Cache(f"redis://127.0.0.1:{free_port()}/0", name=cache_name)
    f = away.cached()(gate.pass_first)
    with threads(1) as run:
        first = run(f)
        gate.wait_reached()
        assert 2 == in_child(f)
        gate.open()
        assert 1 == first.result(30)


def test_a_profile_shares_with_its_cache_in_a_child_too(cache_name: str) -> None:
    """The permits to compute without the server are one process's, however many profiles it has."""
    away = Cache(f"redis://127.0.0.1:{free_port()}/0", name=cache_name)
    profile, before = away.with_options(timeout=30), away.alone

    assert (True, True) == in_child(lambda: (profile.alone is away.alone, away.alone is not before))
    assert profile.alone is before


@pytest.mark.parametrize("near", [False, True])
def test_a_child_counts_from_zero(cache: Cache, near: bool) -> None:
    """What the parent counted is told by the parent; a profile counts with its cache, as ever."""
    f = cache.cached(name=f"counted {near}", near=near)(lambda: 7)
    profile = cache.with_options(timeout=30)
    for _ in range(5):
        f()
    cache.set("key", 1)

    def child() -> list[Any]:
        before = [f.stats()["hits"], f.stats()["misses"], cache.stats()["writes"]]
        f(), profile.set("key", 2)
        return [before, f.stats()["hits"], f.stats()["misses"], cache.metrics["writes"]]

    assert [[0, 0, 0], 1, 0, 1] == in_child(child)
    assert (4, 1, 1) == (f.stats()["hits"], f.stats()["misses"], cache.stats()["writes"])


def test_a_child_of_a_process_that_waits_can_call_and_wait(cache: Cache, gate: Gate) -> None:
    """Threads of the parent do not exist in the child: its inbox, keeper and renewer start anew."""

    @cache.cached()
    def slow(number: int) -> int:
        return gate.pass_first() if number == 1 else number

    with threads(2) as run:
        leader = run(lambda: slow(1))
        gate.wait_reached()
        follower = run(lambda: slow(1))
        wait_for_followers(cache, 1)

        def child() -> tuple[int, int, int]:
            other = threading.Thread(target=lambda: slow(2))
            other.start()
            other.join()
            seen: list[int] = []
            # It waits for the parent's flight, with ears of its own.
            waiter = threading.Thread(target=lambda: seen.append(slow(1)))
            waiter.start()
            wait_for_followers(cache, 1)
            os.write(ready, b"!")
            waiter.join(30)
            return slow(2), slow(3), seen[0]

        waiting, ready = os.pipe()

        def open_when_told() -> None:
            os.read(waiting, 1)
            gate.open()

        watcher = threading.Thread(target=open_when_told)
        watcher.start()
        found = in_child(child)
        watcher.join(30)
        os.close(waiting)
        os.close(ready)

        assert ((2, 3, 1), 1, 1) == (found, leader.result(30), follower.result(30))


def test_two_threads_of_a_child_wait_for_one_inherited_result() -> None:
    """One of them makes it usable there, once: a second time would take away what the first one waits on."""
    met = threading.Barrier(2)
    times: list[int] = []

    class Inherited(Pending):
        def after_fork(self) -> None:
            times.append(1)
            with suppress(threading.BrokenBarrierError):
                met.wait(0.5)  # for the other one, which must not come
            super().after_fork()

    pending = Inherited(cast(Any, None), cast(Any, None), None)
    pending.pid = -1  # the parent's
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: following.revive(None, pending), range(2)))

    assert ([1], os.getpid()) == (times, pending.pid)


def test_a_child_keeps_its_own_leases(redis_url: str, cache_name: str) -> None:
    """A forked leader renews for itself: longer than its lease, and nobody takes over."""
    with Cache(redis_url, name=cache_name, default_timeout=60, lease=0.5) as cache:

        @cache.cached()
        def slow(number: int) -> int:
            if number:
                flight = cache.make_key(slow.key_for(number))
                client = cache.station.server.client
                renewals = Renewals(lambda: int(client.pttl(f"{{{flight}}}:flight")))
                wait_until(lambda: renewals.look() >= 8, "eight renewals")
            return os.getpid()

        slow(0)

        assert os.getpid() != in_child(lambda: slow(1)) == slow(1)


def test_a_child_of_an_event_loop_has_loops_of_its_own(cache: Cache) -> None:
    """asyncio before and after the fork."""

    @cache.cached()
    async def f(number: int) -> int:
        return number

    async def calls() -> list[int]:
        return list(await asyncio.gather(*(f(number) for number in range(5))))

    before = asyncio.run(calls())

    assert before == in_child(lambda: asyncio.run(calls())) == asyncio.run(calls())


def test_tokens_differ_after_a_fork(cache: Cache) -> None:
    """Random numbers are not inherited: two children's flights and objects have names of their own."""
    from taskcache.protocol.entry import new_token

    assert 4 == len({in_child(new_token), in_child(new_token), new_token(), new_token()})
