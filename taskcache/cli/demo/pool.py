"""This is where the demo's workers live: real `celery worker` processes, one of which is killed while it computes."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Final

from taskcache.cli.demo.meeting import WORKER, Meeting
from taskcache.embedded.worker import LocalWorker
from taskcache.errors import DispatchFailed

# Booting takes 2 s, and on a machine that is busy with other things ten times that.
BOOT_PATIENCE_S: Final = 60.0
KILL_PATIENCE_S: Final = 30.0
_LOOK_S: Final = 0.001


class Pool:
    """Worker processes of one task at a time. They end with this process, however it ends."""

    def __init__(self, meeting: Meeting, size: int, folder: Path) -> None:
        self._meeting = meeting
        self._folder = folder
        self.nodes = [f"worker{number}" for number in range(1, size + 1)]
        self._workers: dict[str, LocalWorker] = {}

    def start(self) -> None:
        """Start the workers and wait until all of them take tasks."""
        for node in self.nodes:
            self._workers[node] = self._start(node)
        for node, worker in self._workers.items():
            worker.wait_until(lambda node=node: self._is_ready(node), BOOT_PATIENCE_S)  # type: ignore[misc]

    def _start(self, node: str) -> LocalWorker:
        place = self._meeting.place
        # Prefork, so that what computes can be killed as a whole, and cannot hold up the renewal of its lease.
        own = ["-P", "prefork", "-c", "1", "-n", f"{node}-{os.getpid()}@%h"]
        environment = {**place.as_environment(), "TASKCACHE_DEMO_NODE": node}
        # Prefork makes a directory for itself, which it cannot remove when it is killed.
        environment["TMPDIR"] = str(self._folder)
        return LocalWorker(["-A", WORKER, "worker", "-Q", place.name, *own], environment)

    def _is_ready(self, node: str) -> bool:
        return self._meeting.tally.read("ready", node) > 0

    def computations(self) -> int:
        """How many computations were begun so far, by all workers, dead ones too."""
        return self._meeting.tally.read("began", *self.nodes)

    def kill_one(self) -> tuple[str, int]:
        """SIGKILL one worker while it computes, main process and child; gives its name and how many runs died with it."""
        node, worker = self.nodes[-1], self._workers[self.nodes[-1]]
        deadline = time.monotonic() + KILL_PATIENCE_S
        while True:
            # Stopped first: what is seen to be computing then still is when it is killed.
            os.killpg(worker.pid, signal.SIGSTOP)
            if self._is_caught(node):
                break
            os.killpg(worker.pid, signal.SIGCONT)
            if time.monotonic() > deadline:
                raise DispatchFailed(
                    f"{node} computed nothing for {KILL_PATIENCE_S:g} s, so it could not be killed at it"
                )
            time.sleep(_LOOK_S)
        os.killpg(worker.pid, signal.SIGKILL)
        worker.stop()
        return node, self._meeting.tally.computing(node)

    def _is_caught(self, node: str) -> bool:
        # Twice: what it had sent before it was stopped may be read by the server just after our first question.
        return bool(self._meeting.tally.computing(node) and self._meeting.tally.computing(node))

    def close(self) -> None:
        """End all workers."""
        workers, self._workers = self._workers, {}
        # All of them first, then wait: together they need no longer than one.
        for worker in workers.values():
            worker.let_go()
        for worker in workers.values():
            worker.stop()
