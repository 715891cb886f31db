"""
This is where one wake-up is taken apart: what happens between the end of a body and the caller who has its value.

    python -m tests.bench.timeline threads 300

prints the median moment of each step, in microseconds after the body's end: ours and the floor's, whose calls come between
ours and Celery's, as in the benchmark. A worker and a caller that do nothing else are quicker.
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any, cast

from tests.bench.ground import FULL, Ground
from tests.bench.processes import CONCURRENCY, PATIENCE_S
from tests.nodes import guard
from tests.nodes.server import ValkeyNode
from tests.nodes.workers import Pool, WorkerNode

STEPS = {
    "seals": "the worker begins to seal",
    "sealed": "sealed and signed",
    "sends": "the publication is packed and sent",
    "hears": "the caller's inbox has the message",
    "opens": "its flight is found, and it begins to be opened",
    "opened": "verified and decoded",
    "settles": "the one who waits is woken",
    "had": "the caller has the value",
}
# The first ones connect and start threads.
WARMING_UP = 10


def main(pool: str = "threads", count: str = "300") -> None:
    """Print the timeline of a wake-up with this pool."""
    with tempfile.TemporaryDirectory() as folder, ValkeyNode() as server:
        ground = Ground(server, FULL)
        environment = {**ground.environment(pool), "BENCH_TIMELINE": folder}
        worker = WorkerNode("tests.bench.timed", pool=cast(Pool, pool), concurrency=CONCURRENCY[pool], env=environment)
        os.environ.update(ground.environment(pool))
        try:
            worker.start(wait=False)
            worker.wait_ready(PATIENCE_S)
            wakes = _wakes(int(count))
        finally:
            worker.close()
        lines = [line for file in Path(folder).iterdir() for line in file.read_text().splitlines()]
    sent = {mark["body"]: mark for mark in map(json.loads, lines)}
    print("  ours   floor")
    for step, text in STEPS.items():
        columns = [_moment(sent, wakes[name][WARMING_UP:], step) for name in ("taskcache", "floor")]
        print(f"{columns[0]:>6}  {columns[1]:>6}  {text}")
    print(f"{_moment({}, wakes['celery'][WARMING_UP:], 'had'):>6}          the caller of Celery has it")
    guard.close()


def _wakes(count: int) -> dict[str, list[dict[str, float]]]:
    """When each caller had what, on the clock that it shares with the worker."""
    from taskcache.calls.invocation import Invocation
    from taskcache.drivers.inbox import Inbox
    from taskcache.drivers.pending import Pending
    from tests.bench import bare
    from tests.bench.app import floor, led, plain, raw
    from tests.bench.floor import RawInbox
    from tests.bench.timed import marked

    marks: dict[str, float] = {}
    marked(Inbox, "_deliver", marks, before="hears")
    marked(Invocation, "opened", marks, before="opens", after="opened")
    marked(Pending, "settle", marks, before="settles")
    marked(RawInbox, "deliver", marks, before="hears")
    marked(bare, "opened", marks, before="opens", after="opened")
    caller = bare.Caller(raw(), floor)
    calls: dict[str, Any] = {
        "taskcache": lambda number: led(number)(timeout=PATIENCE_S),
        "floor": lambda number: caller.get(caller.send(number)),
        "celery": lambda number: plain.delay(number).get(timeout=PATIENCE_S),
    }
    base = random.getrandbits(40) << 20
    wakes: dict[str, list[dict[str, float]]] = {name: [] for name in calls}
    for number in range(base, base + count + WARMING_UP):
        for name in random.sample(list(calls), len(calls)):
            marks.clear()
            ended = calls[name](number)
            wakes[name].append({**marks, "body": ended, "had": time.monotonic()})
    return wakes


def _moment(sent: dict[float, dict[str, float]], wakes: list[dict[str, float]], step: str) -> str:
    """The median moment of a step in whole microseconds; nothing where it is not taken."""
    # The last ones may be missing: the worker was stopped before it had written them down.
    told = [{**sent.get(wake["body"], {}), **wake} for wake in wakes]
    moments = [1e6 * (mark[step] - mark["body"]) for mark in told if step in mark]
    return f"{median(moments):.0f}" if moments else ""


if __name__ == "__main__":
    main(*sys.argv[1:])
