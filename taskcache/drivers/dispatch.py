"""This is where launches and inquiries of waited flights are made: they speak to a broker, which may take seconds."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from taskcache.drivers import threads
from taskcache.launcher import Launcher
from taskcache.protocol.steps import Inquire, Launch

Answer = Callable[[Any], None]


class Told:
    """A reason that is an answer, not an error to throw."""

    def __init__(self, reason: BaseException) -> None:
        self.reason = reason


class Dispatch:
    """One thread for all of them, beside the keeper's, so that a broker that is away holds up nobody's value."""

    def __init__(self) -> None:
        self._orders: deque[tuple[Launcher, Launch | Inquire, Answer]] = deque()
        self._lock = threading.Lock()
        self._runs = False

    def order(self, launcher: Launcher, step: Launch | Inquire, answer: Answer) -> None:
        """Have a step carried out; `answer` gets None, a reason, or the error, from the thread."""
        with self._lock:
            self._orders.append((launcher, step, answer))
            if not self._runs:
                self._runs = True
                threads.start(self._run, "taskcache-dispatch")

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._orders:
                    # It ends rather than idles: most processes never send a message twice.
                    self._runs = False
                    return
                launcher, step, answer = self._orders.popleft()
            answer(_carry_out(launcher, step))


def _carry_out(launcher: Launcher, step: Launch | Inquire) -> Any:
    try:
        if isinstance(step, Launch):
            launcher.launch(step.token)
            return None
        reason = launcher.inquire(step.token)
        return None if reason is None else Told(reason)
    except Exception as error:  # noqa: BLE001 - thrown into the steps
        return error
