"""This is where we wait for a condition instead of sleeping."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(condition: Callable[[], T], what: str, timeout: float = 10.0) -> T:
    """
    Poll `condition` until it is true and return what it gave; `what` completes «waited for …».

    An exception raised by `condition` ends the wait: catch in the condition what is expected.
    """
    end = time.monotonic() + timeout
    pause = 0.001
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= end:
            raise AssertionError(f"waited {timeout:g} s for {what}; the last look gave {value!r}")
        time.sleep(pause)
        # Quick at first, because most waits are short; never so rare that it shows in a measured time.
        pause = min(pause * 2, 0.02)


def stays(condition: Callable[[], object], what: str, seconds: float) -> None:
    """Fail as soon as `condition` is false within `seconds`; for what must not happen, which no event announces."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not condition():
            raise AssertionError(f"{what} did not stay so for {seconds:g} s")
        time.sleep(0.01)
