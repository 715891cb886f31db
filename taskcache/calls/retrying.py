"""This is where a function that is computed in place is tried again the way Celery would, by its own options."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from msgspec import Struct

from taskcache.codec.pickling import is_interruption

T = TypeVar("T")

# Celery's own defaults.
TRIES: Final = 3
DELAY_S: Final = 180.0
LONGEST_DELAY_S: Final = 600.0


class Plan(Struct, frozen=True):
    """How often a failed body is tried again (None: without end), and how long after this try."""

    max_retries: int | None
    countdown: float


def plan(options: Mapping[str, Any], retries: int) -> Plan:
    """What Celery's options say after `retries` retries."""
    given = options.get("retry_kwargs") or {}
    most = given.get("max_retries", options.get("max_retries", TRIES))
    if options.get("retry_backoff"):
        longest = options.get("retry_backoff_max", LONGEST_DELAY_S)
        countdown = min(longest, int(max(1.0, options["retry_backoff"])) * 2**retries)
        if options.get("retry_jitter", True):
            countdown = random.randrange(int(countdown) + 1)
        return Plan(most, float(countdown))
    return Plan(most, float(given.get("countdown", options.get("default_retry_delay", DELAY_S))))


def tried(options: Mapping[str, Any], compute: Callable[[], T]) -> T:
    """Compute, and again after an error that `autoretry_for` names; the slot that waits meanwhile would wait anyway."""
    retried = tuple(options.get("autoretry_for", ()))
    never = tuple(options.get("dont_autoretry_for", ()))
    retries = 0
    while True:
        try:
            return compute()
        except retried as error:
            if is_interruption(error):
                raise  # the task that computes here is at its limit: to sleep in its slot is what it has no time for
            planned = plan(options, retries)
            most = planned.max_retries
            if isinstance(error, never) or (most is not None and retries >= most):
                raise
        retries += 1
        time.sleep(planned.countdown)
