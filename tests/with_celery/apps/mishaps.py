"""This is where the shop has functions that end in unusual ways, and arguments that a worker cannot find again."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

from celery import current_task

from taskcache import BoundCall, identify
from tests.with_celery.apps.shop import OutOfStock, cache, fragile, ledger


class Row:
    """Something that travels as its number, and is looked up where it arrives."""

    def __init__(self, number: int) -> None:
        self.number = number


def find(number: int) -> Row:
    """Load a row; 404 is gone."""
    if number == 404:
        raise OutOfStock("row", number)
    return Row(number)


identify(Row, key=lambda row: row.number, load=find)


@cache.cache_async(timeout=60)
def row_number(name: str, row: Row) -> int:
    ledger.enter(name)
    return row.number


@cache.cache_async(timeout=60)
def fields(name: str, /, **fields: int) -> dict[str, int]:
    """Take keywords of any name."""
    ledger.enter(name)
    return fields


@cache.cache_async(timeout=60, batch=True)
def row_numbers(calls: list[BoundCall]) -> list[int]:
    """Count the run, and how large it was."""
    ledger.enter(calls[0].args[0])
    ledger.enter(f"{calls[0].args[0]}:size:{len(calls)}")
    return [call.args[1].number for call in calls]


# A worker that runs other code has not got the second parameter yet.
if "other" in os.environ.get("SHOP_CODE", ""):

    @cache.cache_async(timeout=60)
    def grown(name: str) -> str:
        return name

else:

    @cache.cache_async(timeout=60)
    def grown(name: str, more: str = "") -> str:
        return name + more


@fragile.cache_async(timeout=60, acks_late=True, reject_on_worker_lost=False)
def exits(name: str) -> None:
    ledger.enter(name)
    sys.exit(2)


@fragile.cache_async(timeout=60, acks_late=True, reject_on_worker_lost=True)
def cancels(name: str) -> None:
    """End as an `async def` does that awaits a task which somebody cancelled."""
    ledger.enter(name)
    raise asyncio.CancelledError


@cache.cache_async(timeout=60, batch=True)
async def cancelled_among(calls: list[BoundCall]) -> list[int | BaseException]:
    """Give what a gathering gives of which one part was cancelled."""
    tasks = [asyncio.ensure_future(asyncio.sleep(0, call.args[1])) for call in calls]
    tasks[0].cancel()
    return list(await asyncio.gather(*tasks, return_exceptions=True))


@cache.cache_async(timeout=60)
def exhausted(name: str) -> str:
    """Ask for one more than there are."""
    ledger.enter(name)
    return next(iter(()))


@fragile.cache_async(timeout=60, default_retry_delay=1, max_retries=1)
def tried_again(name: str) -> str:
    """Be held up in each run; the app says that a process which dies has it tried once more."""
    run = ledger.enter(name)
    ledger.hold(f"{name}:{run}")
    return f"{name} {run}"


@fragile.cache_async(timeout=60, autoretry_for=(OutOfStock,), default_retry_delay=3, max_retries=1)
def fails_once(name: str) -> str:
    """Fail in the first run, once the gate is open."""
    run = ledger.enter(name)
    if run == 1:
        ledger.hold(name)
        raise OutOfStock(name, run)
    return f"{name} {run}"


@cache.cache_async(timeout=60)
def countdown(name: str, number: int) -> list[int]:
    """Call its own task like a function."""
    ledger.enter(name)
    return [number, *(countdown.task(name, number - 1) if number else [])]


@cache.cache_async(timeout=60)
def retries_with(name: str, number: int, *, others: str = "") -> str:
    """Retry once, with the arguments that `others` says: the same in one of two ways, or another number in one of two."""
    run = ledger.enter(name)
    task: Any = current_task._get_current_object()  # type: ignore[attr-defined]  # a proxy, to None outside of a task
    if run == 1 and others == "args":
        raise task.retry((name, number + 1), countdown=0)
    if run == 1 and others == "kwargs":
        raise task.retry(kwargs={"number": number + 1, "others": others}, countdown=0)
    if run == 1 and others == "passed on":
        raise task.retry(args=task.request.args, kwargs=task.request.kwargs, countdown=0)
    if run == 1:
        raise task.retry(args=[name, number], kwargs={"others": others}, countdown=0)
    return f"{name} {number} {run}"
