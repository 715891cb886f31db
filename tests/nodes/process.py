"""This is where we run a program in a session of its own, as if in a container: it ends as a whole."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from tests.nodes import guard
from tests.nodes.waiting import wait_until


class SessionProcess:
    """A program with all its children, their log, and the signals one can send to one or all of them."""

    def __init__(self, command: Sequence[str], *, cwd: Path, env: Mapping[str, str], log_path: Path) -> None:
        self.log_path = log_path
        # The log of a restarted program goes on in the same file; waits look at this life's part only.
        self._log_start = log_path.stat().st_size if log_path.exists() else 0
        with log_path.open("ab") as log:
            self._main = subprocess.Popen(
                command,
                cwd=cwd,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        guard.watch(self._main.pid)

    @property
    def pid(self) -> int:
        """The main process; the session has its number."""
        return self._main.pid

    @property
    def is_running(self) -> bool:
        """Whether the main process lives; a paused one does."""
        return self._main.poll() is None

    @property
    def exit_code(self) -> int | None:
        """What the main process ended with, negative for a signal; None while it runs."""
        return self._main.poll()

    def members(self) -> list[psutil.Process]:
        """List the living processes of the session, the main one first."""
        return [process for process in map(_as_process, sorted(psutil.pids())) if process and self._owns(process)]

    def log(self) -> str:
        """Read what was printed since this start."""
        with self.log_path.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the main process alone."""
        self._main.send_signal(number)

    def pause(self) -> None:
        """SIGSTOP every process of the session, and wait until the kernel has done so."""
        os.killpg(self.pid, signal.SIGSTOP)
        stopped = (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE)
        wait_until(lambda: all(member.status() in stopped for member in self.members()), "SIGSTOP to take effect")

    def resume(self) -> None:
        """SIGCONT every process of the session."""
        os.killpg(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL every process of the session, as the end of a container does."""
        guard.end_session(self._main)
        wait_until(lambda: not self.members(), "the killed session to be gone")

    def terminate(self, timeout: float = 20) -> int:
        """Ask the main process to end (SIGTERM), wait, and give its exit code; what is left then is killed."""
        if self.is_running:
            self.resume()
            self.send(signal.SIGTERM)
            try:
                self._main.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
                raise AssertionError(f"{self.pid} did not end within {timeout:g} s:\n{self.log()[-3000:]}") from None
        self.kill()
        return self._main.returncode

    def _owns(self, process: psutil.Process) -> bool:
        try:
            return os.getsid(process.pid) == self.pid and is_alive(process)
        except ProcessLookupError:
            return False


def is_alive(process: psutil.Process) -> bool:
    """Whether the process runs or is stopped; a dead one that nobody has reaped yet is not alive."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _as_process(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.NoSuchProcess:
        return None
