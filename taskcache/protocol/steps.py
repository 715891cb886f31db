"""This is where we name what a protocol step can ask its driver for: a call, a wait, a launch."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")


class Call(NamedTuple):
    """Run one plain command, or the script of that name; the driver sends back the reply."""

    name: str
    keys: tuple[bytes, ...]
    args: tuple[bytes | str | int, ...] = ()


class Calls(NamedTuple):
    """Run several commands in one round trip; the driver sends back their replies, in order."""

    calls: tuple[Call, ...]


class Wait(NamedTuple):
    """Sleep until the flight `token` ends; the reply is how it ended (see flight.Ending)."""

    token: str
    leads: bool


class Pause(NamedTuple):
    """Sleep until the inbox says something of the flight `token`, or until `seconds` pass.

    The reply is the envelope that came, b"" for a wake-up without one, or None when nothing was heard.
    """

    token: str
    seconds: float


class Launch(NamedTuple):
    """Send the flight `token` to its worker queue; the reply is None, or what the broker raised is thrown in."""

    token: str


class Inquire(NamedTuple):
    """Ask Celery whether the task `token` ended outside of the protocol; the reply is the reason, or None."""

    token: str


Step = Call | Calls | Wait | Pause | Launch | Inquire
Steps = Generator[Step, Any, T]
