"""This is where the application is that the workers of the benchmark run: the same body as our task and as Celery's own."""

from __future__ import annotations

import functools
import os
import time
from typing import Any

import redis
from celery import Celery

from taskcache import Cache
from tests.bench import bare
from tests.bench.floor import RawSocket
from tests.nodes.waiting import wait_until

app: Any = Celery("bench", broker=os.environ["BENCH_BROKER"], backend=os.environ["BENCH_BACKEND"], set_as_current=False)
# The rest is Celery's default, which is also its best documented way to get a result: Redis as backend, whose results are
# pushed over pub/sub and not polled for.
app.conf.update(
    task_default_queue=os.environ["BENCH_QUEUE"],
    broker_connection_retry_on_startup=True,
    result_expires=600,
    # A body that waits must not hold back one that was fetched with it.
    worker_prefetch_multiplier=1,
)
# Everything on: signed messages and signed values.
cache = Cache(os.environ["BENCH_CACHE"], name="bench", app=app, secret=os.environ["BENCH_SECRET"])
# A pool that waits: redis-py's default one refuses the hundred and first thread.
ledger = redis.Redis.from_pool(redis.BlockingConnectionPool.from_url(os.environ["BENCH_LEDGER"], timeout=60))

LEDGER_S = 600


@app.task  # type: ignore[untyped-decorator]  # `app` is Any: Celery's stubs do not know set_as_current
def plain(number: int) -> float:
    """Celery's own task; the value is when its body ended, on the clock that all processes of a machine share."""
    return time.monotonic()


@cache.cache_async(timeout=60, name="bench.led")
def led(number: int) -> float:
    """The same as a task of ours."""
    return time.monotonic()


store = redis.Redis.from_url(os.environ["BENCH_CACHE"])


@functools.cache
def raw() -> RawSocket:
    """The floor's connection, made where it is used: one call is under way at a time."""
    return RawSocket.of(os.environ["BENCH_CACHE"])


@app.task(bind=True, ignore_result=True)  # type: ignore[untyped-decorator]  # as above
def floor(self: Any, number: int, signature: str) -> None:
    """The floor: what any cache has to do whose computations are Celery's tasks, and no more than that."""
    bare.compute(raw(), self.request.id, number, signature)


def told(what: str) -> int:
    """The value of a counter in the ledger."""
    return int(ledger.get(what) or 0)


def tell(what: str, amount: int = 1) -> int:
    """Add to a counter in the ledger."""
    with ledger.pipeline() as pipeline:
        pipeline.incrby(what, amount)
        pipeline.expire(what, LEDGER_S)
        return int(pipeline.execute()[0])


@cache.cache_async(timeout=60, name="bench.gated")
def gated(name: str) -> float:
    """Wait until the one who measures opens the gate; the value is when that was noticed."""
    tell(f"{name}:executions")
    wait_until(lambda: told(f"{name}:open"), "the gate to open", timeout=120)
    return time.monotonic()


@cache.cache_async(timeout=60, name="bench.mortal")
def mortal(name: str) -> int:
    """The first run never ends by itself: its worker is going to be killed. The second one gives its number."""
    run = tell(f"{name}:runs")
    if run == 1:
        ledger.set(f"{name}:pid", os.getpid(), ex=LEDGER_S)
        time.sleep(LEDGER_S)  # the second run comes after the first is dead
    return run
