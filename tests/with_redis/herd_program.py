"""This is where one process of a herd comes from: many threads that call one function at the same moment."""

from __future__ import annotations

import json
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import redis

from taskcache import Cache
from tests.nodes.waiting import wait_until


class Herd:
    """One cache, one function, and counters on the server that all processes share."""

    def __init__(self, url: str, name: str, size: int) -> None:
        self.cache = Cache(url, name=name, default_timeout=60)
        self.counters = redis.Redis.from_url(url, max_connections=500)
        self.size = size
        self.cold = self.cache.cached(name="cold", version=1)(self._cold)

    def count(self, what: str) -> int:
        """Add one to a counter of this herd, and give its new value."""
        with self.counters.pipeline() as pipeline:
            pipeline.incr(f"herd:{what}")
            pipeline.expire(f"herd:{what}", 600)
            return int(pipeline.execute()[0])

    def look(self, what: str) -> int:
        """The value of a counter."""
        return int(self.counters.get(f"herd:{what}") or 0)

    def _cold(self, number: int) -> dict[str, int]:
        self.count("executions")
        # Nobody may have come late: whoever has not called yet would find a value and prove nothing.
        wait_until(lambda: self.look("calls") == self.size, "all callers to be calling", timeout=60)
        return {"number": number, "pid": os.getpid()}

    def call(self, barrier: threading.Barrier) -> dict[str, int]:
        """Call once, together with all the others."""
        barrier.wait(60)
        self.count("calls")
        return self.cold(7)


def main(url: str, name: str, size: int, thread_count: int) -> None:
    """Bring up the threads of one process, wait for the signal to run, and print what they got."""
    herd = Herd(url, name, size)

    def begin() -> None:
        herd.count("ready")
        wait_until(lambda: herd.look("go"), "the signal to run", timeout=120)

    barrier = threading.Barrier(thread_count, action=begin)
    with ThreadPoolExecutor(thread_count) as pool:
        values = [future.result() for future in [pool.submit(herd.call, barrier) for _ in range(thread_count)]]
    print(json.dumps(values))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
