"""This is where we move the rest of the world: leases that end, invalidations, and what breaks."""

from __future__ import annotations

from tests.model import scripts
from tests.model.state import (
    BUSY,
    FOLLOWING,
    IDLE,
    LEADING,
    MISSING,
    NOBODY,
    QUEUED,
    RUNNING,
    UNBEGUN,
    Entry,
    Flight,
    Message,
    Replica,
    State,
    Store,
    new_token,
    take_out,
    with_message,
    without_message,
)
from tests.model.workers import is_held, kill_running
from tests.model.world import Moves, World


def clock_moves(world: World, state: State) -> Moves:
    """End leases and outcomes: freely where nobody holds or waits, else as the fault `pause`."""
    store = state.store
    waited = {caller.token for caller in state.callers if caller.step in (LEADING, FOLLOWING, MISSING)}
    # An outcome lingers for seconds; main processes hear of their children within milliseconds.
    asked = waited | {main.token for main in state.mains}
    flights = store.retired if store.flight is None else (store.flight, *store.retired)
    for flight in flights:
        token = flight.token
        kept = is_held(world, state, flight) if flight.phase == RUNNING else token in asked
        lapsed = state._replace(store=take_out(store, token))
        if not kept:
            if flight.phase == RUNNING:
                world.check_lapse(state, flight)
            yield f"the lease of T{token} ends", False, lapsed
        elif (spent := world.spend(lapsed, "pause")) is not None:
            yield f"the lease of T{token} ends under a living holder", True, spent
    for outcome in store.outcomes:
        others = tuple(other for other in store.outcomes if other != outcome)
        lapsed = state._replace(store=store._replace(outcomes=others))
        if outcome.token not in asked:
            yield f"the outcome of T{outcome.token} lapses", False, lapsed
        elif (spent := world.spend(lapsed, "pause")) is not None:
            yield f"the outcome of T{outcome.token} lapses unread", True, spent


def invalidation_moves(world: World, state: State) -> Moves:
    """Bump, forget, put: each takes effect in one command, and has returned when the count goes up."""
    count = state.invalidations + 1
    store = state.store
    spent = world.spend(state, "bump")
    if spent is not None:
        stamp = store.stamp + 1 if world.rules.counter_stamps else 0
        yield "bump", True, spent._replace(store=store._replace(stamp=stamp), invalidations=count)
    spent = world.spend(state, "forget")
    if spent is not None:
        forgotten = scripts.forget(store, world.rules, entry=None)
        yield "forget", True, spent._replace(store=forgotten, invalidations=count)
    spent = world.spend(state, "put")
    if spent is not None:
        stamp = world.stamp_for(state)
        entry = Entry(new_token(state), count, stamp)
        replaced = scripts.forget(store._replace(stamp=stamp), world.rules, entry=entry)
        yield "put", True, spent._replace(store=replaced, invalidations=count)


def disaster_moves(world: World, state: State) -> Moves:
    """Lose data, lose or repeat messages, lose a claim in a failover."""
    store = state.store
    has_key = store.entry is not None or store.flight is not None or bool(store.retired or store.outcomes)
    spent = world.spend(state, "empty") if has_key or store.stamp else None
    if spent is not None:
        yield "the server loses everything", True, spent._replace(store=Store())
        if state.messages:
            yield "the server and the broker lose everything", True, spent._replace(store=Store(), messages=())
    spent = world.spend(state, "empty_slot") if has_key else None
    if spent is not None:
        yield (
            "the slot of the key loses everything, stamps survive",
            True,
            spent._replace(store=Store(stamp=store.stamp)),
        )
    spent = world.spend(state, "expire_entry") if store.entry is not None else None
    if spent is not None:
        yield "the entry expires", True, spent._replace(store=store._replace(entry=None))
    spent = world.spend(state, "evict")
    if spent is not None:
        if store.flight is not None:
            yield "the flight is evicted", True, spent._replace(store=store._replace(flight=None))
        if store.stamp:
            yield "the stamp is evicted", True, spent._replace(store=store._replace(stamp=0))
    spent = world.spend(state, "lost_claim")
    flight = store.flight
    if spent is not None and flight is not None and flight.phase != QUEUED:
        older = Flight(flight.token, QUEUED, NOBODY, UNBEGUN, flight.inboxes)
        yield "a failover loses the claim", True, spent._replace(store=store._replace(flight=older))
    yield from _replica_moves(world, state)
    yield from _broker_moves(world, state)


def _replica_moves(world: World, state: State) -> Moves:
    """A failover forgets what was written after some moment. One that forgets an invalidation too is nobody's to cure."""
    replica = state.replica
    if replica is None:
        spent = world.spend(state, "failover")
        if spent is not None:
            heard = Replica(state.store, state.invalidations)
            yield "the replica hears of no more writes", True, spent._replace(replica=heard)
    elif replica.invalidations == state.invalidations:
        yield "the replica takes over", True, state._replace(store=replica.store, replica=None)


def _broker_moves(world: World, state: State) -> Moves:
    spent = world.spend(state, "dup")
    if spent is not None:
        known = {message.token for message in state.messages}
        known.update(worker.token for worker in state.workers if worker.step != IDLE)
        known.update(caller.token for caller in state.callers if caller.step in (FOLLOWING, MISSING))
        for token in sorted(known):
            if sum(message.token == token for message in state.messages) < 2:
                yield f"the broker delivers T{token} again", True, with_message(spent, Message(token))
    spent = world.spend(state, "lose_message")
    if spent is not None:
        for message in sorted(set(state.messages)):
            yield f"the broker loses T{message.token}", True, without_message(spent, message)
    spent = world.spend(state, "revoke")
    if spent is not None:
        running = {worker.token for worker in state.workers if worker.step == BUSY}
        for token in sorted({message.token for message in state.messages} | running):
            yield f"an operator revokes T{token}", True, kill_running(world, spent, token)
