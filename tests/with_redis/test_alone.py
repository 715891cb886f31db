"""This is where many calls come at once while the cache is away: of each key one computation runs, and one comes next."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest
from celery import Celery

from taskcache import Cache
from tests.nodes.server import free_port
from tests.nodes.waiting import wait_until
from tests.with_redis.gate import Gate, threads

Run = Callable[[Callable[[], Any]], Future[Any]]


@pytest.fixture
def away(cache_name: str) -> Cache:
    """A cache whose server does not run."""
    return Cache(f"redis://127.0.0.1:{free_port()}/0", name=cache_name, app=Celery("away", set_as_current=False))


@pytest.fixture
def run() -> Iterator[Run]:
    with threads(40) as submit:
        yield submit


def next_in(cache: Cache) -> int:
    """How many calls stand behind those that run; no public number tells it, and a guess would test nothing."""
    turns = [turn for both in list(cache.alone._turns.values()) for turn in both]
    return sum(1 + turn.followers for turn in turns if not turn.has_begun)


def behind_one(
    cache: Cache, gate: Gate, run: Run, call: Callable[[], Any], callers: int
) -> tuple[Future[Any], list[Future[Any]]]:
    """One call that computes, held at the gate, and others that came after it had begun."""
    first = run(call)
    gate.wait_reached()
    others = [run(call) for _ in range(callers)]
    wait_until(lambda: next_in(cache) == callers, f"{callers} calls to wait for their turn", timeout=30)
    return first, others


@pytest.mark.parametrize("verb", ["cached", "get_or_set", "cache_async", "map", "aio"])
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
        "aio": lambda: asyncio.run(cached.aio()),
    }
    first, others = behind_one(away, gate, run, calls[verb], 20)
    gate.open()

    assert (1, [2] * 20, 2) == (first.result(30), [each.result(30) for each in others], gate.visits)
    assert {} == away.alone._turns


@pytest.mark.parametrize("kind", ["async def", "get_or_set"])
def test_a_herd_of_coroutines_computes_twice(away: Cache, kind: str) -> None:
    """The same on one event loop, which runs on meanwhile."""
    runs = 0

    async def body() -> int:
        nonlocal runs
        runs += 1
        mine = runs
        if mine == 1:
            while next_in(away) < 20:
                await asyncio.sleep(0.001)
        return mine

    f = away.cached()(body)

    async def main() -> list[int]:
        call: Callable[[], Awaitable[Any]] = f if kind == "async def" else lambda: away.aio.get_or_set("key", body, 60)
        first = asyncio.ensure_future(call())
        while not runs:
            await asyncio.sleep(0.001)
        return await asyncio.wait_for(asyncio.gather(first, *(call() for _ in range(20))), 30)

    assert [1, *[2] * 20] == asyncio.run(main())
    assert {} == away.alone._turns


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
    wait_until(lambda: next_in(away) == 1, "the call to wait for its turn")
    gate.open()

    assert (1, 2) == (first.result(30), later.result(30))


def test_each_has_a_value_of_its_own(away: Cache, gate: Gate, run: Run) -> None:
    """As from the cache: what one caller does to its list is nobody else's affair."""

    @away.cached()
    def f() -> list[int]:
        return [gate.pass_first()]

    first, others = behind_one(away, gate, run, f, 5)
    gate.open()
    values = [first.result(30), *(each.result(30) for each in others)]

    assert [[1], *[[2]] * 5] == values
    assert 6 == len({id(value) for value in values})


def test_an_error_is_everybodys(away: Cache, gate: Gate, run: Run) -> None:
    """The body has run for all of them, and its error is theirs."""

    @away.cached()
    def f() -> None:
        raise ValueError(f"run {gate.pass_first()}")

    first, others = behind_one(away, gate, run, f, 5)
    gate.open()

    assert ["run 1", *["run 2"] * 5] == [str(each.exception(30)) for each in [first, *others]]
    assert {ValueError} == {type(each.exception(30)) for each in [first, *others]}


@dataclass(frozen=True)
class Frozen(Exception):
    """An error that takes no attributes, not even a traceback."""

    number: int


def test_an_error_that_is_frozen(away: Cache, gate: Gate, run: Run) -> None:
    """It is itself for who computed, and for those who share it what it would be from the cache."""

    @away.cached()
    def f() -> None:
        raise Frozen(gate.pass_first())

    first, others = behind_one(away, gate, run, f, 2)
    gate.open()

    assert "Frozen" == type(first.exception(30)).__name__
    assert all("FrozenInstanceError" not in repr(each.exception(30)) for each in others)
    assert 2 == gate.visits


def test_a_value_that_nobody_can_write(away: Cache, gate: Gate, run: Run) -> None:
    """It cannot be shared: each computes for itself, beside each other and not one after another."""
    meet = threading.Barrier(4)

    @away.cached()
    def f() -> Any:
        if gate.pass_first() > 2:
            meet.wait(30)  # all of those who follow are here at once
        return threading.Lock()

    first, others = behind_one(away, gate, run, f, 5)
    gate.open()

    assert 6 == len({id(each.result(30)) for each in [first, *others]})
    assert 6 == gate.visits


class Unreadable:
    """A value that is written without complaint and cannot be read again."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> Any:
        return (int, ("no number",))


def test_a_value_that_nobody_can_read(away: Cache, gate: Gate, run: Run) -> None:
    """The same where the writing goes well and the reading does not."""
    secret = Cache(away.database, name=away.name, secret="s" * 32, app=away.app)

    @secret.cached()
    def f() -> Any:
        return Unreadable(gate.pass_first())

    first, others = behind_one(secret, gate, run, f, 3)
    gate.open()

    assert {1, 2, 3, 4, 5} >= {each.result(30).number for each in [first, *others]}
    assert {Unreadable} == {type(each.result(30)) for each in [first, *others]}


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

    async def begun() -> None:
        while next_in(away) < 2:
            await asyncio.sleep(0.001)

    loop = asyncio.new_event_loop()
    tasks = [loop.create_task(f()) for _ in range(3)]
    loop.run_until_complete(begun())
    loop.close()
    assert 2 == asyncio.run(asyncio.wait_for(f(), 30))
    for task in tasks:
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # that is what this test is about
    del tasks, task
    gc.collect()
    assert {} == away.alone._turns


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interruption_is_its_leaders_alone(away: Cache, gate: Gate, run: Run, error: type[BaseException]) -> None:
    """Those who follow begin anew."""

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
    assert {3, 4, 5, 6} >= {each.result() for each in others if each.exception() is None}
    assert {} == away.alone._turns


@pytest.mark.parametrize("place", ["runs", "waits"])
def test_a_cancelled_leader_holds_up_nobody(away: Cache, place: str) -> None:
    """In the middle of its body or before its turn: those who follow begin anew."""
    runs = 0

    @away.cached()
    async def f() -> int:
        nonlocal runs
        runs += 1
        mine = runs
        if mine <= 2:
            await may_end[mine].wait()
        while place == "runs" and mine == 3 and next_in(away) < 4:
            await asyncio.sleep(0.001)
        return mine

    async def main() -> tuple[int, list[int]]:
        may_end.update({1: asyncio.Event(), 2: asyncio.Event()})
        first = asyncio.ensure_future(f())
        while not runs:
            await asyncio.sleep(0.001)
        leader = asyncio.ensure_future(f())
        while next_in(away) < 1:
            await asyncio.sleep(0.001)
        followers = [asyncio.ensure_future(f()) for _ in range(5)]
        while next_in(away) < 6:
            await asyncio.sleep(0.001)
        if place == "runs":
            may_end[1].set()
            while runs < 2:
                await asyncio.sleep(0.001)
        leader.cancel()
        while not leader.done():
            await asyncio.sleep(0.001)
        for each in may_end.values():
            each.set()
        return await first, await asyncio.wait_for(asyncio.gather(*followers), 30)

    may_end: dict[int, asyncio.Event] = {}
    first, others = asyncio.run(main())
    assert (1, {3, 4} if place == "runs" else {2}) == (first, set(others))
    assert {} == away.alone._turns


def test_a_part_of_a_computation_waits_for_nobody(away: Cache, run: Run) -> None:
    """Two computations that need each other's key: each computes it for itself, and neither waits for the other."""
    both, lefts, rights = threading.Barrier(2), count(), count()

    @away.cached()
    def left() -> int:
        return 1 if next(lefts) else both.wait(30) * 0 + 1 + right()

    @away.cached()
    def right() -> int:
        return 1 if next(rights) else both.wait(30) * 0 + 1 + left()

    results = [run(left), run(right)]

    assert [2, 2] == [each.result(30) for each in results]
