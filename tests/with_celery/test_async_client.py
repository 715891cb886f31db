"""This is where a coroutine is the caller: its calls, its waits and its cancellation leave the loop and others alone."""

from __future__ import annotations

import asyncio
import importlib
import threading
import time
from types import ModuleType
from typing import Any

import pytest

from taskcache import Cancelled, NotReady, gather

pytestmark = pytest.mark.usefixtures("shop", "worker")

LONG = 30


async def test_a_call_is_awaited_twice(shop: ModuleType, name: str) -> None:
    """`await fn.aio(...)` begins the call, awaiting its result gives the value; the second call is a hit."""
    result = await shop.echo.aio({"a": 1}, name)
    assert {"a": 1} == await result
    hit = await shop.echo.aio({"a": 1}, name)

    assert ({"a": 1}, "hit") == (hit(block=False), hit.source)
    assert 1 == shop.ledger.runs(name)


async def test_a_plain_call_can_be_awaited(shop: ModuleType, name: str) -> None:
    """`await fn(...)` works as well; an `async def` function gives its value, not its coroutine."""
    assert "plain" == await shop.echo("plain", name)
    assert 42 == await shop.late(41)


async def test_a_stop_iteration_leaves_nobody_waiting(shop: ModuleType, name: str) -> None:
    """No coroutine can raise it, so it is the cause of a RuntimeError there, in whatever way the result is awaited."""
    exhausted = importlib.import_module("tests.with_celery.apps.mishaps").exhausted
    with pytest.raises(StopIteration):
        exhausted(name)(timeout=LONG)
    result = exhausted(f"{name}!")
    for awaited in (result, gather([result]), exhausted.map([f"{name}?"]), asyncio.wrap_future(result.future())):
        with pytest.raises(RuntimeError, match="raised StopIteration") as caught:
            await asyncio.wait_for(awaited, LONG)
        assert isinstance(caught.value.__cause__, StopIteration)


async def test_an_error_reaches_the_one_who_awaits(shop: ModuleType, name: str) -> None:
    """Type, message and remote traceback are those of the worker, at each await."""
    result = await shop.raises.aio(name)
    for _ in range(2):
        with pytest.raises(shop.OutOfStock, match="3 left") as caught:
            await result
    assert "raise OutOfStock" in str(caught.value.__cause__)


async def test_five_hundred_calls_at_once(shop: ModuleType, name: str) -> None:
    """Many different calls of one loop: begun together, awaited together, with a bounded number of threads."""
    before = threading.active_count()
    results = await asyncio.gather(*(shop.echo.aio(number, name) for number in range(500)))
    most = threading.active_count()
    values = await asyncio.wait_for(asyncio.gather(*(_awaited(result) for result in results)), LONG)

    assert list(range(500)) == values
    assert 500 == shop.ledger.runs(name)
    # asyncio's own pool for blocking work, which sends the messages, and ours for dispatch and inbox.
    assert most - before <= 40


async def test_five_hundred_calls_of_one_key_compute_once(shop: ModuleType, name: str) -> None:
    """A herd of coroutines is one computation."""
    calls = asyncio.gather(*(_called(shop, name) for _ in range(500)))
    await asyncio.to_thread(shop.ledger.wait_runs, name)
    shop.ledger.open(name)

    assert {f"{name} 1"} == set(await asyncio.wait_for(calls, LONG))
    assert 1 == shop.ledger.runs(name)


async def test_gathered_results_are_awaited_as_one(shop: ModuleType, name: str) -> None:
    """taskcache's own gather is awaitable."""
    results = [await shop.echo.aio(number, name) for number in range(5)]

    assert [0, 1, 2, 3, 4] == await gather(results)


async def test_one_cancelled_awaiter_leaves_the_others(shop: ModuleType, name: str) -> None:
    """Cancelling a task that awaits ends its wait alone: not the others', and not the computation."""
    result = await shop.gated.aio(name)
    leaving, staying = asyncio.ensure_future(_awaited(result)), asyncio.ensure_future(_awaited(result))
    other = asyncio.ensure_future(_called(shop, name))
    await asyncio.to_thread(shop.ledger.wait_runs, name)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    shop.ledger.open(name)

    assert {f"{name} 1"} == set(await asyncio.wait_for(asyncio.gather(staying, other), LONG))
    assert 1 == shop.ledger.runs(name)


async def test_a_result_that_is_cancelled_tells_who_awaits_it(shop: ModuleType, name: str) -> None:
    """`result.cancel()` ends every await of that result with Cancelled."""
    result = await shop.gated.with_options(queue="served by nobody").aio(name)
    waiting = asyncio.ensure_future(_awaited(result))
    await asyncio.sleep(0)
    result.cancel()

    with pytest.raises(Cancelled):
        await asyncio.wait_for(waiting, LONG)


async def test_the_loop_goes_on_while_calls_wait(shop: ModuleType, name: str) -> None:
    """Neither calling nor awaiting blocks the loop for long."""
    longest = 0.0
    stop = asyncio.Event()

    async def beat() -> None:
        nonlocal longest
        while not stop.is_set():
            began = time.monotonic()
            await asyncio.sleep(0.005)
            longest = max(longest, time.monotonic() - began)

    await (await shop.echo.aio("opens what is opened once"))
    beating = asyncio.ensure_future(beat())
    result = await shop.gated.aio(name)
    waiting = asyncio.ensure_future(_awaited(result))
    await asyncio.to_thread(shop.ledger.wait_runs, name)
    await asyncio.sleep(1.5)  # the subject: a second and a half of waiting, watchdog and all
    await asyncio.to_thread(shop.ledger.open, name)

    assert f"{name} 1" == await asyncio.wait_for(waiting, LONG)
    stop.set()
    await beating
    assert longest < 0.5


async def test_a_wait_may_end_before_the_value(shop: ModuleType, name: str) -> None:
    """`asyncio.wait_for` and `wait(timeout=)` end the wait only."""
    result = await shop.gated.aio(name)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(_awaited(result), 0.05)
    with pytest.raises(NotReady):
        await result.wait(timeout=0.05)
    shop.ledger.open(name)

    assert f"{name} 1" == await asyncio.wait_for(_awaited(result), LONG)


async def test_verbs_are_awaitable(shop: ModuleType, name: str) -> None:
    """peek, put, bust, join, refresh: the same verbs as without `aio`."""
    assert None is await shop.gated.aio.peek(name)
    assert None is await shop.gated.aio.join(name)
    result = await shop.gated.aio(name)
    joined = await shop.gated.aio.join(name)
    shop.ledger.open(name)
    assert f"{name} 1" == await result == await joined
    assert f"{name} 1" == (await shop.gated.aio.peek(name)).value
    assert 1 == await shop.gated.aio.bust(name)
    assert f"{name} 2" == await (await shop.gated.aio.refresh(name))
    await shop.gated.aio.put("put", name)
    assert "put" == await shop.gated(name)
    found = await shop.cache.aio.result(result.id)
    assert "put" == await found


def test_each_loop_is_served(shop: ModuleType, name: str) -> None:
    """Several `asyncio.run`s after each other, and loops in several threads, each have their own connections."""
    assert [0, 1] == [asyncio.run(_echoed(shop, number, name)) for number in range(2)]
    values: list[int] = []
    threads = [
        threading.Thread(target=lambda number=number: values.append(asyncio.run(_echoed(shop, number, name))))
        for number in range(2, 6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)

    assert [2, 3, 4, 5] == sorted(values)


async def _awaited(result: Any) -> Any:
    return await result


async def _called(shop: ModuleType, name: str) -> Any:
    return await (await shop.gated.aio(name))


async def _echoed(shop: ModuleType, number: int, name: str) -> Any:
    return await (await shop.echo.aio(number, name))
