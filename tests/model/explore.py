"""This is where we visit every reachable state breadth-first, and tell the shortest story that breaks an invariant."""

from __future__ import annotations

import time
from array import array
from dataclasses import dataclass

from tests.model.flight import is_over, moves
from tests.model.state import State, Violation
from tests.model.world import Run, World


@dataclass(frozen=True)
class Report:
    """What an exploration saw. `is_complete` is False when it ran out of time; liveness is then not judged."""

    run: Run
    states: int
    transitions: int
    seconds: float
    is_complete: bool
    broken: str = ""
    trace: tuple[str, ...] = ()

    @property
    def is_clean(self) -> bool:
        """Say whether no invariant was broken as far as it went."""
        return not self.broken


class Explorer:
    """One breadth-first search; labels are not stored but made again for the one trace that is told."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.world = World(run)
        first = self.world.initial()
        self.number = {first: 0}
        self.states = [first]
        self.parents = array("q", [-1])
        self.sources = array("q")
        self.targets = array("q")
        self.transitions = 0
        self.began = time.monotonic()

    def explore(self, seconds: float) -> Report:
        """Visit until everything is visited, an invariant breaks, or the time is over."""
        place = 0
        while place < len(self.states):
            if place % 1024 == 0 and time.monotonic() - self.began > seconds:
                return self._report(is_complete=False)
            try:
                self._expand(place)
            except Violation as violation:
                return self._report(is_complete=False, broken=str(violation), last=self._last(place, violation))
            place += 1
        stuck = self._find_stuck()
        if stuck is None:
            return self._report(is_complete=True)
        why = "I3: from here a call can never end without another fault"
        return self._report(
            is_complete=True, broken=why, last=(stuck, f"then for ever: {_picture(self.states[stuck])}")
        )

    def _expand(self, place: int) -> None:
        for _, is_fault, after in moves(self.world, self.states[place]):
            self.transitions += 1
            number = self.number.get(after)
            if number is None:
                number = self.number[after] = len(self.states)
                self.states.append(after)
                self.parents.append(place)
                self.world.check(after)
            if not is_fault:
                self.sources.append(place)
                self.targets.append(number)

    def _last(self, place: int, violation: Violation) -> tuple[int, str]:
        """Say after which state the violation came: the newest one when its own check failed, else the expanded one."""
        newest = len(self.states) - 1
        try:
            self.world.check(self.states[newest])
        except Violation:
            return newest, str(violation)
        return place, str(violation)

    def _find_stuck(self) -> int | None:
        """Walk back from every finished state over fault-free steps; what is not met can never end (I3)."""
        heads = array("q", [-1]) * len(self.states)
        nexts = array("q", [-1]) * len(self.targets)
        for edge, target in enumerate(self.targets):
            nexts[edge] = heads[target]
            heads[target] = edge
        can_end = bytearray(len(self.states))
        pending = [place for place, state in enumerate(self.states) if is_over(state)]
        for place in pending:
            can_end[place] = 1
        while pending:
            edge = heads[pending.pop()]
            while edge >= 0:
                source = self.sources[edge]
                if not can_end[source]:
                    can_end[source] = 1
                    pending.append(source)
                edge = nexts[edge]
        stuck = can_end.find(0)
        return None if stuck < 0 else stuck

    def _report(self, *, is_complete: bool, broken: str = "", last: tuple[int, str] | None = None) -> Report:
        seconds = time.monotonic() - self.began
        trace = self._trace(*last) if last is not None else ()
        return Report(self.run, len(self.states), self.transitions, seconds, is_complete, broken, trace)

    def _trace(self, place: int, ending: str) -> tuple[str, ...]:
        steps = [ending]
        while place > 0:
            parent = self.parents[place]
            target = self.states[place]
            steps.append(next(label for label, _, after in moves(self.world, self.states[parent]) if after == target))
            place = parent
        return tuple(reversed(steps))


def explore(run: Run, *, seconds: float = 300) -> Report:
    """Explore one run."""
    return Explorer(run).explore(seconds)


def _picture(state: State) -> str:
    """Show what matters of a state in one line."""
    store = state.store
    return (
        f"flight {store.flight} · retired {store.retired} · outcomes {store.outcomes} · messages {state.messages} · "
        f"callers {[(c.step, c.token) for c in state.callers]} · workers {[(w.step, w.token) for w in state.workers]}"
    )
