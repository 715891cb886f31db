"""This is where the application is that these tests attack: a worker, and the callers, each with a secret."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from celery import Celery

from taskcache import Cache, current, progress
from tests.with_celery.apps.ledger import Ledger

# A password in the address of the broker is as secret as the cache's.
app: Any = Celery("attacked", broker=os.environ["ATTACKED_BROKER"], backend="disabled://", set_as_current=False)
app.conf.update(
    task_default_queue="attacked",
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
    # Flower's events are on, so that what they make the worker say is looked at too.
    worker_send_task_events=True,
)
# Celery shares tasks between all apps of a process: who makes another app with these functions gives them other names.
NAMES = os.environ.get("ATTACKED_NAMES", "attacked")
ledger = Ledger(os.environ["ATTACKED_LEDGER"])
cache = Cache(os.environ["ATTACKED_CACHE"], name="cache", app=app, secret=os.environ.get("ATTACKED_SECRET"))


class Tired(Exception):
    """The error of a body, which says nothing about its arguments."""


class Parcel:
    """Something that only a pickle carries, and only where there is a secret."""

    def __init__(self, content: str) -> None:
        self.content = content

    def __cache_key__(self) -> str:
        return self.content


@cache.cache_async(name=f"{NAMES}.double", timeout=60)
def double(number: int) -> int:
    ledger.enter(f"double:{number}")
    return 2 * number


@cache.cache_async(timeout=60)
def triple(number: int) -> int:
    ledger.enter(f"triple:{number}")
    return 3 * number


@cache.cache_async(timeout=60)
def wraps(text: str, answer: str) -> dict[str, Any]:
    """Give a value that the typed codec writes, with something of both arguments in it."""
    return {"answer": answer, "length": len(text)}


@cache.cache_async(timeout=60, tags=("parcels",))
def opens(parcel: Parcel) -> Parcel:
    """Take and give what only a pickle carries."""
    current().tags.add("opened")
    return Parcel(parcel.content[::-1])


@cache.cache_async(timeout=60)
def fails(text: str) -> str:
    raise Tired(f"a text of {len(text)} letters is too long")


@cache.cache_async(name=f"{NAMES}.retried", timeout=60, autoretry_for=(Tired,), default_retry_delay=0, max_retries=2)
def retried(name: str) -> str:
    """Fail in the first run."""
    if ledger.enter(name) == 1:
        raise Tired("once more")
    return name[::-1]


@cache.cache_async(name=f"{NAMES}.held", timeout=60)
def held(name: str) -> str:
    """Say that it is half way, and go on when it is told to."""
    ledger.enter(name)
    progress(1, 2, "half way")
    ledger.hold(name)
    return name[::-1]


@cache.cache_async(timeout=60)
def dies(name: str) -> str:
    """Kill the process it runs in, the first time."""
    if ledger.enter(name) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)
    return name[::-1]


@cache.cache_async(timeout=60, time_limit=1)
def too_long(name: str) -> str:
    ledger.enter(name)
    ledger.hold(name)
    return name


@cache.cache_async(timeout=60)
def unstorable(text: str) -> Any:
    return (part for part in text)


@cache.cache_async(timeout=60, key_fn=lambda args, kwargs: f"keyed:{args[0]}")
def keyed(number: int) -> int:
    """Have a key function that fails for a call without arguments."""
    return number
