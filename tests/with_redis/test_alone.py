"""This is where many calls come at once while the cache is away: those that wait share the next computation of a key."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import pytest

from taskcache import Cache
from taskcache.calls import alone
from tests.nodes.waiting import wait_until
from tests.with_redis.gate import Gate
from tests.with_redis.outage import Run, behind_one, until, waiting


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("verb", ["cached", "get_or_set", "cache_async", "map"])
def test_a_herd_computes_twice(away: Cache, gate: Gate, run: Run, verb: str) -> None:
    """One that runs, and one for the twenty who came meanwhile: it began after they had asked."""
    cached, task = away.cached(name="cached")(gate.pass_first), away.cache_async(name="task")(gate.pass_first)

    @away.cached(name="one")
    def one(number: int) -> int:
        return gate.pass_first()

    calls: dict[str, Callable[[], Any]] = {
        "cached": cached,
        "get_or_set": lambda: away.get_or_set("key", gate.pass_first, 60),
        "cache_async": lambda: task()(),
        "map": lambda: one.map([7])()[0],
    }
    first, others = behind_one(away, gate, run, calls[verb], 20)
    gate.open()

    assert (1, [2] * 20, 2) == (first.result(30), [each.result(30) for each in others], gate.visits)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("kind", ["async def", "def", "get_or_set", "cache_async"])
def test_a_herd_of_coroutines_computes_twice(away: Cache, gate: Gate, kind: str) -> None:
    """The same on one event loop, with more callers than it has threads; it runs on meanwhile."""

    async def body() -> int:
        return await asyncio.to_thread(gate.pass_first)

    awaited, plain, task = (
        away.cached(name="awaited")(body),
        away.cached(name="plain")(gate.pass_first),
        away.cache_async(name="task")(gate.pass_first),
    )

    async def of_task() -> int:
        return await (await task.aio())

    calls: dict[str, Callable[[], Awaitable[int]]] = {
        "async def": awaited,
        "def": plain.aio,
        "get_or_set": lambda: away.aio.get_or_set("key", body, 60),
        "cache_async": of_task,
    }

    async def main() -> list[int]:
        first = asyncio.ensure_future(calls[kind]())
        await until(lambda: gate.visits)
        others = [asyncio.ensure_future(calls[kind]()) for _ in range(60)]
        await until(lambda: waiting(away) == 60)
        gate.open()
        return await asyncio.wait_for(asyncio.gather(first, *others), 30)

    assert [1, *[2] * 60] == asyncio.run(main())


@pytest.mark.parametrize("kind", ["async def", "def"])
def test_nobody_waits_for_a_long_one(away: Cache, gate: Gate, run: Run, kind: str) -> None:
    """After a moment the next begins, whatever the one before does: a caller's timeout is as good as without sharing."""

    async def coroutine() -> int:
        return await asyncio.to_thread(gate.pass_first)

    async def beside() -> tuple[int, int]:
        f = away.cached()(coroutine)
        first = asyncio.ensure_future(f())
        await until(lambda: gate.visits)
        later = await asyncio.wait_for(f(), 30)
        gate.open()
        return await first, later

    if kind == "async def":
        assert (1, 2) == asyncio.run(beside())
        return
    f = away.cached()(gate.pass_first)
    first = run(f)
    gate.wait_reached()
    assert 2 == run(f).result(30)
    gate.open()
    assert 1 == first.result(30)


@pytest.mark.usefixtures("patient")
def test_who_comes_later_gets_what_begins_later(away: Cache, gate: Gate, run: Run) -> None:
    """What was invalidated between two calls nobody here may know: no call gets what began before it."""
    stock = 1

    @away.cached()
    def f() -> int:
        seen = stock
        gate.pass_first()
        return seen

    first = run(f)
    gate.wait_reached()
    stock = 2
    later = run(f)
    wait_until(lambda: waiting(away) == 1, "the call to wait")
    gate.open()

    assert (1, 2) == (first.result(30), later.result(30))


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interruption_is_its_leaders_alone(away: Cache, gate: Gate, run: Run, error: type[BaseException]) -> None:
    """Those who follow compute."""

    @away.cached()
    def f() -> int:
        visit = gate.pass_first()
        if visit == 2:
            raise error
        return visit

    first, others = behind_one(away, gate, run, f, 5)
    gate.open()
    ended = [each.exception(30) for each in others]

    assert 1 == first.result(30)
    assert [error] == [type(each) for each in ended if each is not None]
    assert [3, 4, 5, 6] == sorted(each.result() for each in others if each.exception() is None)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("place", ["runs", "waits"])
def test_a_cancelled_call_is_cancelled_for_nobody_else(away: Cache, gate: Gate, place: str) -> None:
    """In the middle of the body that it began, or before: it runs for the others."""
    second = Gate()

    @away.cached()
    async def f() -> int:
        visit = await asyncio.to_thread(gate.pass_first)
        if visit == 2:
            await asyncio.to_thread(second.pass_first)
        return visit

    async def main() -> tuple[int, list[int]]:
        first = asyncio.ensure_future(f())
        await until(lambda: gate.visits)
        leader = asyncio.ensure_future(f())
        await until(lambda: waiting(away) == 1)
        followers = [asyncio.ensure_future(f()) for _ in range(5)]
        await until(lambda: waiting(away) == 6)
        if place == "runs":
            gate.open()
            await until(lambda: second.visits)
        leader.cancel()
        await until(leader.done)
        assert leader.cancelled()
        gate.open()
        second.open()
        return await first, await asyncio.wait_for(asyncio.gather(*followers), 30)

    assert (1, [2] * 5, 2) == (*asyncio.run(main()), gate.visits)


def test_a_task_that_is_cancelled_before_its_first_step(away: Cache) -> None:
    """A loop that ends cancels all tasks, ours too; who follows one that never began has an answer all the same."""
    runs = 0

    @away.cached()
    async def f() -> int:
        nonlocal runs
        runs += 1
        return runs

    async def main() -> int:
        await f()
        begun, follower = asyncio.ensure_future(f()), asyncio.ensure_future(f())
        await asyncio.sleep(0)  # one step: the first has made its task, and the second has joined
        assert 2 == waiting(away)
        for task in asyncio.all_tasks() - {asyncio.current_task(), follower}:
            task.cancel()
        value = await asyncio.wait_for(follower, 30)
        assert begun.cancelled()
        return value

    assert 2 == asyncio.run(main())


def test_an_exit_is_for_who_called(away: Cache) -> None:
    """As without the cache: a loop goes on when its caller lets it."""

    @away.cached()
    async def f() -> None:
        raise SystemExit(3)

    async def main() -> object:
        try:
            await f()
        except SystemExit as exit:
            return exit.code
        return None

    assert 3 == asyncio.run(main())


def test_bodies_that_wait_for_helper_threads(away: Cache, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """They have all slots, and those whom they wait for have none: who has waited for long enough computes."""
    monkeypatch.setattr(alone, "SLOT_WAIT_S", 0.05)
    monkeypatch.setattr(away.alone, "slots", threading.BoundedSemaphore(2))
    both = threading.Barrier(2)
    helped = away.cached(name="helped")(lambda number: number)

    @away.cached()
    def f(number: int) -> int:
        both.wait(30)
        with ThreadPoolExecutor(1) as helper:
            value: int = helper.submit(lambda: helped(number)).result()
            return value

    assert [1, 2] == [each.result(30) for each in [run(lambda: f(1)), run(lambda: f(2))]]


def test_two_that_need_each_other(away: Cache, run: Run) -> None:
    """A part of a computation is computed, and nobody waits for what waits for them; in helper threads neither."""
    both, lefts, rights = threading.Barrier(2), count(), count()

    def apart(call: Callable[[], int]) -> int:
        with ThreadPoolExecutor(1) as one:
            return one.submit(call).result()

    @away.cached()
    def left(far: bool) -> int:
        if next(lefts) % 2:
            return 1
        both.wait(30)
        return 1 + (apart(lambda: right(far)) if far else right(far))

    @away.cached()
    def right(far: bool) -> int:
        if next(rights) % 2:
            return 1
        both.wait(30)
        return 1 + (apart(lambda: left(far)) if far else left(far))

    for far in (False, True):
        results = [run(lambda far=far: left(far)), run(lambda far=far: right(far))]  # type: ignore[misc]  # a lambda's default has no type
        assert [2, 2] == [each.result(30) for each in results]


@pytest.mark.usefixtures("patient")
def test_a_coroutine_that_calls_itself(away: Cache) -> None:
    """What is being computed above waits for nothing of its own."""
    depth = 0

    @away.cached()
    async def f() -> int:
        nonlocal depth
        depth += 1
        return 1 if depth == 100 else 1 + await f()

    assert 100 == asyncio.run(asyncio.wait_for(f(), 30))


@pytest.mark.usefixtures("patient")
def test_a_handler_of_signals(away: Cache, gate: Gate, run: Run) -> None:
    """It runs in the middle of what its own thread waits for, and computes."""
    f = away.cached()(gate.pass_first)
    seen: list[int] = []

    def handler(*_: object) -> None:
        seen.append(f())
        gate.open()

    def interrupt() -> None:
        wait_until(lambda: waiting(away), "the main thread to wait")
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        first = run(f)
        gate.wait_reached()
        run(interrupt)
        mine = f()
    finally:
        signal.signal(signal.SIGUSR1, before)

    assert (1, [2], 3) == (first.result(30), seen, mine)


@pytest.mark.usefixtures("patient")
def test_a_loop_that_is_closed_in_the_middle(away: Cache) -> None:
    """Its calls hold up nobody: the next loop computes."""
    runs = 0

    @away.cached()
    async def f() -> int:
        nonlocal runs
        runs += 1
        if runs == 1:
            await asyncio.Event().wait()
        return runs

    loop = asyncio.new_event_loop()
    tasks = [loop.create_task(f())]
    loop.run_until_complete(until(lambda: runs))
    tasks += [loop.create_task(f()) for _ in range(2)]
    loop.run_until_complete(until(lambda: waiting(away) == 2))
    loop.close()
    assert 2 == asyncio.run(asyncio.wait_for(f(), 30))
    for task in tasks:
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # that is what this test is about
