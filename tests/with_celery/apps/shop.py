"""This is where the application is that most tests here use: a function for every need, on a cache with a secret."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from typing import Any

from celery import Celery

from taskcache import Cache, Result, as_completed, current, gather, progress
from tests.with_celery.apps.ledger import Ledger

app: Any = Celery("shop", broker=os.environ["SHOP_BROKER"], backend=os.environ["SHOP_BACKEND"], set_as_current=False)
app.conf.update(
    # A worker of each pool has a queue of its own, so that nested calls stay there.
    task_default_queue=os.environ.get("SHOP_QUEUE", "shop"),
    worker_prefetch_multiplier=1,
    include=["tests.with_celery.apps.bulk", "tests.with_celery.apps.mishaps"],
    task_annotations={"tests.with_celery.apps.mishaps.tried_again": {"retry_on_worker_lost": True}},
    broker_connection_retry_on_startup=True,
    task_send_sent_event=True,
    result_expires=600,
)

ledger = Ledger(os.environ["SHOP_LEDGER"])
cache = Cache(os.environ["SHOP_CACHE"], name="shop", app=app, secret=os.environ.get("SHOP_SECRET"))
# For deaths: who waits for them is told soon.
fragile = Cache(os.environ["SHOP_CACHE"], name="fragile", app=app, secret=os.environ.get("SHOP_SECRET"), lease=2)


class OutOfStock(Exception):
    """An error of this application, with a number of its own."""

    def __init__(self, article: str, left: int) -> None:
        super().__init__(f"{article}: {left} left")
        self.article = article
        self.left = left


class Opaque:
    """Something that no codec writes: it holds a lock."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


# -- values and errors


@cache.cache_async(timeout=60)
def echo(value: Any, name: str = "echo") -> Any:
    ledger.enter(name)
    return value


@cache.cache_async(timeout=60)
def raises(name: str) -> None:
    ledger.enter(name)
    raise OutOfStock(name, 3)


@cache.cache_async(timeout=60)
async def late(value: int) -> int:
    await asyncio.sleep(0.01)
    return value + 1


@cache.cache_async(timeout=60)
async def late_error(name: str) -> None:
    await asyncio.sleep(0.01)
    raise OutOfStock(name, 4)


@cache.cache_async(timeout=60)
def opaque(name: str) -> Opaque:
    ledger.enter(name)
    return Opaque()


@cache.cache_async(timeout=60)
def takes(thing: Any) -> str:
    return type(thing).__name__


# -- bodies that are held up


@cache.cache_async(timeout=60, tags=("gated", "gated:{name}"))
def gated(name: str) -> str:
    """Give a text that says which run it was, once the gate is open."""
    run = ledger.enter(name)
    ledger.hold(name)
    return f"{name} {run}"


@cache.cache_async(timeout=60, revoke_when_abandoned=True)
def abandoned(name: str) -> str:
    run = ledger.enter(name)
    ledger.hold(name)
    return f"{name} {run}"


@cache.cache_async(timeout=60)
def told(name: str) -> str:
    """Say how far it is, and go on when it is told to."""
    ledger.enter(name)
    for done in (1, 2, 3):
        progress(done, 3, f"step {done}")
        ledger.hold(f"{name}:{done}")
    return name


@cache.cache_async(timeout=60)
def notices(name: str) -> str:
    """Run until nobody wants the value any more."""
    ledger.enter(name)
    for _ in range(3000):
        if current().is_cancelled:
            ledger.enter(f"{name}:noticed")
            return "noticed"
        time.sleep(0.01)
    return "nobody said"


# -- calls inside calls


@cache.cache_async(timeout=60)
def leaf(name: str) -> str:
    ledger.enter(f"leaf:{name}")
    return f"leaf {name}"


@cache.cache_async(timeout=60)
def branch(name: str) -> str:
    return f"branch {leaf(name)()}"


@cache.cache_async(timeout=60)
def tree(name: str) -> list[str]:
    """Two levels down, and two at a time."""
    results: list[Result[str]] = [branch(name), branch(f"{name}!")]
    return [result() for result in results]


@cache.cache_async(timeout=60)
def ping(name: str, left: int) -> list[str]:
    return ["ping", *(pong(name, left - 1)() if left else [])]


@cache.cache_async(timeout=60)
def pong(name: str, left: int) -> list[str]:
    return ["pong", *(ping(name, left - 1)() if left else [])]


@cache.cache_async(timeout=60)
def itself(name: str) -> str:
    """Call itself with the same argument, once: the same key."""
    return "inner" if ledger.enter(name) > 1 else f"outer {itself(name)()}"


@cache.cache_async(timeout=60)
async def late_tree(name: str) -> list[str]:
    """Await calls inside of a call."""
    return [await leaf(name), await (await leaf.aio(f"{name}!"))]


# -- retries and limits


@cache.cache_async(timeout=60, autoretry_for=(OutOfStock,), default_retry_delay=0, max_retries=2)
def flaky(name: str, good_run: int) -> str:
    """Fail until run `good_run`."""
    run = ledger.enter(name)
    if run < good_run:
        ledger.hold(name)
        raise OutOfStock(name, run)
    return f"{name} {run}"


@cache.cache_async(timeout=60, autoretry_for=(OutOfStock,), default_retry_delay=2, max_retries=1)
def later(name: str) -> str:
    """Succeed in the second run, which begins two seconds after the first; each adds a tag."""
    current().tags.add(f"later:{name}")
    run = ledger.enter(name)
    if run == 1:
        raise OutOfStock(name, run)
    return f"{name} {run}"


@cache.cache_async(timeout=60, time_limit=1)
def too_long(name: str) -> str:
    ledger.enter(name)
    ledger.hold(name)
    return name


@cache.cache_async(timeout=60, soft_time_limit=1)
def rather_long(name: str) -> str:
    ledger.enter(name)
    ledger.hold(name)
    return name


# -- on the quick cache


@fragile.cache_async(timeout=60)
def mortal(name: str) -> str:
    run = ledger.enter(name)
    ledger.hold(name)
    return f"{name} {run}"


@fragile.cache_async(timeout=60, acks_late=True, reject_on_worker_lost=True)
def redelivered(name: str) -> str:
    run = ledger.enter(name)
    ledger.hold(name)
    return f"{name} {run}"


# -- canvas


@cache.cache_async(timeout=60)
def add(x: int, y: int, name: str = "add") -> int:
    ledger.enter(name)
    return x + y


@cache.cache_async(timeout=60)
def total(numbers: list[int], name: str = "total") -> int:
    ledger.enter(name)
    return sum(numbers)


# A worker that runs older code does not have this one; one that runs other code makes other keys of that one.
if "old" not in os.environ.get("SHOP_CODE", ""):

    @cache.cache_async(timeout=60)
    def newest(name: str) -> str:
        return name


@cache.cache_async(timeout=60, version=2 if "other" in os.environ.get("SHOP_CODE", "") else 1)
def versioned(name: str) -> str:
    return name


@cache.cache_async(timeout=60)
def nested_flaky(name: str) -> str:
    return f"nested {flaky(name, 2)()}"


@cache.cache_async(timeout=60)
def several(name: str) -> list[list[str]]:
    """Wait for several calls inside of a call, in both ways."""
    gathered = gather(leaf(f"{name}:{number}") for number in range(3))
    completed = as_completed([leaf(f"{name}:{number}") for number in range(3, 6)])
    return [gathered(), sorted(result() for result in completed)]


@cache.cache_async(timeout=60)
async def late_several(name: str) -> list[list[str]]:
    """Await several calls inside of a call, in both ways."""
    gathered = gather(leaf(f"{name}:{number}") for number in range(3))
    completed = as_completed([leaf(f"{name}:{number}") for number in range(3, 6)])
    return [await gathered, sorted([await result async for result in completed])]
