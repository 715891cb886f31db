"""This is where `cached` decorates an `async def`, and where coroutines call plain functions through `aio`."""

from __future__ import annotations

import asyncio
import inspect
import threading
from typing import Any

import pytest

from taskcache import Cache, NoServer, current
from tests.nodes.waiting import wait_until
from tests.with_redis.gate import Gate, wait_for_followers


class AsyncGate:
    """Holds up the first coroutine until the test lets it go on; counts them all."""

    def __init__(self) -> None:
        self.visits = 0
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()

    async def pass_first(self) -> int:
        self.visits += 1
        visit = self.visits
        if visit == 1:
            self.reached.set()
            await asyncio.wait_for(self.opened.wait(), 60)
        return visit


async def followers(cache: Cache, count: int) -> None:
    await asyncio.to_thread(wait_for_followers, cache, count)


def test_it_is_still_a_coroutine_function(cache: Cache) -> None:
    """Frameworks ask `inspect`, and await what answers yes; a plain function stays one."""

    @cache.cached()
    async def f() -> int:
        return 1

    @cache.cached()
    def plain() -> int:
        return 1

    class Shop:
        @cache.cached(ignore=("self",))
        async def open(self) -> int:
            return 1

    assert (True, False) == (inspect.iscoroutinefunction(f), inspect.iscoroutinefunction(plain))
    assert asyncio.iscoroutinefunction(f)
    assert inspect.iscoroutinefunction(Shop.open)
    assert inspect.iscoroutinefunction(Shop().open)


async def test_the_second_call_is_not_computed(cache: Cache) -> None:
    """Equal arguments, one computation."""
    runs = 0

    @cache.cached()
    async def f(number: int) -> int:
        nonlocal runs
        runs += 1
        return runs

    assert (1, 1, 2) == (await f(1), await f(1), await f(2))


async def test_callers_that_miss_together_compute_once(cache: Cache) -> None:
    """Coroutines of one loop share one computation."""
    gate = AsyncGate()
    f = cache.cached()(gate.pass_first)
    callers = [asyncio.create_task(f()) for _ in range(50)]
    await followers(cache, 49)
    gate.opened.set()

    assert {1} == set(await asyncio.gather(*callers))


async def test_loops_in_other_threads_share_it_too(cache: Cache) -> None:
    """Two event loops of one process, one computation."""
    gate = AsyncGate()
    f = cache.cached()(gate.pass_first)
    leader = asyncio.create_task(f())
    await gate.reached.wait()
    follower = asyncio.create_task(asyncio.to_thread(lambda: asyncio.run(_call(f))))
    await followers(cache, 1)
    gate.opened.set()

    assert (1, 1, 1) == (await leader, await follower, gate.visits)


async def _call(f: Any) -> Any:
    return await f()


async def test_a_cancelled_leader_does_not_cancel_the_others(cache: Cache) -> None:
    """The computation goes on for those who wait, and its value is stored."""
    gate = AsyncGate()
    f = cache.cached()(gate.pass_first)
    leader = asyncio.create_task(f())
    await gate.reached.wait()
    follower = asyncio.create_task(f())
    await followers(cache, 1)
    leader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leader
    gate.opened.set()

    assert (1, 1, 1) == (await follower, await f(), gate.visits)


async def test_a_cancelled_follower_does_not_cancel_the_others(cache: Cache) -> None:
    """Whoever leaves, leaves alone, and nothing of the wait stays behind."""
    gate = AsyncGate()
    f = cache.cached()(gate.pass_first)
    leader = asyncio.create_task(f())
    await gate.reached.wait()
    leaving, staying = asyncio.create_task(f()), asyncio.create_task(f())
    await followers(cache, 2)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    gate.opened.set()

    assert (1, 1, 1, 0) == (await leader, await staying, gate.visits, cache.stats()["waits"])


async def test_a_timeout_around_a_call_is_a_cancellation(cache: Cache) -> None:
    """`asyncio.wait_for` ends the wait; the value comes later, for whoever asks then."""
    gate = AsyncGate()
    f = cache.cached()(gate.pass_first)
    waiting = asyncio.create_task(asyncio.wait_for(f(), 0.5))
    await gate.reached.wait()
    with pytest.raises(asyncio.TimeoutError):
        await waiting
    gate.opened.set()

    assert (1, 1) == (await f(), gate.visits)


async def test_a_cancellation_at_any_moment_leaves_no_lease_behind(cache: Cache) -> None:
    """Cancelled while it reads, while it elects or while it computes: the next caller does not wait for a lease to lapse."""
    runs = 0

    @cache.cached()
    async def f(number: int) -> int:
        nonlocal runs
        runs += 1
        return number

    await f(-1)
    for turns in range(25):
        call = asyncio.create_task(f(turns))
        for _ in range(turns):
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)

        # The lease is 5 seconds, and so is the pause after it.
        assert turns == await asyncio.wait_for(f(turns), 4)


def test_a_loop_that_ends_in_the_middle_leaves_no_flight(cache: Cache, gate: Gate) -> None:
    """When the leader's whole loop ends, its computation is cancelled and a follower takes over at once."""
    runs: list[str] = []

    @cache.cached()
    async def f() -> int:
        runs.append(threading.current_thread().name)
        if len(runs) == 1:
            gate._reached.set()
            await asyncio.Event().wait()
        return len(runs)

    async def give_up() -> None:
        task = asyncio.create_task(f())
        await asyncio.to_thread(gate.wait_reached)
        await asyncio.to_thread(wait_for_followers, cache, 1)
        task.cancel()

    follower: list[int] = []
    loop = threading.Thread(target=lambda: asyncio.run(give_up()))
    loop.start()
    gate.wait_reached()
    other = threading.Thread(target=lambda: follower.append(asyncio.run(_call(f))))
    other.start()
    loop.join(30)
    # Sooner than the lease of 5 seconds would end.
    other.join(4)

    assert [2] == follower


async def test_an_error_reaches_everybody_who_waits(cache: Cache) -> None:
    """Type and message at each follower."""
    gate = AsyncGate()

    @cache.cached()
    async def f() -> int:
        await gate.pass_first()
        raise LookupError("nothing there")

    callers = [asyncio.create_task(f()) for _ in range(10)]
    await followers(cache, 9)
    gate.opened.set()
    errors = await asyncio.gather(*callers, return_exceptions=True)

    assert [(LookupError, "nothing there")] * 10 == [(type(error), str(error)) for error in errors]
    assert 1 == gate.visits


async def test_a_function_that_asks_for_itself_does_not_wait_for_itself(cache: Cache) -> None:
    """Same-key recursion, also from a task that the body starts."""
    runs = 0

    @cache.cached()
    async def f(number: int) -> str:
        nonlocal runs
        runs += 1
        if runs > 1:
            return "inner"
        inner: str = await asyncio.create_task(_call_with(f, number))
        return f"{inner} in outer"

    assert ("inner in outer", "inner in outer", 2) == (await f(1), await f(1), runs)


async def _call_with(f: Any, number: int) -> Any:
    return await f(number)


async def test_the_loop_goes_on_while_a_plain_function_computes(cache: Cache, gate: Gate) -> None:
    """`await f.aio(x)` computes a plain function in a thread."""

    @cache.cached()
    def f(number: int) -> str:
        gate.pass_first()
        return threading.current_thread().name

    call = asyncio.create_task(f.aio(1))
    await asyncio.to_thread(gate.wait_reached)
    gate.open()
    where = await call

    assert threading.current_thread().name != where
    assert (where, 1) == (await f.aio(1), gate.visits)


async def test_both_faces_share_their_entries(cache: Cache) -> None:
    """What was called plainly is a hit through `aio`, and the other way round."""
    runs = 0

    @cache.cached()
    def f(number: int) -> int:
        nonlocal runs
        runs += 1
        return runs

    assert (1, 1, 2, 2) == (f(1), await f.aio(1), await f.aio(2), f(2))


async def test_the_verbs_are_awaitable(cache: Cache) -> None:
    """The same verbs with the same results under `aio`, for both kinds of function."""
    runs = 0

    @cache.cached()
    async def f(number: int) -> int:
        nonlocal runs
        runs += 1
        return runs

    first = await f(1)
    # The verbs of an `async def` are typed as if it gave its coroutine.
    verbs: Any = f.aio
    entry = await verbs.peek(1)

    assert entry is not None
    assert (1, 1) == (first, entry.value)
    assert (2, 2) == (await verbs.refresh(1), await f(1))
    assert True is await verbs.put(70, 7)
    assert (70, 1, 0) == (await f(7), await f.aio.bust(7), await f.aio.bust(7))
    await f.aio.bust_all()
    assert (None, None) == (await f.aio.peek(1), await f.aio.join(1))
    assert (3, None) == (await verbs.uncached(1), await verbs.peek(1))


async def test_the_plain_verbs_work_on_an_async_def(cache: Cache) -> None:
    """peek, put and bust block for one round trip; key_for asks nobody."""

    @cache.cached()
    async def f(number: int) -> int:
        return number

    await f(1)
    entry: Any = f.peek(1)

    assert (1, 1, 1) == (entry.value, cache.get(f.key_for(1)), f.bust(1))


async def test_current_knows_the_coroutine_it_runs_in(cache: Cache) -> None:
    """Interleaved computations do not see each other's."""
    keys: dict[int, str] = {}

    @cache.cached()
    async def f(number: int) -> int:
        await asyncio.sleep(0)
        current().timeout = number
        await asyncio.sleep(0)
        keys[number] = current().key
        return number

    await asyncio.gather(*(f(number) for number in range(10, 20)))

    for number in range(10, 20):
        entry = await f.aio.peek(number)
        assert entry is not None
        assert entry.expires_in is not None
        assert f.key_for(number) == keys[number]
        assert number - 5 < entry.expires_in <= number


async def test_without_a_server_the_coroutine_runs(cache_name: str) -> None:
    """The cache is away: the call works, and on_cache_error="raise" says so."""
    cache = Cache("redis://127.0.0.1:1/0", name=cache_name)

    @cache.cached()
    async def f() -> int:
        return 1

    @cache.cached(on_cache_error="raise")
    async def strict() -> int:
        return 1

    assert 1 == await f()
    with pytest.raises(NoServer):
        await strict()


async def test_an_await_takes_no_thread(cache: Cache) -> None:
    """Five hundred waiting coroutines add no thread to the process."""
    gate = AsyncGate()
    f = cache.cached()(gate.pass_first)
    leader = asyncio.create_task(f())
    await gate.reached.wait()
    first = asyncio.create_task(f())
    await followers(cache, 1)
    before = threading.active_count()
    callers = [asyncio.create_task(f()) for _ in range(500)]
    await followers(cache, 501)
    during = threading.active_count()
    gate.opened.set()

    assert {1} == set(await asyncio.gather(leader, first, *callers))
    # The executor's own threads open the inbox at the first wait.
    assert during <= before + 8


def test_asyncio_run_leaves_no_warning(cache: Cache) -> None:
    """Connections end with their loop; warnings are errors here."""

    @cache.cached()
    async def f(number: int) -> int:
        return number

    assert [0, 1, 2] == [asyncio.run(_call_with(f, number)) for number in range(3)]
    wait_until(lambda: cache.stats()["waits"] == 0, "nobody to wait")
