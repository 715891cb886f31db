"""This is where we name what a protocol step can ask its driver for: a call, a wait, a launch."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeVar

from msgspec import Struct

T = TypeVar("T")


class Call(Struct, frozen=True):
    """Run one plain command, or the script of that name; the driver sends back the reply."""

    name: str
    keys: tuple[bytes, ...]
    args: tuple[bytes | str | int, ...] = ()


class Calls(Struct, frozen=True):
    """Run several commands in one round trip; the driver sends back their replies, in order."""

    calls: tuple[Call, ...]


class Wait(Struct, frozen=True):
    """Sleep until the flight `token` ends; the reply is how it ended (see flight.Ending)."""

    token: str
    leads: bool


class Pause(Struct, frozen=True):
    """Sleep until the inbox says something of the flight `token`, or until `seconds` pass.

    The reply is the envelope that came, b"" for a wake-up without one, or None when nothing was heard.
    """

    token: str
    seconds: float


class Launch(Struct, frozen=True):
    """Send the flight `token` to its worker queue; the reply is None, or what the broker raised is thrown in."""

    token: str


class Inquire(Struct, frozen=True):
    """
    Ask Celery whether the task `token` ended outside of the protocol; the reply is the reason, or None.

    None comes early, and a reason never, when the inbox says something of the flight meanwhile.
    """

    token: str


Step = Call | Calls | Wait | Pause | Launch | Inquire
Steps = Generator[Step, Any, T]
