"""This is where we describe one run: how many actors, which faults, which rules, and the checks made on the way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from tests.model.rules import Rules
from tests.model.state import (
    ABSENT,
    BUSY,
    COMPUTING,
    DONE,
    FOLLOWING,
    IDLE,
    Caller,
    Flight,
    State,
    Store,
    Violation,
    Worker,
    find,
    new_stamp,
    with_caller,
)

# A label for the trace, whether it is a fault (liveness does not lean on faults), and what the world is afterwards.
Move: TypeAlias = tuple[str, bool, State]
Moves: TypeAlias = Iterator[Move]

# What users do on purpose costs no fault: a run may have all of these beside its disasters.
CHOICES = frozenset(("bump", "forget", "put", "leave"))
# Faults that can take a flight from somebody who holds it.
LOSSES = frozenset(("pause", "empty", "empty_slot", "evict", "lost_claim", "failover"))


@dataclass(frozen=True)
class Run:
    """
    One exploration: `callers` calls and `workers` pool slots, and how often each named event may happen.

    `faults` bounds the disasters together. `lifetimes` are those a publish may have: lasting (the entry outlives the
    outcome), short, zero (not stored). `computing` callers compute themselves, as `cached` does. With `apart` the
    worker's main process is its own actor; with `one_process` all callers share one inbox.
    """

    name: str
    callers: int = 2
    workers: int = 2
    budget: Mapping[str, int] = field(default_factory=dict)
    faults: int = 3
    order: str = "stamp first"
    lifetimes: tuple[str, ...] = ("lasting",)
    computing: int = 0
    acks_late: bool = False
    stale: bool = False
    inline: bool = False
    apart: bool = False
    one_process: bool = False
    retry_args: bool = False
    rules: Rules = field(default_factory=Rules)


class World:
    """A run with its budget made fast to spend, and the invariants that are checked at a delivery."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.rules = run.rules
        self.kinds = {kind: place for place, kind in enumerate(sorted(run.budget))}
        self.loses = any(kind in LOSSES for kind in run.budget)
        # A failover that loses the claim gives two runs of one token; so does a repeated elect when the flight was lost
        # in between. They have two owners, so that one value is refused: what is checked there is that it is.
        fails_over = "lost_claim" in run.budget or "failover" in run.budget
        self.may_run_twice = fails_over or (self.loses and "lost_reply" in run.budget)

    def initial(self) -> State:
        """Give the state in which nothing has happened."""
        run = self.run
        budget = (*(run.budget[kind] for kind in self.kinds), run.faults)
        return State(Store(), (), (Caller(ABSENT),) * run.callers, (Worker(IDLE),) * run.workers, (), (), 0, budget)

    def spend(self, state: State, kind: str) -> State | None:
        """Pay for one event of this kind; None when the run has none left."""
        place = self.kinds.get(kind)
        if place is None:
            return None
        budget = list(state.budget)
        if not budget[place]:
            return None
        budget[place] -= 1
        if kind not in CHOICES:
            if not budget[-1]:
                return None
            budget[-1] -= 1
        return state._replace(budget=tuple(budget))

    def stamp_for(self, state: State) -> int:
        """Give the stamp an ensure reads: the one that is there, else a new one."""
        if state.store.stamp:
            return state.store.stamp
        return 1 if self.rules.counter_stamps else new_stamp(state)

    def inbox_of(self, index: int) -> int:
        """Name the inbox of a caller's process."""
        return 0 if self.run.one_process else index

    def hand_over(self, state: State, index: int, born: int, how: str) -> State:
        """Give a value to a caller and end its call (I1)."""
        began = state.callers[index].began
        if born < began:
            raise Violation(
                f"I1: caller {index} began after invalidation {began}, got a value begun at {born} by {how}"
            )
        return with_caller(state, index, Caller(DONE))

    def wake(self, label: str, state: State, token: int, inboxes: frozenset[int], born: int) -> Moves:
        """Try every subset of the wake-ups as delivered; the others are lost. An error wakes nobody: it lingers."""
        waiters = [
            index
            for index, caller in enumerate(state.callers)
            if caller.step == FOLLOWING and caller.token == token and self.inbox_of(index) in inboxes
        ]
        if born < 0:
            waiters = []
        for mask in range(1 << len(waiters)):
            woken = state
            for place, index in enumerate(waiters):
                if mask >> place & 1:
                    woken = self.hand_over(woken, index, born, "wake-up")
            yield f"{label}, wakes {[w for place, w in enumerate(waiters) if mask >> place & 1]}", False, woken

    def check(self, state: State) -> None:
        """Check what must hold in every state: I2 and I4/I5."""
        store = state.store
        entry, flight = store.entry, store.flight
        if entry is not None and entry.stamp == store.stamp and entry.born < state.invalidations:
            raise Violation(f"I4/I5: entry of T{entry.token} reads as valid after invalidation {state.invalidations}")
        if flight is None:
            return
        if any(retired.token == flight.token for retired in store.retired):
            raise Violation(f"I2: T{flight.token} is both live and retired")
        running = sum(worker.step == BUSY and worker.token == flight.token for worker in state.workers)
        running += sum(caller.step == COMPUTING and caller.token == flight.token for caller in state.callers)
        if running > 1 and not self.may_run_twice:
            raise Violation(f"I2: {running} actors run the live T{flight.token}")

    def check_displacing(self, state: State, store: Store, who: str) -> None:
        """Check that a flight that was just retired was outdated (I2b)."""
        flight = state.store.flight
        if flight is None or flight.stamp != state.store.stamp or not flight.stamp:
            return
        if "failover" in self.run.budget:
            return  # Who has read stamps that were forgotten displaces needlessly, which costs one run.
        if not find(store, flight.token)[1]:
            raise Violation(f"I2b: {who} displaces T{flight.token} although its stamp {flight.stamp} is current")

    def check_lapse(self, state: State, flight: Flight) -> None:
        """Check that no lease ends under an actor that still computes (I8)."""
        if any(worker.step == BUSY and worker.owner == flight.owner for worker in state.workers):
            raise Violation(f"I8: the lease of T{flight.token} ends under its computation: nobody renews it")

    def check_asserting(self, token: int) -> None:
        """Check that nothing is brought back that the server never lost (I6)."""
        if not self.loses:
            raise Violation(f"I6: T{token} is asserted, and the server has lost nothing")
