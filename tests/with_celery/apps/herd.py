"""This is where one process of a herd lives: many threads that make the same call at the same moment."""

from __future__ import annotations

import threading
from collections import Counter

from tests.with_celery.apps.shop import gated, ledger

LONG_S = 60.0


def stampede(name: str, threads: int) -> dict[str, int]:
    """Call `gated(name)` from so many threads once the gate `name:go` is open; how often each answer came."""
    answers: Counter[str] = Counter()
    barrier = threading.Barrier(threads + 1)

    def call() -> None:
        barrier.wait()
        try:
            answer = gated(name)(timeout=LONG_S)
        except Exception as error:
            answer = repr(error)
        answers[answer] += 1

    callers = [threading.Thread(target=call) for _ in range(threads)]
    for caller in callers:
        caller.start()
    ledger.enter(f"{name}:ready")
    ledger.hold(f"{name}:go")
    barrier.wait()
    for caller in callers:
        caller.join()
    return dict(answers)
