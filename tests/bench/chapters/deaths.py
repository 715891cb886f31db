"""This is where a worker is killed under a running computation, and its waiter gets the value from another one."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator

import redis

from tests.bench.goals import Outcome, budget
from tests.bench.ground import LEDGER_DB, Ground
from tests.bench.measure import Spread
from tests.bench.processes import PATIENCE_S, Program, workers
from tests.nodes.waiting import wait_until
from tests.nodes.workers import WorkerNode

PREFIX = "deaths-"
QUEUE = f"{PREFIX}threads"


def deaths(ground: Ground) -> Iterator[Outcome]:
    """
    From SIGKILL of the worker to the waiter's value or reason, at the default lease of 5 s; the worst of several.

    Celery alone has no number for this row: with its defaults the waiter of a killed worker waits for ever.
    """
    count = ground.scale.deaths
    if not count:
        yield budget("death", None, "not in this run")
        return
    # One more than are to die: somebody has to compute it in the end.
    with workers(ground, *["threads"] * (count + 1), prefix=PREFIX) as nodes:
        ends = [_death(ground, nodes) for _ in range(count)]
    seconds = [second for second, _ in ends]
    yield budget("death", Spread(max(seconds), min(seconds), max(seconds)), ", ".join(sorted({end for _, end in ends})))


def _death(ground: Ground, nodes: list[WorkerNode]) -> tuple[float, str]:
    name = f"death-{uuid.uuid4().hex[:8]}"
    program = Program(ground.environment(QUEUE), "death", name)
    try:
        with redis.Redis.from_url(ground.url(LEDGER_DB)) as ledger:
            pid = int(wait_until(lambda: ledger.get(f"{name}:pid"), "a worker to have begun", PATIENCE_S))
        victim = next(node for node in nodes if node.is_running and node.pid == pid)
        killed_at = time.monotonic()
        victim.kill()
        told = program.result()
    finally:
        program.close()
    return told["had"] - killed_at, told["outcome"]
