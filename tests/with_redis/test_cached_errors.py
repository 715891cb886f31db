"""This is where a cached function fails, is interrupted, or asks for itself."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from celery.exceptions import SoftTimeLimitExceeded

from taskcache import Cache, UsageError
from taskcache.calls.computing import Attempt
from taskcache.mapping import Batch
from tests.with_redis.gate import Counter, Gate, threads, wait_for_followers


def test_an_error_reaches_the_caller_and_is_not_stored(cache: Cache, counter: Counter) -> None:
    """The error is the function's own; the next call computes again."""

    @cache.cached()
    def f() -> int:
        if counter() == 1:
            raise LookupError("nothing there")
        return counter.runs

    with pytest.raises(LookupError, match="nothing there"):
        f()
    assert (2, 2) == (f(), f())


def test_an_error_reaches_everybody_who_waits(cache: Cache, gate: Gate) -> None:
    """Followers get the leader's error with its type and message, not a run of their own."""

    @cache.cached()
    def f() -> int:
        gate.pass_first()
        raise LookupError("nothing there")

    with threads(5) as run:
        leader = run(f)
        gate.wait_reached()
        followers = [run(f) for _ in range(4)]
        wait_for_followers(cache, 4)
        gate.open()
        errors = [caller.exception(30) for caller in (leader, *followers)]

    assert [(LookupError, "nothing there")] * 5 == [(type(error), str(error)) for error in errors]
    assert 1 == gate.visits


def test_followers_see_where_it_failed(cache: Cache, gate: Gate) -> None:
    """The cause of a follower's error is the leader's traceback."""

    @cache.cached()
    def f() -> int:
        gate.pass_first()
        return 1 // 0

    with threads(2) as run:
        leader = run(f)
        gate.wait_reached()
        follower = run(f)
        wait_for_followers(cache, 1)
        gate.open()
        error = follower.exception(30)

    assert isinstance(leader.exception(), ZeroDivisionError)
    assert isinstance(error, ZeroDivisionError)
    assert "return 1 // 0" in str(error.__cause__)


def test_an_interrupted_leader_is_followed_by_another(cache: Cache, gate: Gate) -> None:
    """KeyboardInterrupt in the leader is nobody else's: a follower computes at once, not after the lease."""

    @cache.cached()
    def f() -> int:
        if gate.pass_first() == 1:
            raise KeyboardInterrupt
        return gate.visits

    with threads(3) as run:
        leader = run(f)
        gate.wait_reached()
        followers = [run(f) for _ in range(2)]
        wait_for_followers(cache, 2)
        gate.open()

        assert isinstance(leader.exception(30), KeyboardInterrupt)
        # Shorter than the lease, let alone its end and the grace after it.
        assert [2, 2] == [follower.result(4) for follower in followers]


def test_an_interrupted_follower_leaves_the_others_alone(cache: Cache, gate: Gate) -> None:
    """Ctrl-C while waiting ends this wait only."""
    import signal
    import threading

    @cache.cached()
    def f() -> int:
        return gate.pass_first()

    main = threading.main_thread().ident
    assert main == threading.get_ident()

    def interrupt() -> None:
        wait_for_followers(cache, 2)
        signal.pthread_kill(main, signal.SIGINT)

    with threads(3) as run:
        leader = run(f)
        gate.wait_reached()
        other = run(f)
        interrupted = run(interrupt)
        with pytest.raises(KeyboardInterrupt):
            f()
        interrupted.result(30)
        gate.open()

        assert (1, 1, 1) == (leader.result(30), other.result(30), f())


def test_a_function_may_call_itself(cache: Cache, counter: Counter) -> None:
    """Recursion with other arguments is cached at each level."""

    @cache.cached()
    def fibonacci(n: int) -> int:
        counter()
        return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

    assert (832040, 31) == (fibonacci(30), counter.runs)


def test_a_function_that_asks_for_itself_does_not_wait_for_itself(cache: Cache, counter: Counter) -> None:
    """Same-key recursion computes without the cache and is not stored; the outer value is."""

    @cache.cached()
    def f(number: int) -> str:
        return "inner" if counter() > 1 else f(number) + " in outer"

    assert ("inner in outer", "inner in outer", 2) == (f(1), f(1), counter.runs)


def test_two_functions_may_call_each_other(cache: Cache, counter: Counter) -> None:
    """A circle over two keys ends as well."""

    @cache.cached()
    def even(number: int) -> str:
        return "stop" if counter() > 4 else odd(number)

    @cache.cached()
    def odd(number: int) -> str:
        return even(number)

    assert "stop" == even(1)


def test_a_thread_of_the_body_is_somebody_else(cache: Cache, counter: Counter) -> None:
    """What a body hands to another thread without its context waits like everybody; other keys work."""

    @cache.cached()
    def part(number: int) -> int:
        return number * 10

    @cache.cached()
    def whole() -> list[int]:
        with threads(3) as run:
            return [each.result(30) for each in [run(lambda number=number: part(number)) for number in range(3)]]  # type: ignore[misc]  # a lambda's default has no type

    assert [0, 10, 20] == whole()


def test_a_lease_is_dropped_whatever_happens_while_its_end_is_told(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second Ctrl-C in that round trip: else the lease would be renewed as long as this process lives."""

    def interrupted(self: Attempt, error: BaseException) -> None:
        raise KeyboardInterrupt

    @cache.cached()
    def f() -> None:
        raise ValueError("no")

    monkeypatch.setattr(Attempt, "fail", interrupted)
    with pytest.raises(KeyboardInterrupt):
        f()

    assert {} == cache.station.renewer._leases


def test_a_lease_is_dropped_that_was_interrupted_while_it_began(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C between the lease and the body: others wait until it lapses, and no longer."""

    def interrupted() -> None:
        raise KeyboardInterrupt

    f = cache.cached(name="f")(lambda: 1)
    monkeypatch.setattr(cache.station.renewer._wanted, "set", interrupted)
    with pytest.raises(KeyboardInterrupt):
        f()

    assert {} == cache.station.renewer._leases


@dataclass(frozen=True)
class Frozen(Exception):
    """An error that contextlib cannot pass on before Python 3.12: it sets an attribute of it."""

    reason: str


async def test_an_error_that_is_a_frozen_dataclass_is_passed_on(cache: Cache) -> None:
    """As it is, from a function and from a coroutine."""

    @cache.cached()
    def f() -> None:
        raise Frozen("no")

    @cache.cached()
    async def g() -> None:
        raise Frozen("no")

    with pytest.raises(Frozen):
        f()
    with pytest.raises(Frozen):
        await g()


def test_a_soft_time_limit_ends_all_calls_of_a_batch(cache: Cache, counter: Counter) -> None:
    """It is that of the task which makes them; and it is no answer to those who wait for the same value."""

    @cache.cached()
    def f(number: int) -> int:
        if counter() == 2:
            raise SoftTimeLimitExceeded
        return number

    with pytest.raises(SoftTimeLimitExceeded):
        list(f.map(range(5)))
    assert 2 == counter.runs
    assert [0, 1, 2, 3, 4] == f.map(range(5))()


def test_a_batch_may_be_asked_again(cache: Cache) -> None:
    """For the same values, as a single result may."""
    f = cache.cached(name="again")(lambda number: number)
    batch = f.map(range(3))

    assert [0, 1, 2] == batch() == batch() == batch.all()()


def test_a_batch_that_is_interrupted_goes_on_where_it_was(cache: Cache, counter: Counter) -> None:
    """Ctrl-C in the second window costs no value: the next call gives all of them, and computes none twice."""

    @cache.cached()
    def f(number: int) -> int:
        if counter() == 1_500:
            raise KeyboardInterrupt
        return number

    batch = f.map(range(2_500))
    with pytest.raises(KeyboardInterrupt):
        batch()

    assert list(range(2_500)) == batch()
    assert (2_501, 2_500, 2_500) == (counter.runs, batch.started, batch.done)


async def test_a_batch_that_is_cancelled_goes_on_where_it_was(cache: Cache, gate: Gate) -> None:
    """A coroutine that gives up leaves a thread at work; who awaits the batch next has every value of it."""

    def numbers() -> Iterator[int]:
        yield from range(1_500)
        gate.pass_first()
        yield from range(1_500, 2_500)

    batch = cache.cached(name="cancelled")(lambda number: number).map(numbers())
    waiting = asyncio.create_task(batch._wait())
    await asyncio.to_thread(gate.wait_reached)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    gate.open()

    assert list(range(2_500)) == await batch


def test_a_batch_whose_input_fails_is_never_short(cache: Cache) -> None:
    """An input that has raised gives nothing more, so a second call says so instead of giving what it has."""

    def numbers() -> Iterator[int]:
        yield from range(1_200)
        raise LookupError("no more rows")

    batch = cache.cached(name="input")(lambda number: number).map(numbers())
    with pytest.raises(LookupError, match="no more rows"):
        batch()

    with pytest.raises(UsageError, match=r"no more rows.* make a new batch"):
        batch()
    assert 1_200 == batch.done


def test_what_an_input_gave_before_it_failed_is_delivered(cache: Cache) -> None:
    """A loop gets the results of all that was read, and then the error, once; the next one is told of it."""

    def numbers() -> Iterator[int]:
        yield from range(1_200)
        raise LookupError("no more rows")

    batch = cache.cached(name="late error")(lambda number: number).map(numbers())
    taken = []
    with pytest.raises(LookupError, match="no more rows"):
        for result in batch:
            taken.append(result())

    assert list(range(1_200)) == taken
    with pytest.raises(UsageError, match=r"no more rows.* make a new batch"):
        list(batch)


async def test_loops_side_by_side_share_a_batch(cache: Cache) -> None:
    """Each result goes to one of them, also where there are fewer results than loops, in tasks and in threads."""
    f = cache.cached(name="shared")(lambda number: number)

    async def values(batch: Batch[int]) -> list[int]:
        return [await result async for result in batch]

    for count in (1, 1_200):
        batch = f.map(range(count))
        taken = await asyncio.gather(*(values(batch) for _ in range(3)))
        assert list(range(count)) == sorted(itertools.chain(*taken))
        with pytest.raises(UsageError, match=f"taken {count} results"):
            await batch

        batch = f.map(range(count))
        with threads(3) as run:
            looped = [run(lambda: [result() for result in batch]) for _ in range(3)]  # noqa: B023 - ended in this round
            assert list(range(count)) == sorted(itertools.chain(*(each.result() for each in looped)))


def test_a_call_of_a_batch_that_cannot_begin_is_no_hit(cache: Cache) -> None:
    """What was refused before it was looked up comes from here, and `hits` does not count it."""
    f = cache.cached(name="no hit")(lambda number: 1)
    f(1)
    batch = f.map([1, object()])

    assert ["hit", "inline"] == [result.source for result in batch]
    assert (1, 1) == (batch.hits, batch.failed)


def test_a_loop_goes_on_where_the_last_one_stopped(cache: Cache) -> None:
    """What it took is not kept, and no call passes the rest off as everything."""
    batch = cache.cached(name="looped")(lambda number: number).map(range(1_200))
    first = [next(iter(batch))() for _ in range(3)]
    with pytest.raises(UsageError, match="taken 3 results"):
        batch()

    assert list(range(1_200)) == first + [result() for result in batch]
    with pytest.raises(UsageError, match="taken 1200 results"):
        batch()


async def test_a_batch_that_was_called_can_be_looped_over(cache: Cache) -> None:
    """Its results are kept then: every call and every loop gives the same."""
    batch = cache.cached(name="called")(lambda number: number).map(range(3))

    assert [0, 1, 2] == batch() == [result() for result in batch] == [result() for result in batch]
    assert [0, 1, 2] == [await result async for result in batch] == await batch


async def test_a_call_that_fails_is_a_miss(cache: Cache) -> None:
    """Whoever computes and fails had no hit."""

    @cache.cached()
    def fails() -> None:
        raise LookupError

    @cache.cached()
    async def fails_too() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        fails()
    for call in (fails.aio, fails_too):
        with pytest.raises(LookupError):
            await call()

    counts = [(each.stats()["misses"], each.stats()["failed"], each.stats()["hits"]) for each in (fails, fails_too)]
    assert [(2, 2, 0), (1, 1, 0)] == counts
