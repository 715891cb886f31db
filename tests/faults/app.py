"""This is where the functions are that faults befall, each with a plain Celery task of the same body beside it."""

from __future__ import annotations

import ctypes
import json
import os
import time
from collections.abc import Callable
from typing import Any

from celery import Celery
from celery.exceptions import Ignore, Reject
from msgspec.structs import replace

from taskcache import Cache
from taskcache.events import Event, listen
from tests.faults.words import BRIEF_LEASE_S, LEASE_S
from tests.with_celery.apps.ledger import Ledger

app: Any = Celery("faults", broker=os.environ["FAULTS_BROKER"], backend=os.environ["FAULTS_BACKEND"])
app.conf.update(
    task_default_queue=os.environ.get("FAULTS_QUEUE", "faults"),
    broker_connection_retry_on_startup=True,
    result_expires=600,
    **{"worker_prefetch_multiplier": 1, **json.loads(os.environ.get("FAULTS_CONF", "{}"))},
)

ledger = Ledger(os.environ["FAULTS_LEDGER"])
secret = os.environ.get("FAULTS_SECRET")
cache = Cache(os.environ["FAULTS_CACHE"], name="faults", app=app, secret=secret, lease=LEASE_S)
brief = Cache(os.environ["FAULTS_CACHE"], name="brief", app=app, secret=secret, lease=BRIEF_LEASE_S)
if "FAULTS_PATIENCE" in os.environ:
    cache.settings = replace(cache.settings, publish_patience_ms=int(float(os.environ["FAULTS_PATIENCE"]) * 1000))
CODE = os.environ.get("FAULTS_CODE", "")


def _note(event: Event) -> None:
    """Enter each value that its fence refused in the ledger, with the process that offered it."""
    if event.kind == "refused":
        ledger.enter(f"refused {event.key}")


listen(_note)


def both(own: Cache = cache, more: dict[str, Any] | None = None, **options: Any) -> Callable[[Any], Any]:
    """Make a body a `cache_async` function with these options, and a plain Celery task with the same."""

    def decorate(body: Any) -> Any:
        app.task(name=f"plain.{body.__name__}", **options)(body)
        return own.cache_async(timeout=60, **options, **(more or {}))(body)

    return decorate


def run(name: str) -> str:
    """Enter the ledger and wait for the gate; the value says which run it was."""
    number = ledger.enter(name)
    ledger.hold(name)
    return f"{name} {number}"


# -- bodies that are held up until the scenario opens their gate


@both()
def held(name: str) -> str:
    return run(name)


@both(acks_late=True)
def held_late(name: str) -> str:
    return run(name)


@both(acks_late=True, reject_on_worker_lost=True)
def held_requeued(name: str) -> str:
    return run(name)


@both(time_limit=1)
def limited(name: str) -> str:
    return run(name)


@both(soft_time_limit=1)
def softly_limited(name: str) -> str:
    return run(name)


@both(expires=1)
def expiring(name: str) -> str:
    return run(name)


@both(more={"inline_after": 1})
def inline(name: str) -> str:
    return run(name)


@both(more={"on_broker_error": "inline"})
def brokerless(name: str) -> str:
    return run(name)


@both(autoretry_for=(KeyError,), default_retry_delay=1, max_retries=1)
def retried(name: str) -> str:
    number = ledger.enter(name)
    if number == 1:
        raise KeyError(name)
    return f"{name} {number}"


@both()
def rejecting(name: str) -> str:
    run(name)
    raise Reject("not today", requeue=False)


@both(acks_late=True)
def returning(name: str) -> str:
    number = ledger.enter(name)
    if number == 1:
        raise Reject("not yet", requeue=True)
    return f"{name} {number}"


@both()
def ignoring(name: str) -> str:
    run(name)
    raise Ignore


# -- bodies that end by themselves


@both(brief)
def long(name: str) -> str:
    """Ten leases of sleep."""
    number = ledger.enter(name)
    time.sleep(10 * BRIEF_LEASE_S)
    return f"{name} {number}"


@both(brief)
def gripping(name: str) -> str:
    """Three leases in C that never let go of the GIL: no thread of this process runs meanwhile."""
    number = ledger.enter(name)
    ctypes.PyDLL(None).usleep(int(3 * BRIEF_LEASE_S * 1_000_000))
    return f"{name} {number}"


@both()
def sizeable(name: str) -> bytes:
    """Five megabytes that cannot be compressed, once the gate is open."""
    return run(name).encode() + b" " + os.urandom(5_000_000)


# -- calls inside calls, and canvas


@cache.cache_async(timeout=60)
def leaf(name: str) -> str:
    return run(name)


@cache.cache_async(timeout=60)
def branch(name: str) -> str:
    return leaf(name)()


@cache.cache_async(timeout=60)
def tree(name: str) -> str:
    return branch(name)()


@cache.cache_async(timeout=60)
def ping(name: str, left: int = 3) -> str:
    return pong(name, left - 1)() if left else run(name)


@cache.cache_async(timeout=60)
def pong(name: str, left: int = 3) -> str:
    return ping(name, left - 1)() if left else run(name)


@cache.cache_async(timeout=60)
def itself(name: str) -> str:
    number = ledger.enter(name)
    return f"{name} {number}" if number > 1 else itself(name)()


@cache.cache_async(timeout=60)
def part(name: str, number: int) -> int:
    ledger.enter(name)
    return number


@cache.cache_async(timeout=60)
def total(parts: list[int], name: str) -> str:
    return f"{name} {sum(parts)}"


# -- computed in the process that asks


@cache.cached(timeout=60)
def here(name: str) -> str:
    return run(name)


# A worker that runs older code does not have this one; one that runs other code makes other keys of that one.
if CODE != "old":

    @both()
    def newest(name: str) -> str:
        return run(name)


@both(more={"version": 2 if CODE == "other" else 1})
def versioned(name: str) -> str:
    return run(name)
