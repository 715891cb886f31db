"""This is where a function under test stops until its test lets it go on, and where waiting callers are seen."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from taskcache import Cache
from tests.nodes.waiting import wait_until

T = TypeVar("T")


class Gate:
    """Holds up the first visitor, or every one while it is shut; counts them all."""

    def __init__(self) -> None:
        self.visits = 0
        self._reached = threading.Event()
        self._opened = threading.Event()
        self._lock = threading.Lock()

    def pass_first(self) -> int:
        """Stop the first visitor until `open`; others walk through. Gives the number of this visit."""
        with self._lock:
            self.visits += 1
            visit = self.visits
        if visit == 1:
            self._reached.set()
            assert self._opened.wait(60), "nobody opened the gate"
        return visit

    def wait_reached(self) -> None:
        """Wait until the first visitor stands at the gate."""
        assert self._reached.wait(30), "nobody came to the gate"

    def open(self) -> None:
        self._opened.set()


class Counter:
    """A function's body that gives how often it ran."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self) -> int:
        self.runs += 1
        return self.runs


@contextmanager
def threads(count: int) -> Iterator[Callable[[Callable[[], T]], Future[T]]]:
    """Give a function that runs another in a thread of its own and returns its future."""
    with ThreadPoolExecutor(count) as pool:
        yield pool.submit


class Renewals:
    """Counts how often the time left of a key went up again."""

    def __init__(self, left_ms: Callable[[], int]) -> None:
        self._left_ms = left_ms
        self.count = 0
        self.least = self._last = left_ms()

    def look(self) -> int:
        """Look once more and give the count."""
        now = self._left_ms()
        self.count += now > self._last
        self.least, self._last = min(self.least, now), now
        return self.count


def importable(cls: type[T]) -> type[T]:
    """Let a class that a test defines be known by its name, as one of a module is."""
    cls.__qualname__ = cls.__name__
    setattr(sys.modules[cls.__module__], cls.__name__, cls)
    return cls


def wait_for_followers(cache: Cache, count: int) -> None:
    """Wait until `count` callers of this process wait for somebody's flight."""
    # No public number tells callers from flights, and a test that lets go too early would test nothing.
    watches = cache.station.keeper._watches
    wait_until(
        lambda: count <= sum(len(watch.followers) for watch in list(watches.values())),
        f"{count} callers to follow a flight",
        timeout=30,
    )
