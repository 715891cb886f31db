"""This is where we put the moves of every actor together into one transition relation."""

from __future__ import annotations

from tests.model.callers import caller_moves
from tests.model.disasters import clock_moves, disaster_moves, invalidation_moves
from tests.model.state import DONE, State, forget_unasked
from tests.model.workers import worker_moves
from tests.model.world import Moves, World


def moves(world: World, state: State) -> Moves:
    """Give every step any actor can take now, faults included."""
    for actor in (caller_moves, worker_moves, clock_moves, invalidation_moves, disaster_moves):
        for label, is_fault, after in actor(world, state):
            yield label, is_fault, forget_unasked(after)


def is_over(state: State) -> bool:
    """Say whether every call has ended."""
    return all(caller.step == DONE for caller in state.callers)
