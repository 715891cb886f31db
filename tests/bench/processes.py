"""This is where the programs and workers of a run are started, spoken to and ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

from tests.bench.ground import Ground
from tests.nodes import guard
from tests.nodes.workers import REPOSITORY, Pool, WorkerNode

PATIENCE_S = 180
# What each pool is run with: its own idea of how much at once, on a small machine.
CONCURRENCY = {"prefork": 2, "threads": 4, "gevent": 50, "solo": 1}


class Program:
    """One `python -m tests.bench.programs` that runs beside us."""

    def __init__(self, environment: Mapping[str, str], verb: str, *arguments: Any) -> None:
        command = [sys.executable, "-m", "tests.bench.programs", verb, json.dumps(arguments)]
        self._process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        guard.watch(self._process.pid)

    def wait_ready(self) -> None:
        """Wait until it says that it is ready."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line != "ready\n":
            raise RuntimeError(f"a program of the benchmark ended early: {self._end()[1][-2000:]}")

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def say(self, text: str) -> None:
        """Tell it one line."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{text}\n")
        self._process.stdin.flush()

    def result(self) -> dict[str, Any]:
        """Wait for its end, and give what it printed."""
        said, errors = self._end()
        if self._process.returncode:
            raise RuntimeError(f"a program of the benchmark failed: {errors[-2000:]}")
        return cast(dict[str, Any], json.loads(said))

    def _end(self) -> tuple[str, str]:
        try:
            return self._process.communicate(timeout=PATIENCE_S)
        finally:
            self.close()

    def close(self) -> None:
        """End it, however far it is."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()
        guard.unwatch(self._process.pid)


def told(ground: Ground, queue: str, verb: str, *arguments: Any) -> dict[str, Any]:
    """Run one program to its end."""
    return Program(ground.environment(queue), verb, *arguments).result()


def worker_of(ground: Ground, pool: str, queue: str) -> WorkerNode:
    """A worker of this pool with a queue of its own; not started yet."""
    return WorkerNode(
        "tests.bench.app", pool=cast(Pool, pool), concurrency=CONCURRENCY[pool], env=ground.environment(queue)
    )


@contextmanager
def workers(ground: Ground, *pools: str, prefix: str = "") -> Iterator[list[WorkerNode]]:
    """Workers that start together, because each takes seconds to; each serves the queue `prefix` + its pool."""
    nodes = [worker_of(ground, pool, f"{prefix}{pool}") for pool in pools]
    try:
        for node in nodes:
            node.start(wait=False)
        for node in nodes:
            node.wait_ready(PATIENCE_S)
        yield nodes
    finally:
        for node in nodes:
            node.close()
