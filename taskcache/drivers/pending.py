"""This is where a call is kept whose value is on its way: whoever waits for it, in whatever way, waits here."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

from taskcache.errors import Cancelled
from taskcache.events import logger
from taskcache.launcher import Launcher
from taskcache.protocol.flight import Errand, Landing
from taskcache.protocol.steps import Steps
from taskcache.protocol.watch import Sighting

Callback = Callable[["Pending"], None]
_UNSEEN = Sighting("queued", b"")


class Pending:
    """One call in progress: its steps, and how it landed once it has."""

    def __init__(self, steps: Steps[Any], errand: Errand, launcher: Launcher | None) -> None:
        self.steps = steps
        self.errand = errand
        self.launcher = launcher
        self.token = ""
        self.leads = False
        self.landing: Landing | None = None
        self.sighting = _UNSEEN
        self.pid = os.getpid()
        # Reentrant: within it the collector may end a coroutine that waited here and that nobody holds any more.
        self._lock = threading.RLock()
        # A locked lock for each thread that waits.
        self._waiting: list[threading.Lock] = []
        self._callbacks: list[Callback] = []
        self._watchers: list[Callable[[Sighting], None]] = []

    def settle(self, landing: Landing) -> None:
        """Give everybody the ending; the first one counts."""
        with self._lock:
            if self.landing is not None:
                return
            self.landing = landing
            callbacks, self._callbacks = self._callbacks, []
            waiting, self._waiting = self._waiting, []
        for arrived in waiting:
            arrived.release()
        for callback in callbacks:
            try:
                callback(self)
            except BaseException:  # noqa: BLE001 - sys.exit() too: it runs in the thread that serves every other wait
                logger.exception("taskcache: a callback of a result failed")

    def fail(self, error: BaseException) -> None:
        self.settle(Landing.failed(error, "led" if self.leads else "joined"))

    def cancel(self) -> None:
        self.fail(Cancelled())

    def wait(self, timeout: float | None) -> bool:
        """Block this thread until the call landed, at most `timeout` seconds; True when it has."""
        # Not an Event: it would wake the thread that waits, and have it wait again for a lock of its own.
        arrived = threading.Lock()
        arrived.acquire()
        with self._lock:
            if self.landing is not None:
                return True
            self._waiting.append(arrived)
        try:
            return arrived.acquire(timeout=-1 if timeout is None else timeout)
        finally:
            if self.landing is None:
                self._leave(arrived)

    def _leave(self, arrived: threading.Lock) -> None:
        with self._lock:
            if arrived in self._waiting:
                self._waiting.remove(arrived)

    def when_done(self, callback: Callback) -> None:
        """Call `callback(self)` once, in the thread that settles it, or now when it has landed."""
        with self._lock:
            if self.landing is None:
                self._callbacks.append(callback)
                return
        callback(self)

    def discard(self, callback: Callback) -> None:
        """Take a callback back."""
        with self._lock:
            if callback in self._callbacks:
                self._callbacks.remove(callback)

    def notice(self, sighting: Sighting) -> None:
        """Remember what the last look at the flight showed, and tell those who watch."""
        changed = sighting != self.sighting
        self.sighting = sighting
        if changed:
            for watcher in list(self._watchers):
                try:
                    watcher(sighting)
                except BaseException:  # noqa: BLE001 - one who cannot watch must not end the wait
                    logger.exception("taskcache: a watcher of a result failed")

    def on_notice(self, watcher: Callable[[Sighting], None]) -> Callable[[], None]:
        """Call `watcher` for every change of state or progress; returns a function that ends it."""
        self._watchers.append(watcher)
        return lambda: self._watchers.remove(watcher)

    def after_fork(self) -> None:
        """Make the locks usable in a forked child; their holder may not exist there."""
        self._lock = threading.RLock()
        self._waiting = []
        # Last: who finds it ours may wait here.
        self.pid = os.getpid()


class Landed(Pending):
    """A call that was over at once: nothing is on its way, and nobody has to wait. Nearly all calls are hits."""

    launcher = None
    token = ""
    leads = False
    sighting = _UNSEEN

    def __init__(self, landing: Landing) -> None:
        self.landing: Landing = landing

    def settle(self, landing: Landing) -> None:
        """It has its ending; the first one counts."""

    def wait(self, timeout: float | None) -> bool:
        """True, at once."""
        return True

    def when_done(self, callback: Callback) -> None:
        """Call `callback(self)` now."""
        callback(self)

    def discard(self, callback: Callback) -> None:
        """It was called already."""

    def on_notice(self, watcher: Callable[[Sighting], None]) -> Callable[[], None]:
        """There will be no change to see."""
        return lambda: None
