"""This is where calls that come while the cache is away are brought to wait for each other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from taskcache import Cache
from tests.nodes.waiting import wait_until
from tests.with_redis.gate import Gate

Run = Callable[[Callable[[], Any]], Future[Any]]


def waiting(cache: Cache) -> int:
    """How many calls wait to begin; no public number tells it, and a guess would test nothing."""
    return sum(1 + turn.followers for turn in list(cache.alone.turns.values()) if not turn.has_begun)


def behind_one(
    cache: Cache, gate: Gate, run: Run, call: Callable[[], Any], callers: int
) -> tuple[Future[Any], list[Future[Any]]]:
    """One call that computes, held at the gate, and others that came after it had begun."""
    first = run(call)
    gate.wait_reached()
    others = [run(call) for _ in range(callers)]
    wait_until(lambda: waiting(cache) == callers, f"{callers} calls to wait", timeout=30)
    return first, others


async def until(condition: Callable[[], object]) -> None:
    """Let the others of this loop go on until something is true."""
    while not condition():
        await asyncio.sleep(0.001)
