"""This is where a function in a worker and a test that watches it meet: counted runs, and gates that hold a body up."""

from __future__ import annotations

import os
import time

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.nodes.waiting import wait_until

# Longer than any test: a body whose gate is never opened must end all the same.
HELD_S = 60.0


class Ledger:
    """Names with a number of runs and a gate each, on a database that neither cache nor Celery uses."""

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(url, retry=Retry(NoBackoff(), 1), socket_timeout=10)

    # -- for bodies

    def enter(self, name: str) -> int:
        """Count a run of `name`, and note which process it is; gives the number of this run."""
        with self._client.pipeline(transaction=False) as pipeline:
            pipeline.incr(f"runs:{name}")
            pipeline.rpush(f"pids:{name}", os.getpid())
            return int(pipeline.execute()[0])

    def hold(self, name: str) -> None:
        """Hold this body up until somebody opens the gate `name`."""
        end = time.monotonic() + HELD_S
        while not self.is_open(name) and time.monotonic() < end:
            time.sleep(0.01)

    def is_open(self, name: str) -> bool:
        return bool(self._client.exists(f"gate:{name}"))

    # -- for tests

    def runs(self, name: str) -> int:
        """How often a body has begun to run under `name`, anywhere."""
        return int(self._client.get(f"runs:{name}") or 0)

    def pids(self, name: str) -> list[int]:
        """The processes in which they ran, in order."""
        return [int(pid) for pid in self._client.lrange(f"pids:{name}", 0, -1)]

    def open(self, name: str) -> None:
        """Let every body go on that the gate `name` holds up, now and later."""
        self._client.set(f"gate:{name}", 1)

    def wait_runs(self, name: str, count: int = 1, timeout: float = 30) -> None:
        """Wait until `count` bodies have begun to run under `name`."""
        wait_until(lambda: self.runs(name) >= count, f"run {count} of {name}", timeout)
