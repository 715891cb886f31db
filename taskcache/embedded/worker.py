"""This is where a process gets a local Celery worker of its own, whose output it shows and which ends with it.

The owner holds the write end of a pipe, the worker the read end (leash.py). One mechanism serves every way to end:
`stop()` and a normal exit close the write end, SIGKILL has the kernel close it.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from taskcache.embedded import worker_main
from taskcache.embedded.leash import GRACE_SECONDS
from taskcache.errors import DispatchFailed
from taskcache.events import logger

# A worker that dies while it starts (a module that does not import) would otherwise be started at every dispatch.
RESTART_SECONDS: Final = 5.0
_READY_POLL_SECONDS: Final = 0.02


class LocalWorker:
    """A running local worker; `pid` is also its process group."""

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str | None]) -> None:
        self._order = list(argv), dict(environment)
        program = [sys.executable, worker_main.__file__]
        leash, self._owner_end = os.pipe()
        try:
            # A session of its own: Ctrl-C at the prompt interrupts the wait for a value, not the worker.
            self._process = subprocess.Popen(
                [*program, str(leash), *complete(argv)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=[leash],
                env={name: text for name, text in {**os.environ, **environment}.items() if text is not None},
                start_new_session=True,
                # No buffer object here: its lock, held by the relay at the time of a fork, would block the child.
                bufsize=0,
            )
        except BaseException:
            os.close(self._owner_end)
            raise
        finally:
            os.close(leash)
        self.pid = self._process.pid
        self._started_at = time.monotonic()
        with contextlib.suppress(BrokenPipeError):  # it died at once; `exit_status` will say so
            path = [entry or os.getcwd() for entry in map(str, sys.path)]  # "" is the directory we are in
            os.write(self._owner_end, json.dumps(path).encode() + b"\n")
        self._relay = threading.Thread(target=self._show_output, name="taskcache-worker-output", daemon=True)
        self._relay.start()

    @property
    def exit_status(self) -> int | None:
        """None while the worker runs."""
        return self._process.poll()

    @property
    def age_seconds(self) -> float:
        return time.monotonic() - self._started_at

    def is_as_ordered(self, argv: Sequence[str], environment: Mapping[str, str | None]) -> bool:
        """Whether it was started with these; not so after a private server died and another took its place."""
        # Without what is taken away: a variable that is set meanwhile is none of the worker's.
        return (self._order[0], _given(self._order[1])) == (list(argv), _given(environment))

    def wait_until(self, ready: Callable[[], bool], timeout: float) -> None:
        """Wait for a condition; raises DispatchFailed when the worker ends or the time is over before."""
        deadline = time.monotonic() + timeout
        while not ready():
            if self.exit_status is not None:
                raise DispatchFailed(f"the local worker ended with status {self.exit_status}; its output says why")
            if time.monotonic() > deadline:
                raise DispatchFailed(f"the local worker was not ready after {timeout:g} s")
            time.sleep(_READY_POLL_SECONDS)

    def stop(self) -> None:
        """Let running computations finish for GRACE_SECONDS, end the worker and show the rest of its output."""
        self.let_go()
        try:
            self._process.wait(GRACE_SECONDS + 0.5)
        except subprocess.TimeoutExpired:  # too busy, or stopped, to hear of it
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()
        self._relay.join(1.0)

    def let_go(self) -> None:
        """Close this process's end of the leash, at most once: its number may belong to another file afterwards."""
        end, self._owner_end = self._owner_end, -1
        if end >= 0:
            os.close(end)

    def disown(self) -> None:
        """After a fork, in the child: the worker is the parent's alone, and must not outlive it because of us."""
        self.let_go()
        # Else both warn, when they are collected here, of a child and a file that were never ours.
        self._process.returncode = 0
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _show_output(self) -> None:
        assert self._process.stdout is not None
        rest = b""
        with self._process.stdout as output, contextlib.suppress(OSError, ValueError):
            while chunk := output.read(65_536):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    show(line + b"\n")
        if rest:
            show(rest)
        self._process.wait()  # no zombie, whether or not anybody looks at the worker again


def show(line: bytes) -> None:
    """Write a line to what is `sys.stdout` now: a notebook and pytest's capsys replace it."""
    with contextlib.suppress(Exception):  # None, closed, full: the output of a worker breaks nobody's program
        sys.stdout.write(line.decode(errors="replace"))
        sys.stdout.flush()


def complete(argv: Sequence[str]) -> list[str]:
    """Add to `-A app worker ...` what a quiet private worker needs; options that are given come later and win."""
    at = 1 + next(
        at for at, word in enumerate(argv) if word == "worker" and argv[at - 1] not in ("-A", "--app")
    )  # an app may be called `worker` too
    # Threads boot fastest, and two let a function wait for another one; more than eight help no single user.
    concurrency = max(2, min(8, os.cpu_count() or 2))
    # mingle, gossip and heartbeat are for a cluster of workers, and take a second to find that there is none.
    alone = ["--without-mingle", "--without-gossip", "--without-heartbeat"]
    own = ["-n", f"local-{os.getpid()}@%h", "-P", "threads", "-c", str(concurrency), "-l", "WARNING", *alone]
    # Redirected, a print becomes a log record `[timestamp: WARNING/MainProcess] ...`.
    return ["--quiet", *argv[:at], *own, *argv[at:], "worker_redirect_stdouts=false"]


def _given(environment: Mapping[str, str | None]) -> dict[str, str]:
    return {name: text for name, text in environment.items() if text is not None}


_worker: LocalWorker | None = None
# Held while we start a worker, and by fork(): no child may inherit the end of a leash that nobody knows yet.
_lock = threading.RLock()


def ensure_worker(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str | None] | None = None,
    ready: Callable[[], bool] | None = None,
    timeout: float = 30.0,
) -> LocalWorker:
    """
    Return this process's local worker; starts it when there is none, when it has died, or when the order has changed.

    `argv` is what follows `celery`: `["-A", "module", "worker", "-Q", queue]`; `environment` is added to our own,
    and None takes a variable away. Returns at once, and with `ready` when that is true; raises DispatchFailed when it
    does not come true within `timeout` seconds.
    """
    global _worker
    added = environment or {}
    with _lock:
        worker = _worker
        if worker is not None and not worker.is_as_ordered(argv, added):
            stop_worker()
            worker = None
        elif worker is not None and worker.exit_status is not None and worker.age_seconds > RESTART_SECONDS:
            logger.warning("the local worker ended with status %s; starting another", worker.exit_status)
            stop_worker()
            worker = None
        if worker is None:
            worker = _worker = LocalWorker(argv, added)
    if ready is not None:
        worker.wait_until(ready, timeout)
    return worker


def stop_worker() -> None:
    """End this process's local worker, if it has one."""
    global _worker
    with _lock:
        worker, _worker = _worker, None
    if worker is not None:
        worker.stop()


def _before_fork() -> None:
    _lock.acquire()


def _after_fork_in_parent() -> None:
    _lock.release()


def _after_fork_in_child() -> None:
    global _lock, _worker
    _lock = threading.RLock()
    if _worker is not None:
        _worker.disown()
        _worker = None


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
atexit.register(stop_worker)
