"""This is where loops and threads end, or are too few, while coroutines wait for what others compute."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from taskcache import Cache
from taskcache.calls import calling
from taskcache.drivers import asyncio as driver
from tests.nodes.waiting import wait_until
from tests.nodes.workers import REPOSITORY
from tests.with_redis.gate import Gate, threads, wait_for_followers


async def test_who_leads_has_a_thread_to_compute_in(cache: Cache) -> None:
    """Bodies that fill all threads and wait for a call that was made after them: it has not begun without a thread."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))

    @cache.cached()
    def inner(number: int) -> int:
        return number

    @cache.cached()
    def outer(number: int) -> int:
        return number + inner(7)

    calls = [*(outer.aio(number) for number in range(6)), inner.aio(7)]

    assert [*range(7, 13), 7] == await asyncio.wait_for(asyncio.gather(*calls), 20)


async def test_waiting_for_a_plain_function_takes_no_thread(cache: Cache, gate: Gate) -> None:
    """One computes it; a hundred others leave the two threads to the next, and to the one who looks after them here."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(3))
    f = cache.cached(name="held")(lambda number: gate.pass_first())
    herd = [asyncio.ensure_future(f.aio(1)) for _ in range(100)]
    await asyncio.to_thread(wait_for_followers, cache, 99)
    other = cache.cached(name="other")(lambda: 5)

    assert 5 == await asyncio.wait_for(other.aio(), 20)
    gate.open()
    assert [1] * 100 == await asyncio.gather(*herd)


async def test_a_loop_that_is_closed_gives_its_leases_up(cache: Cache) -> None:
    """A coroutine that never goes on cannot drop them: nobody waits for it longer than for a killed one."""

    def abandoned() -> None:
        @cache.cached(name="left")
        async def left() -> int:
            await asyncio.sleep(600)
            return 1

        loop = asyncio.new_event_loop()
        with pytest.raises(asyncio.TimeoutError):
            loop.run_until_complete(asyncio.wait_for(left(), 0.2))
        for task in asyncio.all_tasks(loop):
            task.set_name("abandoned")
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()

    await asyncio.to_thread(abandoned)
    await asyncio.to_thread(wait_until, lambda: not cache.station.renewer._leases, "the lease to be given up", 20)


def is_kept(left: weakref.ref[Any]) -> bool:
    """Whether something is still held after everything that nobody holds was collected."""
    gc.collect()
    return left() is not None


def dropped(call: Callable[[], Coroutine[Any, Any, Any]], until: Callable[[], object]) -> weakref.ref[Any]:
    """Begin a call on a loop of its own, and drop that loop when something is true; gives what is left of it."""
    loop = asyncio.new_event_loop()
    left = loop.create_task(call())
    while not until():
        loop.run_until_complete(asyncio.sleep(0.001))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    # The next loop gives up what this one has left.
    asyncio.run(driver.detached(asyncio.sleep(0)))
    return weakref.ref(left)


def test_a_leader_that_is_dropped_with_its_loop_says_nothing(cache: Cache) -> None:
    """The collector ends it, in whatever thread: there is no loop on which it could speak to the server."""

    @cache.cached(name="dropped")
    async def f() -> None:
        await asyncio.sleep(600)

    left = dropped(f, lambda: cache.station.renewer._leases)
    assert not is_kept(left)
    wait_until(lambda: not cache.station.renewer._leases, "the lease to be given up", 20)
    assert 0 == f.stats()["failed"]


async def test_a_body_that_ends_like_a_dropped_one_is_told(cache: Cache) -> None:
    """Its loop goes on: nobody waits for its lease to be over."""

    @cache.cached(name="ended")
    async def f() -> None:
        raise GeneratorExit

    with pytest.raises(GeneratorExit):
        await f()

    assert (None, 1) == (await asyncio.to_thread(f.join), f.stats()["failed"])


def test_a_waiter_that_is_dropped_with_its_loop_is_missed_by_nobody(cache: Cache, gate: Gate) -> None:
    """The one who computes and the one who waits beside it go on."""
    f = cache.cached(name="dropped")(gate.pass_first)
    with threads(2) as run:
        first = run(f)
        gate.wait_reached()
        left = dropped(f.aio, cache.station.waiting)
        second = run(f)
        wait_for_followers(cache, 2)
        gate.open()
        assert [1, 1] == [first.result(30), second.result(30)]
    wait_until(lambda: not is_kept(left), "the coroutine to be let go")
    assert 0 == cache.station.waiting()


def test_without_a_server_a_batch_of_coroutines_runs(cache_name: str) -> None:
    """What is computed here is a value, not a coroutine, also when the server goes away in the middle."""
    cache = Cache("redis://127.0.0.1:1/0", name=cache_name)

    @cache.cached()
    async def f(number: int) -> int:
        return number

    values: Any = f.map([1, 2])()
    assert [1, 2] == values
    assert 3 == calling.answer(f, f.invocation((3,), {}), (3,), {})


def test_a_cache_that_is_dropped_leaves_no_thread(redis_url: str, cache_name: str) -> None:
    """Not closed, only forgotten: its threads end, and nothing of it stays; the next one starts its own."""
    command = [sys.executable, "-m", "tests.with_redis.dropped_program", redis_url, cache_name]
    ran = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=90)
    all_four = "running: taskcache-inbox taskcache-keeper taskcache-near taskcache-renewer"

    assert ([all_four, all_four, "nothing left"], "") == (ran.stdout.splitlines(), ran.stderr)
