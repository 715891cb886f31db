"""This is where a herd meets a cold key: many callers in several processes, one worker, one execution."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack

import redis

from tests.bench.goals import Curve, Outcome, budget
from tests.bench.ground import LEDGER_DB, Ground
from tests.bench.measure import Spread, percentile
from tests.bench.processes import PATIENCE_S, Program, workers
from tests.nodes.waiting import wait_until

QUEUE = "herd-"


def herds(ground: Ground) -> Iterator[Outcome | Curve]:
    """The herd of the budget, then smaller ones: how the wake-up grows with the number of callers."""
    with workers(ground, "threads", prefix=QUEUE):
        yield from _budgeted(ground)
        points: dict[str, list[tuple[float, float]]] = {"p50": [], "p99": []}
        for process_count, thread_count in ground.scale.curve_herds:
            wakes, _, _ = _herd(ground, process_count, thread_count)
            for name, percent in {"p50": 50, "p99": 99}.items():
                points[name].append((process_count * thread_count, percentile(wakes, percent) * 1000))
        yield Curve("From the end of the body to the callers", "callers", "ms", points)


def _budgeted(ground: Ground) -> Iterator[Outcome]:
    process_count, thread_count = ground.scale.herd
    wakes, executions, late = _herd(ground, process_count, thread_count)
    bare, _, _ = _herd(ground, process_count, thread_count, "bare_herd")
    note = f"{thread_count * process_count} callers in {process_count} processes"
    yield budget("herd.executions", Spread(executions, executions, executions), note)
    median, p99, longest = (percentile(wakes, percent) * 1000 for percent in (50, 99, 100))
    note += f"; p50 {median:.0f} ms, longest {longest:.0f} ms" + (f"; {late} came late" if late else "")
    # The spread of this row is from the median caller to the last one.
    floor = Spread(*(percentile(bare, percent) * 1000 for percent in (99, 50, 100)))
    yield budget("herd.wake", Spread(p99, median, longest), note, floor=floor)


def _herd(ground: Ground, process_count: int, thread_count: int, verb: str = "herd") -> tuple[list[float], int, int]:
    """Seconds from the end of the body to each caller that waited, executions, and callers that found a value."""
    name = f"herd-{uuid.uuid4().hex[:8]}"
    environment = ground.environment(f"{QUEUE}threads")
    with ExitStack() as stack:
        ledger = stack.enter_context(redis.Redis.from_url(ground.url(LEDGER_DB)))

        def count(what: str) -> int:
            return int(ledger.get(f"{name}:{what}") or 0)

        programs = [Program(environment, verb, name, thread_count) for _ in range(process_count)]
        for program in programs:
            stack.callback(program.close)
        wait_until(lambda: count("ready") == process_count, "the herd to be there", PATIENCE_S)
        ledger.set(f"{name}:go", 1, ex=PATIENCE_S)
        # All have asked; then the value comes, for all at once.
        wait_until(lambda: count("called") == process_count * thread_count, "all to have asked", PATIENCE_S)
        ledger.set(f"{name}:open", 1, ex=PATIENCE_S)
        # Who has no worker is told by us; all others hear nothing of it.
        ledger.publish(name, str(time.monotonic()))
        had = [entry for program in programs for entry in program.result()["had"]]
        executions = count("executions")
        if len(had) != process_count * thread_count:
            raise RuntimeError(f"{process_count * thread_count - len(had)} callers of the herd had no value")
    wakes = [at - ended for ended, at, source in had if source != "hit"]
    return wakes, executions, len(had) - len(wakes)
