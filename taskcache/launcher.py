"""This is where the protocol meets whatever runs a computation elsewhere: the seam that launchers/ fill."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol


class MessageMissing(Exception):
    """What `inquire` says of a message that is not in its queue any more: purged, or gone with a worker that died."""


class Launcher(Protocol):
    """Sends one call to where it is computed, as often as its flight asks; knows its arguments, not the protocol."""

    def launch(self, token: str) -> None:
        """Send the call under this token; raises DispatchFailed, NoCeleryApp or AmbiguousApp in bounded time."""

    def launch_beside(self, token: str) -> None:
        """The same in the thread that sends for every wait of a process: it is back in bounded time whatever becomes of it."""

    def launch_together(self, calls: Sequence[tuple[Any, str]]) -> None:
        """Send several calls of one function in one message: launchers of this kind, this one first, and their tokens."""

    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of the call as they were written down: what the caller has changed since is not in them."""

    def inquire(self, token: str) -> BaseException | None:
        """
        Say why a task ended outside of the protocol (unknown, revoked, expired), or None while nothing is known.

        MessageMissing means that it may be worth the while to send the message again, if no worker has claimed it yet.
        """

    def note_served(self, token: str) -> None:
        """Hear that a computation which this launcher may have sent was seen to run or has ended: somebody takes the tasks."""

    def revoke(self, token: str) -> None:
        """Ask for the end of a task that nobody waits for any more."""

    def is_in_worker(self) -> bool:
        """True inside a running task, where waiting may block the very slot that is waited for."""

    def async_result(self, token: str, result: Any) -> Any:
        """The queue's own handle of the computation, which gives the value of `result`."""
