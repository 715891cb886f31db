"""This is where the steps of the protocol are fed by hand: what they ask is looked at, what they hear is made up."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any

from taskcache.errors import Cancelled, Revoked, UntrustedValue
from taskcache.protocol.entry import EntryKey
from taskcache.protocol.flight import Errand, Extra, Landing
from taskcache.protocol.steps import Call, Calls, Step, Steps
from taskcache.settings import Settings

T1 = "00000000-0000-4000-8000-000000000001"
T2 = "00000000-0000-4000-8000-000000000002"
MINE = "00000000-0000-4000-8000-00000000000a"
KEY = EntryKey.of(b"cache:f:1")
STAMP = b"cache~fn:f"
OLD, NEW = b"stamp-of-old", b"stamp-of-new"


def entry(value: str, stamp: bytes = NEW, token: str = T1) -> bytes:
    """An entry as these tests write it: its id, then stamp and value."""
    return b"\xc8\x01" + bytes.fromhex(token.replace("-", "")) + stamp + value.encode()


def usable(found: bytes | None, stamps: Sequence[bytes | None]) -> Landing | Extra | None:
    """Valid when its stamp is the current one."""
    if found is None or list(stamps) != [found[18:30]]:
        return None
    return Landing(found[30:].decode(), None, 0)


def opened(sealed: bytes, token: str) -> tuple[Landing, Extra]:
    """What a flight delivered: a value, or an error."""
    if sealed == b"unreadable":
        raise UntrustedValue
    if sealed == b"cancelled":
        return Landing(None, Cancelled(), 0), Extra(())
    if sealed == b"revoked":
        return Landing(None, Revoked(), 0), Extra(())
    if sealed.startswith(b"error:"):
        return Landing(None, LookupError(sealed[6:].decode()), 0), Extra(())
    return Landing(sealed[30:].decode(), None, 0), Extra(())


def errand(
    *, owner: str = "", lifetime_ms: int = 60_000, settings: Settings | None = None, left: Container[str] = ()
) -> Errand:
    """A call of f(1); computed by a queue, or, with an owner, by its caller."""
    return Errand(
        key=KEY,
        stamps=(STAMP,),
        lifetime_ms=lifetime_ms,
        settings=settings or Settings(),
        inbox=lambda: "inbox-a",
        owner=owner,
        usable=usable,
        opened=opened,
        failure=lambda error, token: b"error:" + str(error).encode(),
        was_left=left.__contains__,
    )


class Hand:
    """Feeds steps one reply after the other and remembers all that they asked."""

    def __init__(self, steps: Steps[Any]) -> None:
        self.steps = steps
        self.asked: list[Step] = []
        self.result: Any = None
        self.is_done = False
        self._take(lambda: next(steps))

    @property
    def now(self) -> Step:
        """What is being asked now."""
        assert not self.is_done, f"the steps have ended with {self.result!r}"
        return self.asked[-1]

    def answer(self, *replies: Any) -> Hand:
        """Give the next replies, one for each question; of a pipeline, the last command's."""
        for reply in replies:
            step = self.now
            sent = [None] * (len(step.calls) - 1) + [reply] if isinstance(step, Calls) else reply
            self._take(lambda sent=sent: self.steps.send(sent))
        return self

    def fail(self, error: BaseException) -> Hand:
        """Throw what the driver would throw."""
        self._take(lambda: self.steps.throw(error))
        return self

    def call(self) -> Call:
        """The command or script that is asked now; of a pipeline, the last one."""
        step = self.now
        if isinstance(step, Calls):
            return step.calls[-1]
        assert isinstance(step, Call), f"{step!r} is no call"
        return step

    def names(self) -> list[str]:
        """All questions so far, in a word each."""
        return [self._name(step) for step in self.asked]

    @staticmethod
    def _name(step: Step) -> str:
        if isinstance(step, Calls):
            return "+".join(call.name for call in step.calls)
        return step.name if isinstance(step, Call) else type(step).__name__

    def _take(self, move: Any) -> None:
        try:
            self.asked.append(move())
        except StopIteration as done:
            self.result, self.is_done = done.value, True
