"""This is where the shop has functions that are called many at a time: in chunks, and in batches."""

from __future__ import annotations

import asyncio
import ctypes
import os
from typing import Any

from celery import current_task

from taskcache import BoundCall, NoServer, current, progress
from tests.with_celery.apps.shop import OutOfStock, cache, fragile, ledger


def note(name: str, number: Any) -> int:
    """Count this run of one call, and the message that it came in."""
    task: Any = current_task._get_current_object()  # type: ignore[attr-defined]  # a proxy, to None outside of a task
    ledger.enter(f"{name}:message:{task and task.request.id}")
    ledger.enter(name)
    return ledger.enter(f"{name}:{number}")


@cache.cache_async(timeout=60)
def part(name: str, number: int) -> int:
    """Wait for the gate of its number, if it has one; 13 fails, and 14 as a cache that is away."""
    note(name, number)
    if number >= 100:
        ledger.hold(f"{name}:{number}")
    if number == 13:
        raise OutOfStock(name, number)
    if number == 14:
        raise NoServer("another cache than ours")
    return number * 10


@cache.cache_async(timeout=60)
def cut_off(name: str) -> None:
    """Use another cache, which is away."""
    ledger.enter(name)
    ledger.hold(name)
    raise NoServer("another cache than ours")


@cache.cache_async(timeout=60, revoke_when_abandoned=True)
def fickle(name: str, number: int) -> int:
    note(name, number)
    ledger.hold(name)
    return number * 10


@cache.cache_async(timeout=60, autoretry_for=(OutOfStock,), default_retry_delay=0, max_retries=3)
def stubborn(name: str, number: int) -> int:
    """Odd numbers succeed in the second run."""
    if note(name, number) == 1 and number % 2:
        raise OutOfStock(name, number)
    return number * 10


@fragile.cache_async(timeout=60, acks_late=True, reject_on_worker_lost=True)
def safe(name: str, number: int) -> list[int]:
    """Say which run it was; number 3 is held up in its first one."""
    run = note(name, number)
    if number == 3 and run == 1:
        ledger.hold(name)
    return [number, run]


@fragile.cache_async(timeout=60)
def unsafe(name: str, number: int) -> list[int]:
    run = note(name, number)
    if number == 3 and run == 1:
        ledger.hold(name)
    return [number, run]


@fragile.cache_async(timeout=60, autoretry_for=(OutOfStock,), default_retry_delay=7)
def unsafe_stubborn(name: str, number: int) -> list[int]:
    """Number 1 fails once and is tried again after a child that dies is missed; number 3 is held up."""
    run = note(name, number)
    if number == 1 and run == 1:
        raise OutOfStock(name, number)
    if number == 3 and run == 1:
        ledger.hold(name)
    return [number, run]


@fragile.cache_async(timeout=60)
def gripping(name: str, number: int) -> list[int]:
    """Number 2 keeps the GIL for two leases: no thread of its process runs meanwhile."""
    run = note(name, number)
    if number == 2:
        ctypes.PyDLL(None).usleep(4_000_000)
    return [number, run]


@fragile.cache_async(timeout=60, time_limit=1)
def limited(name: str, number: int) -> list[int]:
    """Three calls have three seconds together; the second takes for ever in its first run."""
    run = note(name, number)
    if number == 1:
        ledger.hold(name)
    return [number, run]


@cache.cache_async(timeout=60)
def circle(name: str) -> list[str]:
    """Call itself with the same argument among others, once: the same key."""
    if ledger.enter(name) > 1:
        return ["inner"]
    return [text for texts in circle.map([name], chunk=2)() for text in texts]


# -- batches


def together(calls: list[BoundCall], size: str) -> list[int]:
    """Count the run of a batch, and note how large it was."""
    name = calls[0].args[0]
    ledger.enter(name)
    ledger.enter(f"{name}:{size}:{len(calls)}")
    return [call.args[1] for call in calls]


@cache.cache_async(timeout=60, batch=True)
def prices(calls: list[BoundCall]) -> list[int | Exception]:
    """13 is out of stock; 666 breaks the whole batch."""
    numbers = together(calls, "size")
    if 666 in numbers:
        raise OutOfStock("all", 666)
    if any(number >= 100 for number in numbers):
        ledger.hold(calls[0].args[0])
    return [
        OutOfStock("one", number) if number == 13 else number * call.kwargs.get("times", 10)
        for number, call in zip(numbers, calls, strict=True)
    ]


@cache.cache_async(timeout=60, batch=True)
async def late_prices(calls: list[BoundCall]) -> list[int]:
    await asyncio.sleep(0.01)
    return [number * 10 for number in together(calls, "size")]


@cache.cache_async(timeout=60, batch=True)
def forgetful(calls: list[BoundCall]) -> list[int]:
    """Lose the last one."""
    return together(calls, "size")[:-1]


@cache.cache_async(timeout=60, batch=True)
def unordered(calls: list[BoundCall]) -> Any:
    return set(together(calls, "size"))


@cache.cache_async(timeout=60, batch=True, autoretry_for=(OutOfStock,), default_retry_delay=0, max_retries=2)
def stubborn_prices(calls: list[BoundCall]) -> list[int]:
    """Succeed in the second run."""
    numbers = together(calls, "size")
    if ledger.runs(calls[0].args[0]) == 1:
        raise OutOfStock("all", len(numbers))
    return [number * 10 for number in numbers]


@cache.cache_async(timeout=60, batch=True, autoretry_for=(OutOfStock,), default_retry_delay=0, max_retries=1)
def hopeless_prices(calls: list[BoundCall]) -> list[int]:
    raise OutOfStock("all", len(together(calls, "size")))


@cache.cache_async(timeout=60, batch=True)
def counted_prices(calls: list[BoundCall]) -> list[int]:
    """Tell how far it is, and add a tag to every value."""
    numbers = together(calls, "size")
    current().tags.add(f"bulk:{calls[0].args[0]}")
    progress(1, 2, "half of it")
    ledger.hold(calls[0].args[0])
    return [number * 10 for number in numbers]


@cache.cache_async(timeout=60, batch=True)
def pids(calls: list[BoundCall]) -> list[int]:
    together(calls, "size")
    return [os.getpid()] * len(calls)


@fragile.cache_async(timeout=60, batch=True, acks_late=True, reject_on_worker_lost=True)
def safe_prices(calls: list[BoundCall]) -> list[list[int]]:
    """Say which run it was; the first one is held up."""
    numbers = together(calls, "size")
    run = ledger.runs(calls[0].args[0])
    if run == 1:
        ledger.hold(f"{calls[0].args[0]}:gate")
    return [[number, run] for number in numbers]
