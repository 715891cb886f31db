"""This is where a waited flight is kept as the keeper sees it: who waits, the steps that watch it, what they wait for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from taskcache.drivers.dispatch import Order
from taskcache.drivers.pending import Pending
from taskcache.launcher import Launcher
from taskcache.protocol.flight import Ending, Errand
from taskcache.protocol.steps import Step, Steps
from taskcache.protocol.watch import Sighting, watch

Heard = Callable[[Ending | BaseException], None]
Followers = list[tuple[Heard, Callable[[Sighting], None]]]


class Watch:
    """One waited flight, however many callers of this process wait for it."""

    def __init__(self, errand: Errand, token: str, leads: bool, launcher: Launcher | None) -> None:
        self.token = token
        self.launcher = launcher
        self.due = 0.0
        self.pausing = True
        self.nudged = False
        self.ended = False
        self.away = False
        # What a broker or a result backend is asked for it now, if anything.
        self.order: Order | None = None
        self.followers: Followers = []
        self.steps: Steps[Any] = watch(
            errand,
            token,
            leads=leads,
            noticed=self._notice,
            launches=launcher is not None,
            was_away=self._was_away,
        )

    def _was_away(self) -> bool:
        """Whether the server was away since this was last asked."""
        was, self.away = self.away, False
        return was

    def _notice(self, sighting: Sighting) -> None:
        if sighting.state == "running" and self.launcher is not None:
            self.launcher.note_served(self.token)
        for _, noticed in list(self.followers):
            noticed(sighting)


class Job:
    """Steps that wait for an answer, and since when the server is away."""

    __slots__ = ("away_since", "owner", "step")

    def __init__(self, owner: Watch | Pending, step: Step) -> None:
        self.owner = owner
        self.step = step
        self.away_since = 0.0
