"""This is where we measure how old near values are while another process writes without end; tests and bench use it."""

from __future__ import annotations

import bisect
import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import redis

from taskcache import Cache
from tests.nodes.prompt import Prompt
from tests.with_redis.near import near_of
from tests.with_redis.near_program import TRUTH, counting

PLACES = 5
# (began or acknowledged at, place, number); time.monotonic() is one clock for all processes of a machine.
Sight = tuple[float, int, int]


@dataclass(frozen=True, slots=True)
class Staleness:
    """What the readers saw. `ages`: for each call that got an old value, how long after the acknowledged write it began."""

    reads: int
    writes: int
    # Sorted, in seconds; calls that got the current value are not in it.
    ages: list[float]

    def quantile(self, share: float) -> float:
        """The age that this share of all reads did not exceed."""
        fresh = self.reads - len(self.ages)
        at = min(int(self.reads * share), self.reads - 1) - fresh
        return self.ages[at] if at >= 0 else 0.0


def measure(url: str, name: str, *, seconds: float, readers: int = 1) -> Staleness:
    """Spin with so many threads over near values while a process of its own busts, puts and deletes them at random."""
    stop = threading.Event()
    with (
        Cache(url, name=name, default_timeout=60) as cache,
        redis.Redis.from_url(url) as client,
        ThreadPoolExecutor(readers) as pool,
        Prompt("from tests.with_redis.near_program import storm") as writer,
    ):
        near_of(cache)
        seen = [pool.submit(_read, cache, client, stop) for _ in range(readers)]
        try:
            told = writer.ask(f"storm({url!r}, {name!r}, {PLACES}, {seconds}, 7)")
        finally:
            stop.set()
        reads = [sight for one in seen for sight in one.result(60)]
        client.delete(TRUTH)
    writes: list[Sight] = [(at, place, number) for at, place, number in told]
    return Staleness(len(reads), len(writes), sorted(_ages(reads, writes)))


def _read(cache: Cache, client: redis.Redis, stop: threading.Event) -> list[Sight]:
    number_of, seen = counting(cache, client, near=True), []
    while not stop.is_set():
        for place in range(PLACES):
            for _ in range(20):
                began = time.monotonic()
                seen.append((began, place, number_of(place)))
    return seen


def _ages(reads: list[Sight], writes: list[Sight]) -> list[float]:
    history: dict[int, list[tuple[int, float]]] = defaultdict(list)
    for at, place, number in writes:
        history[place].append((number, at))
    old = []
    for began, place, number in reads:
        later = bisect.bisect_right(history[place], (number, float("inf")))
        if later < len(history[place]) and history[place][later][1] < began:
            old.append(began - history[place][later][1])
    return old
