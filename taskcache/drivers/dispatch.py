"""This is where launches and inquiries of waited flights are made: they speak to a broker, which may take seconds."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from taskcache.drivers import threads
from taskcache.launcher import Launcher
from taskcache.protocol.steps import Inquire, Launch


class Told:
    """A reason that is an answer, not an error to throw."""

    def __init__(self, reason: BaseException) -> None:
        self.reason = reason


class Order:
    """One step to be carried out; `answer(order, reply)` gets None, a reason, or the error, from the thread."""

    def __init__(self, launcher: Launcher, step: Launch | Inquire, answer: Callable[[Order, Any], None]) -> None:
        self.launcher = launcher
        self.step = step
        self.answer = answer
        # Set by who does not wait for the answer any more; a message is sent all the same.
        self.is_abandoned = False


class Dispatch:
    """One thread for all of them, beside the keeper's, so that a broker that is away holds up nobody's value."""

    def __init__(self) -> None:
        self._orders: deque[Order] = deque()
        self._lock = threading.Lock()
        self._runs = False

    def take(self, order: Order) -> None:
        """Have a step carried out; raises RuntimeError where no thread can be started, and then it is not."""
        with self._lock:
            if not self._runs:
                threads.start(self._run, "taskcache-dispatch")
                self._runs = True
            self._orders.append(order)

    def _run(self) -> None:
        try:
            while (order := self._next()) is not None:
                order.answer(order, _carry_out(order))
        except BaseException:
            with self._lock:
                self._runs = False
            raise

    def _next(self) -> Order | None:
        with self._lock:
            while self._orders:
                order = self._orders.popleft()
                if not (order.is_abandoned and isinstance(order.step, Inquire)):
                    return order
            # It ends rather than idles: most processes never send a message twice.
            self._runs = False
            return None


def _carry_out(order: Order) -> Any:
    try:
        if isinstance(order.step, Launch):
            order.launcher.launch_beside(order.step.token)
            return None
        reason = order.launcher.inquire(order.step.token)
        return None if reason is None else Told(reason)
    except BaseException as error:  # noqa: BLE001 - thrown into the steps; brokers of others end no thread of ours
        return error
