"""This is where a run stands: its server, how much of everything it does, and the values it stores."""

from __future__ import annotations

import pickle
import random
from dataclasses import dataclass
from typing import Any

import redis

from tests.bench.goals import POOLS
from tests.nodes.server import ValkeyNode

# One server for all, as in a small deployment; a database for each use.
CACHE_DB, BROKER_DB, BACKEND_DB, LEDGER_DB, PEERS_DB = range(5)

# How long everybody stores.
HOUR_S = 3600

# What «signed» rows sign with.
# No comma: it would be two secrets.
SECRET = "a secret of the benchmark and long enough"


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of everything one run does."""

    # Hits and the like: rounds of a rotation, and how long one batch of one variant takes.
    rounds: int
    batch_s: float
    # Keys of a batch and coroutines of a crowd.
    many: int
    pools: tuple[str, ...]
    calls: int
    herd: tuple[int, int]
    deaths: int
    coroutines: int
    threads: int
    # How long waits and leases are watched while nothing happens.
    upkeep_s: float
    imports: int
    writes: int
    # The points of the scaling curves; a quick run draws few.
    curve_threads: tuple[int, ...]
    curve_processes: tuple[int, ...]
    curve_bytes: tuple[int, ...]
    curve_herds: tuple[tuple[int, int], ...]
    curve_keys: tuple[int, ...]
    curve_tags: tuple[int, ...]
    curve_functions: tuple[int, ...]


FULL = Scale(
    rounds=60,
    batch_s=0.02,
    many=1000,
    pools=POOLS,
    calls=200,
    herd=(8, 125),
    deaths=3,
    coroutines=10_000,
    threads=1000,
    upkeep_s=5.0,
    imports=20,
    writes=300,
    curve_threads=(1, 2, 4, 8, 16, 32),
    curve_processes=(1, 2, 4, 8),
    curve_bytes=(100, 1_000, 10_000, 100_000, 1_000_000),
    curve_herds=((8, 1), (8, 8), (8, 32), (8, 64), (8, 125)),
    curve_keys=(1, 1_000, 100_000),
    curve_tags=(0, 1, 2, 4, 8),
    curve_functions=(1, 10, 100, 1000),
)
# Two minutes on two cores: enough to see that something has become twice as slow, not to judge a goal by.
QUICK = Scale(
    rounds=12,
    batch_s=0.005,
    many=1000,
    pools=("prefork", "threads"),
    calls=60,
    herd=(8, 125),
    deaths=1,
    coroutines=10_000,
    threads=1000,
    upkeep_s=2.0,
    imports=5,
    writes=60,
    curve_threads=(1, 8),
    curve_processes=(1, 2),
    curve_bytes=(100, 10_000, 1_000_000),
    curve_herds=((8, 8),),
    curve_keys=(1, 1_000),
    curve_tags=(0, 2),
    curve_functions=(1, 100),
)
# For the test that the machinery runs.
TINY = Scale(
    rounds=2,
    batch_s=0.0005,
    many=50,
    pools=("threads",),
    calls=3,
    herd=(2, 3),
    deaths=0,
    coroutines=20,
    threads=5,
    upkeep_s=0.1,
    imports=1,
    writes=3,
    curve_threads=(1, 2),
    curve_processes=(1,),
    curve_bytes=(100, 100_000),
    curve_herds=(),
    curve_keys=(1, 10),
    curve_tags=(0, 1),
    curve_functions=(1, 3),
)


@dataclass(frozen=True, slots=True)
class Ground:
    """What every chapter of the benchmark gets."""

    server: ValkeyNode
    scale: Scale

    def url(self, db: int = CACHE_DB) -> str:
        """The server's address, TCP on loopback."""
        return self.server.url(db)

    def client(self) -> redis.Redis:
        """redis-py as its README makes it; with hiredis, as `redis[hiredis]` is what taskcache depends on."""
        return redis.Redis(host="127.0.0.1", port=self.server.port, db=CACHE_DB)

    def environment(self, queue: str) -> dict[str, str]:
        """What tests.bench.app reads, in workers and in the programs that call them."""
        return {
            "BENCH_CACHE": self.url(CACHE_DB),
            "BENCH_BROKER": self.server.celery_url(BROKER_DB),
            "BENCH_BACKEND": self.server.celery_url(BACKEND_DB),
            "BENCH_LEDGER": self.url(LEDGER_DB),
            "BENCH_QUEUE": queue,
            "BENCH_SECRET": SECRET,
        }


SMALL: dict[str, Any] = {"id": 42, "name": "hello", "price": 9.95, "tags": ["a", "b"]}
# A page of search results: 10 KB as pickle, dominated by short strings and dicts, as such pages are.
PAGE: list[dict[str, Any]] = [
    {"id": number, "title": f"article number {number}", "price": number * 1.25, "tags": ["new", f"tag{number % 7}"]}
    for number in range(176)
]
# An image: random, so that no compression makes it smaller for one and not for the other.
IMAGE = random.Random(1).randbytes(1_000_000)

VALUES: dict[str, Any] = {"small": SMALL, "10 KB": PAGE, "1 MB": IMAGE}


def pickled(value: Any) -> bytes:
    """A value as most peers store it."""
    return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
