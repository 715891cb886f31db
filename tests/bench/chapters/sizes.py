"""This is where sizes are measured: what one entry, one waiter and one import cost."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import redis

from tests.bench import peers
from tests.bench.functions import named, ours
from tests.bench.goals import Outcome, beside, budget
from tests.bench.ground import CACHE_DB, HOUR_S, PAGE, PEERS_DB, SMALL, Ground, pickled
from tests.bench.measure import Spread, Times
from tests.bench.processes import told, workers
from tests.nodes.workers import REPOSITORY

KINDS = {"small": SMALL, "10 KB": PAGE}


def imports(ground: Ground) -> Iterator[Outcome]:
    """The time the statement takes in a fresh process, by turns; all files were compiled and read before."""
    # The floor: what taskcache cannot do without, without taskcache.
    modules = ("taskcache", "redis", "redis, msgspec")
    for module in modules:
        _import_s(module)
    seconds: dict[str, list[float]] = {module: [] for module in modules}
    for _ in range(ground.scale.imports):
        for module in modules:
            # The best of three, for the reason rotate() gives.
            seconds[module].append(min(_import_s(module) for _ in range(3)))
    times = Times(seconds)
    floor = times.ratio("redis, msgspec", "redis")
    yield budget("import", times.ratio("taskcache", "redis"), seconds=times.medians(), floor=floor)


def _import_s(module: str) -> float:
    program = f"import time; began = time.perf_counter(); import {module}; print(time.perf_counter() - began)"
    # Compiled once, as any installed package is: with this variable our sources would be compiled each time, redis-py's not.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", program]
    return float(subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True, env=env).stdout)


def importtime(module: str = "taskcache", most: int = 25) -> str:
    """The slowest imports below `module`, as `python -X importtime` sees them; for reading, not for the table."""
    command = [sys.executable, "-X", "importtime", "-c", f"import {module}"]
    ran = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True, env=dict(os.environ))
    rows = [line.removeprefix("import time:").split("|") for line in ran.stderr.splitlines() if "|" in line]
    timed = [(int(own), int(total), name.strip()) for own, total, name in rows if own.strip().isdigit()]
    return "\n".join(
        f"{own:8} µs {total:8} µs with its own  {name}" for own, total, name in sorted(timed)[: -most - 1 : -1]
    )


def entries(ground: Ground) -> Iterator[Outcome]:
    """Bytes of one entry on the server, its key and bookkeeping included, as MEMORY USAGE tells."""
    for size, value in KINDS.items():
        with ExitStack() as stack:
            client: Any = stack.enter_context(ground.client())
            client.set("raw:entry", pickled(value), ex=HOUR_S)
            raw = client.memory_usage("raw:entry", samples=0)
            call = stack.enter_context(ours(ground)).cached(name=f"entry {size}", version=1)(named("entry", value))
            call(42, "hello")
            keys = [call.cache.make_key(call.key_for(42, "hello"))]
            yield _entry(f"{size} entry", _bytes(ground, CACHE_DB, keys), raw)
            yield from _peer_entries(ground, stack, size, value, raw)


def _peer_entries(ground: Ground, stack: ExitStack, size: str, value: Any, raw: int) -> Iterator[Outcome]:
    others = redis.Redis.from_url(ground.url(PEERS_DB))
    stack.callback(others.close)
    calls = peers.installed(ground, stack, lambda name: named(f"entry of {name} {size}", value))
    for peer in peers.PEERS:
        # What diskcache stores is not on the server.
        if peer.key in calls and peer.key != "diskcache":
            others.flushdb()
            calls[peer.key](42, "hello")
            yield _entry(f"{size} entry of {peer.key}", _bytes(ground, PEERS_DB, others.keys()), raw)


def _bytes(ground: Ground, db: int, keys: Any) -> int:
    with redis.Redis.from_url(ground.url(db)) as client:
        return sum(client.memory_usage(key, samples=0) or 0 for key in keys)


def _entry(text: str, size: int, raw: int) -> Outcome:
    ratio = size / raw
    return beside(
        f"{text}, bytes in Redis / SET of the pickle", Spread(ratio, ratio, ratio), f"{size} bytes, raw {raw}"
    )


def waiters(ground: Ground) -> Iterator[Outcome]:
    """Memory for each one who waits, beside a bare thread or coroutine that waits for an event."""
    scale = ground.scale
    with workers(ground, "threads", prefix="waiters-"):
        of = told(ground, "waiters-threads", "waiting_coroutines", _name(), scale.coroutines)
        note = (
            f"bare {of['bare_bytes']:.0f}; all asked within {of['begun_s']:.1f} s, the loop was held up "
            f"{of['longest_block_s'] * 1000:.0f} ms at most; all woken within {of['woken_s'] * 1000:.0f} ms"
        )
        yield _waiter(f"{scale.coroutines} coroutines that await one value: bytes each", of["bytes"], note)
        of = told(ground, "waiters-threads", "waiting_threads", _name(), scale.threads)
        yield _waiter(
            f"{scale.threads} threads that wait for one value: bytes each", of["bytes"], f"bare {of['bare_bytes']:.0f}"
        )


def upkeep(ground: Ground) -> Iterator[Outcome]:
    """What waits and leases cost while nothing happens to them: what the default watchdog and lease were chosen by."""
    scale = ground.scale
    of = told(ground, "upkeep", "upkeep", scale.threads, scale.upkeep_s)
    for name, what in {"waits": "queued flights waited for, and inquired about", "leases": "leases renewed"}.items():
        process, server = (percent * 100 for percent in of[name])
        note = f"of the server's {server:.1f} %"
        yield beside(f"{scale.threads} {what}: % of a processor", Spread(process, process, process), note)


def _name() -> str:
    return f"waiters-{uuid.uuid4().hex[:8]}"


def _waiter(text: str, size: float, note: str) -> Outcome:
    return beside(text, Spread(size, size, size), note)
