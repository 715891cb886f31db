"""This is where steps are carried out one answer at a time, so that anything may happen between two of them."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any, NamedTuple

from taskcache.protocol.steps import Call, Calls

Actions = Generator[Any, Any, Any]


class Body(NamedTuple):
    """Run the body; the answer is how it ended: lasting, short, zero, fails, retries, rejects, interrupted."""

    run: int


class Nested(NamedTuple):
    """Call another key inside of a body, and wait for it; the answer is None, whatever came of it."""

    key: str


class Send(NamedTuple):
    """Send a message to the broker; the answer is None, or what the broker raised is thrown in."""

    message: Any


class Fiber:
    """Some steps under way. What they ask for is answered from outside, a pipeline command by command."""

    def __init__(self, name: str, steps: Actions, on_end: Callable[[Any, BaseException | None], None]) -> None:
        self.name = name
        self.steps = steps
        self.asks: Any = None
        self.is_over = False
        # What the server answered and the fiber has not heard yet.
        self.unheard: list[Any] = []
        self._on_end = on_end
        self._replies: list[Any] = []

    def start(self) -> None:
        self._advance(lambda: next(self.steps))

    @property
    def call(self) -> Call | None:
        """The command to be run next, when it asks for one."""
        if self.is_over or self.unheard:
            return None
        if isinstance(self.asks, Calls):
            return self.asks.calls[len(self._replies)]
        return self.asks if isinstance(self.asks, Call) else None

    def answer(self, reply: Any) -> None:
        """Give it the reply of its command; of a pipeline it hears when all are there."""
        if isinstance(self.asks, Calls):
            self._replies.append(reply)
            if len(self._replies) < len(self.asks.calls):
                return
            reply, self._replies = self._replies, []
        self.send(reply)

    def send(self, reply: Any) -> None:
        self._advance(lambda: self.steps.send(reply))

    def throw(self, error: BaseException) -> None:
        self._replies, self.unheard = [], []
        self._advance(lambda: self.steps.throw(error))

    def bury(self) -> None:
        """Its process was killed: nothing of it runs any more."""
        self.is_over, self.asks = True, None
        # What speaks to the server in `finally` would go on speaking: SIGKILL does not let it.
        for _ in range(9):
            with suppress(RuntimeError):
                self.steps.close()
                return

    def _advance(self, go_on: Callable[[], Any]) -> None:
        try:
            self.asks = go_on()
        except StopIteration as done:
            self._end(done.value, None)
        except BaseException as error:
            if isinstance(error, AssertionError):
                raise
            self._end(None, error)

    def _end(self, value: Any, error: BaseException | None) -> None:
        self.is_over, self.asks = True, None
        self._on_end(value, error)
