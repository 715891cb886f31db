"""This is where one client process of a soak is started, stopped and killed."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.nodes.process import SessionProcess
from tests.nodes.waiting import wait_until
from tests.nodes.workers import REPOSITORY


class ClientProcess:
    """A client with its report; a file is its word to stop, since a killed one must not be missed by a pipe."""

    def __init__(self, number: int, kind: str, seed: int, folder: Path, env: Mapping[str, str]) -> None:
        self.number, self.kind = number, kind
        self._stop = folder / f"stop-{number}-{seed}"
        self.report = folder / f"client-{number}-{seed}.jsonl"
        self.log = folder / f"client-{number}-{seed}.log"
        command = [sys.executable, "-m", "tests.soak.client"]
        command += [str(number), kind, str(seed), str(self.report), str(self._stop)]
        full = {**os.environ, **env, "PYTHONPATH": str(REPOSITORY), "PYTHONFAULTHANDLER": "1"}
        self.session = SessionProcess(command, cwd=REPOSITORY, env=full, log_path=self.log)

    def wait_ready(self) -> None:
        """Wait until it works."""
        wait_until(lambda: self.report.exists() or not self.session.is_running, f"client {self.number}", 60)
        if not self.session.is_running:
            raise AssertionError(f"client {self.number} ended while it started:\n{self.log.read_text()[-3000:]}")

    def stop(self) -> None:
        """Ask it to come to its end."""
        self._stop.touch()

    def has_ended_within(self, seconds: float) -> bool:
        try:
            wait_until(lambda: not self.session.is_running, "a client to end", seconds)
        except AssertionError:
            return False
        return True

    def stacks(self) -> str:
        """Where each of its threads is; the end of it."""
        self.session.resume()
        # Its fault handler prints them when it is aborted.
        self.session.send(signal.SIGABRT)
        self.has_ended_within(10)
        return self.session.log()[-6000:]

    def kill(self) -> None:
        self.session.kill()
