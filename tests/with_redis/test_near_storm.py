"""This is where one process writes without end, others read what they hold near, and nobody sees what is too old."""

from __future__ import annotations

import bisect
import threading
import time
from collections import defaultdict

import redis

from taskcache import Cache
from taskcache.near.tracking import TRUST_S
from tests.nodes.prompt import Prompt
from tests.with_redis.gate import threads
from tests.with_redis.near import near_of
from tests.with_redis.near_program import TRUTH, counting

PLACES, SECONDS = 5, 4.0
Read = tuple[float, int, int]


def read_all(cache: Cache, client: redis.Redis, stop: threading.Event) -> list[Read]:
    """Read place after place; gives (began at, place, number)."""
    number_of, seen = counting(cache, client, near=True), []
    while not stop.is_set():
        for place in range(PLACES):
            for _ in range(20):
                began = time.monotonic()
                seen.append((began, place, number_of(place)))
    return seen


def ages(reads: list[Read], acknowledged: list[Read]) -> list[float]:
    """For each read of an old number, how long before it the next number had been acknowledged."""
    history: dict[int, list[tuple[int, float]]] = defaultdict(list)
    for at, place, number in acknowledged:
        history[place].append((number, at))
    old = []
    for began, place, number in reads:
        later = bisect.bisect_right(history[place], (number, float("inf")))
        if later < len(history[place]) and history[place][later][1] < began:
            old.append(began - history[place][later][1])
    return old


def test_no_value_is_older_than_the_bound(redis_url: str, client: redis.Redis, cache_name: str) -> None:
    """Three threads read what another process busts, puts and deletes: never older than the bound, mostly not even ms."""
    client.hset(TRUTH, "0", 0)
    client.expire(TRUTH, 60)
    stop = threading.Event()
    with Cache(redis_url, name=cache_name, default_timeout=60) as cache, threads(3) as run:
        near = near_of(cache)
        with Prompt("from tests.with_redis.near_program import storm") as writer:
            readers = [run(lambda: read_all(cache, client, stop)) for _ in range(3)]
            acknowledged = writer.ask(f"storm({redis_url!r}, {cache_name!r}, {PLACES}, {SECONDS}, 7)")
            stop.set()
        reads = [read for reader in readers for read in reader.result(60)]
        assert near is cache.station.near(cache.settings)
    old = sorted(ages(reads, acknowledged))
    print(f"{len(reads)} reads, {len(acknowledged)} writes, {len(old)} old", old[-3:])

    assert len(acknowledged) > 100
    # Asking the server takes ten times as long.
    assert len(reads) > 50_000
    assert max(old, default=0.0) <= TRUST_S
    # Where a hit did not see a push that was there already, nearly every read after a write would be old.
    assert len([age for age in old if age > 0.1]) < len(reads) / 100
