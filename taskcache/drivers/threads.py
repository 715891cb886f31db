"""This is where we start the few threads a process needs, under gevent as real ones where it matters."""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, TypeVar

T = TypeVar("T")


def start(target: Callable[[], None], name: str) -> None:
    """Run `target` beside the program; a greenlet where gevent has patched threading."""
    threading.Thread(target=target, name=name, daemon=True).start()


def native_lock() -> Any:
    """A lock for what `start_native` runs: under gevent a lock of its own belongs to one real thread, and here there are two."""
    monkey: Any = sys.modules.get("gevent.monkey")
    is_patched = monkey is not None and monkey.is_module_patched("threading")
    return monkey.get_original("_thread", "allocate_lock")() if is_patched else threading.Lock()


def after_fork(renew: Callable[[], None]) -> None:
    """Have every forked child begin with `renew`; nothing where nobody can fork, as on Windows."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=renew)


class Bell:
    """Wakes one thread of `start_native`, from any thread and any greenlet; rung beforehand, it is not waited for."""

    def __init__(self) -> None:
        self._lock = native_lock()
        self._lock.acquire()

    def ring(self) -> None:
        """Wake who waits, or who waits next."""
        # Rung already and not heard yet.
        with suppress(RuntimeError):
            self._lock.release()

    def wait(self, seconds: float = -1) -> None:
        """Sleep until it rings, at most `seconds`."""
        self._lock.acquire(timeout=seconds)


class Mailbox(Generic[T]):
    """
    What other threads and greenlets put here, one reads.

    As `queue.SimpleQueue`, into which a finalizer may put something too; but gevent's cannot wake who reads in another
    thread than it is filled in: it waits for ever, or raises LoopExit.
    """

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._arrived = threading.Lock()
        self._arrived.acquire()

    def put(self, item: T) -> None:
        """Wake the one who reads, or who reads next."""
        self._items.append(item)
        # Not locked: another item has arrived as well, and is not read yet.
        with suppress(RuntimeError):
            self._arrived.release()

    def get(self, timeout: float | None = None) -> T:
        """The oldest item; raises `queue.Empty` when none has come for `timeout` seconds."""
        until = None if timeout is None else time.monotonic() + timeout
        while not self._items:
            left = -1 if until is None else max(0.0, until - time.monotonic())
            # Again, when it was let go for an item that was read before anyone had to wait for it.
            if not self._arrived.acquire(timeout=left):
                raise queue.Empty
        return self._items.popleft()


def start_native(target: Callable[[], None], name: str) -> None:
    """Run `target` on an operating system thread even under gevent, so that a greenlet that never yields cannot stop it."""
    monkey: Any = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("threading"):
        monkey.get_original("_thread", "start_new_thread")(target, ())
    else:
        start(target, name)
