"""This is where the application is whose messages are caught on their way; its worker notes each one that it refuses."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery
from celery.signals import worker_init

from taskcache import BoundCall, Cache, events
from tests.with_celery.apps.ledger import Ledger

app: Any = Celery("mailed", broker=os.environ["ATTACKED_BROKER"], backend="disabled://", set_as_current=False)
app.conf.update(task_default_queue="mailed", worker_prefetch_multiplier=1, broker_connection_retry_on_startup=True)
ledger = Ledger(os.environ["ATTACKED_LEDGER"])
cache = Cache(os.environ["ATTACKED_CACHE"], name="mailed", app=app, secret=os.environ.get("ATTACKED_SECRET"))


@worker_init.connect
def note_refused(**_: Any) -> None:
    """Count what the worker does not trust: all of it, and by key."""

    def note(event: events.Event) -> None:
        if event.kind == "untrusted":
            ledger.enter("untrusted")
            ledger.enter(f"untrusted:{event.key}")

    events.listen(note)


@cache.cache_async(timeout=60)
def single(text: str, number: int) -> int:
    """Be called with a text that nobody may log."""
    ledger.enter(f"mailed:{number}")
    return 2 * number


@cache.cache_async(timeout=60, batch=True)
def together(calls: list[BoundCall]) -> list[int]:
    """Give the same for many calls at once."""
    return [single.origin.fn(*call.args) for call in calls]
