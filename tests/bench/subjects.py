"""
This is where a profiler finds something to look at: one thing done again and again, for some seconds.

    py-spy record -r 500 -o hit.svg -- python -m tests.bench.subjects hit 10
    py-spy record -r 500 -o miss.svg --subprocesses -- python -m tests.bench.subjects miss 10
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from typing import Any

from tests.bench.functions import named, named_async, ours
from tests.bench.ground import IMAGE, PAGE, QUICK, SECRET, SMALL, Ground
from tests.bench.processes import told, workers
from tests.nodes import guard
from tests.nodes.server import ValkeyNode

# About as many calls as a worker of this benchmark answers in a second.
MISSES_A_SECOND = 100


def main(subject: str, seconds: str = "10") -> None:
    """Do `subject` for so many seconds."""
    with ValkeyNode() as server:
        SUBJECTS[subject](Ground(server, QUICK), float(seconds))
    guard.close()


def _repeat(work: Callable[[], object], seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for _ in range(20):
            work()


def _hit(value: Any, call_options: dict[str, Any] | None = None, **options: Any) -> Callable[[Ground, float], None]:
    def run(ground: Ground, seconds: float) -> None:
        with ours(ground, **options) as cache:
            call = cache.cached(name="subject", version=1, **(call_options or {}))(named("subject", value))
            call(42, "hello")
            _repeat(lambda: call(42, "hello"), seconds)

    return run


def _get_many(ground: Ground, seconds: float) -> None:
    with ours(ground) as cache:
        data = {f"subject:{number}": {**SMALL, "id": number} for number in range(ground.scale.many)}
        cache.set_many(data)
        _repeat(lambda: cache.get_many(list(data)), seconds)


def _set_many(ground: Ground, seconds: float) -> None:
    with ours(ground) as cache:
        data = {f"subject:{number}": {**SMALL, "id": number} for number in range(ground.scale.many)}
        _repeat(lambda: cache.set_many(data), seconds)


def _map(ground: Ground, seconds: float) -> None:
    with ours(ground) as cache:
        call = cache.cached(name="subject", version=1)(lambda number: SMALL)
        _repeat(lambda: call.map(range(ground.scale.many))(), seconds)


def _coroutines(ground: Ground, seconds: float) -> None:
    async def run() -> None:
        async with ours(ground) as cache:
            call: Any = cache.cached(name="subject", version=1)(named_async("subject", SMALL))
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                await asyncio.gather(*(call(number, "hello") for number in range(ground.scale.many)))

    asyncio.run(run())


def _miss(ground: Ground, seconds: float) -> None:
    with workers(ground, "threads"):
        told(ground, "threads", "misses", int(seconds * MISSES_A_SECOND))


SUBJECTS: dict[str, Callable[[Ground, float], None]] = {
    "hit": _hit(SMALL),
    "signed": _hit(SMALL, secret=SECRET),
    "page": _hit(PAGE),
    "image": _hit(IMAGE),
    "near": _hit(SMALL, {"near": True}),
    "get_many": _get_many,
    "set_many": _set_many,
    "map": _map,
    "coroutines": _coroutines,
    "miss": _miss,
}


if __name__ == "__main__":
    main(*sys.argv[1:])
