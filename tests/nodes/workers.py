"""This is where we run real `celery worker` processes that tests may kill, stop and restart."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import psutil

from tests.nodes.process import SessionProcess
from tests.nodes.waiting import wait_until

Pool = Literal["prefork", "threads", "gevent", "solo"]

REPOSITORY = Path(__file__).parents[2]


class WorkerNode:
    """
    One `celery -A module worker` in its own session, with its own node name and log.

    `module` is what Celery's `-A` takes. It is imported in `cwd` (which is on sys.path, as is the repository), with
    the variables of `env` added to those of this process.
    """

    def __init__(
        self,
        module: str,
        *,
        pool: Pool = "prefork",
        concurrency: int = 2,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        extra: Sequence[str] = (),
    ) -> None:
        self.module = module
        self.pool = pool
        self.concurrency = concurrency
        # `%h` would give all workers of this machine one name.
        self.name = f"test@{uuid.uuid4().hex[:12]}"
        self.folder = Path(tempfile.mkdtemp(prefix="taskcache-worker-"))
        self.cwd = cwd or self.folder
        self.env = dict(env or {})
        self.extra = tuple(extra)
        self._session: SessionProcess | None = None

    # --- its life

    def start(self, *, wait: bool = True, timeout: float = 40) -> WorkerNode:
        """Start the worker, after a kill or stop too, and wait until it takes tasks."""
        if self._session is not None:
            raise RuntimeError(f"{self!r} runs already")
        self._session = SessionProcess(
            self.command(), cwd=self.cwd, env=self._environment(), log_path=self.folder / "log"
        )
        if wait:
            self.wait_ready(timeout)
        return self

    def wait_ready(self, timeout: float = 40) -> None:
        """Wait until the worker says that it takes tasks."""
        session = self._running()
        wait_until(lambda: f"{self.name} ready." in session.log() or not session.is_running, "the worker", timeout)
        if not session.is_running:
            raise AssertionError(f"{self!r} ended while it started:\n{self.log()[-4000:]}")

    def stop(self, timeout: float = 20) -> int:
        """Stop warmly (SIGTERM): running tasks are finished first. Give the exit code."""
        session, self._session = self._running(), None
        return session.terminate(timeout)

    def kill(self) -> None:
        """SIGKILL the main process and every pool process at once, as a lost machine does."""
        session, self._session = self._running(), None
        session.kill()

    def kill_main(self) -> None:
        """SIGKILL the main process alone and wait for its end; pool processes go on until they notice."""
        session = self._running()
        session.send(signal.SIGKILL)
        wait_until(lambda: not session.is_running, "the main process to be gone")

    def kill_pool_process(self, pid: int) -> None:
        """SIGKILL one pool process; the main process notices and starts another."""
        process = next(child for child in self.pool_processes() if child.pid == pid)
        process.kill()
        process.wait(10)

    def pause(self) -> None:
        """SIGSTOP all processes: a machine that hangs, a container that is frozen."""
        self._running().pause()

    def resume(self) -> None:
        """SIGCONT all processes."""
        self._running().resume()

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the main process: SIGQUIT is a cold stop, SIGINT what Ctrl-C does."""
        self._running().send(number)

    def close(self) -> None:
        """Kill what is left and remove the folder."""
        if self._session is not None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> WorkerNode:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    # --- looking at it

    @property
    def pid(self) -> int:
        """The main process."""
        return self._running().pid

    @property
    def is_running(self) -> bool:
        """Whether the main process lives."""
        return self._session is not None and self._session.is_running

    def pool_processes(self) -> list[psutil.Process]:
        """List the pool's processes: none but under prefork."""
        return [process for process in self._running().members() if process.pid != self.pid]

    def log(self) -> str:
        """Read all that the worker has printed, over all its lives."""
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def wait_for_log(self, text: str, timeout: float = 10) -> None:
        """Wait until this life's log has `text`."""
        session = self._running()
        wait_until(lambda: text in session.log(), f"{text!r} in the worker's log", timeout)

    def __repr__(self) -> str:
        return f"<WorkerNode {self.name} -A {self.module} -P {self.pool}>"

    # --- below

    def command(self) -> list[str]:
        """Give the command line, as a user would type it."""
        command = [sys.executable, "-m", "celery", "-A", self.module, "worker", "-P", self.pool]
        command += ["-c", str(self.concurrency), "-n", self.name, "--loglevel=INFO"]
        # Meeting other workers costs a second and gives a test nothing.
        return [*command, "--without-mingle", "--without-gossip", *self.extra]

    def _environment(self) -> dict[str, str]:
        path = os.pathsep.join(map(str, [self.cwd, REPOSITORY]))
        # Prints of tasks are to be in the log when a test looks.
        return {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": path, **self.env}

    def _running(self) -> SessionProcess:
        if self._session is None:
            raise RuntimeError(f"{self!r} is not running")
        return self._session
