"""This is where we say what one moment of the modelled world is: the store, the broker, the callers, the workers.

Every record is a NamedTuple of small integers and strings, so that a state hashes and compares at C speed.
Tokens, stamps and owners are names: 0 is no name, and a name nobody refers to any more is used again. In the real
system they are random and never repeat; reusing an unreferenced one is the same world with fewer states.
"""

from __future__ import annotations

from typing import Final, NamedTuple

# A flight's `stamp` when it is not a stamp's name.
UNBEGUN: Final = -1
OUTDATED: Final = 0
# What an outcome says when it is not a value. A value is the number of invalidations done when its body began.
LOOK: Final = -1
ERROR: Final = -2
CANCELLED: Final = -3
# A message that carries no work of an earlier attempt.
FRESH: Final = -1
NOBODY: Final = 0

# Phases of a flight.
QUEUED: Final = "queued"
RUNNING: Final = "running"
RETRYING: Final = "retrying"

# Steps of a caller.
ABSENT: Final = "absent"
READING: Final = "reading"
STAMP_READ: Final = "stamp read"
ENTRY_READ: Final = "entry read"
ELECTING: Final = "electing"
LEADING: Final = "leading"
FOLLOWING: Final = "following"
MISSING: Final = "missing"
COMPUTING: Final = "computing"
REFRESHING: Final = "refreshing"
DISPATCHING: Final = "dispatching"
LEAVING: Final = "leaving"
REVOKING: Final = "revoking"
DONE: Final = "done"

# Steps of a worker.
IDLE: Final = "idle"
TAKEN: Final = "taken"
STAMPED: Final = "stamped"
LATE: Final = "late"
SELF_ELECTING: Final = "self-electing"
BUSY: Final = "busy"
RELEASED: Final = "released"
RETRY_SENT: Final = "retry sent"
REPUBLISHING: Final = "republishing"

# What a worker's main process knows of its child.
ALIVE: Final = "alive"
FINISHED: Final = "finished"
KILLED: Final = "killed"


class Entry(NamedTuple):
    """The stored value; `born` counts the invalidations that were done when its computation began."""

    token: int
    born: int
    stamp: int


class Flight(NamedTuple):
    """One computation in progress, live or retired."""

    token: int
    phase: str
    owner: int
    stamp: int
    inboxes: frozenset[int]


class Outcome(NamedTuple):
    """What a flight left for its own followers."""

    token: int
    says: int


class Store(NamedTuple):
    """All that Redis holds for the one key, and the one stamp (0: missing)."""

    entry: Entry | None = None
    stamp: int = 0
    flight: Flight | None = None
    retired: tuple[Flight, ...] = ()
    outcomes: tuple[Outcome, ...] = ()


class Message(NamedTuple):
    """A copy of a task in the broker; a retry's arguments may hold work that began at `since`."""

    token: int
    since: int = FRESH


class Caller(NamedTuple):
    """One call; `began` counts the invalidations that were done when it was made."""

    step: str
    began: int = 0
    token: int = 0
    outdated: int = 0
    stamp: int = 0
    seen: int = 0
    owner: int = NOBODY
    born: int = 0
    entry: Entry | None = None


class Worker(NamedTuple):
    """One pool slot: the child that ensures, claims, computes, publishes; `spare` was elected without a reply."""

    step: str
    token: int = 0
    owner: int = NOBODY
    stamp: int = 0
    seen: int = 0
    born: int = FRESH
    spare: int = 0


class Main(NamedTuple):
    """What the worker's main process knows of one delivery, and whether it has seen that delivery hold the flight."""

    token: int
    owner: int
    held: bool = False
    child: str = ALIVE


class Replica(NamedTuple):
    """What a replica holds that hears of no more writes, and how many invalidations it has heard of."""

    store: Store
    invalidations: int


class State(NamedTuple):
    """One moment of the world."""

    store: Store
    messages: tuple[Message, ...]
    callers: tuple[Caller, ...]
    workers: tuple[Worker, ...]
    mains: tuple[Main, ...]
    revoked: tuple[int, ...]
    invalidations: int
    budget: tuple[int, ...]
    replica: Replica | None = None


class Violation(Exception):
    """An invariant does not hold; the message names it."""


def usable(entry: Entry | None, stamp: int) -> bool:
    """Say whether an entry reads as valid beside this stamp; a missing stamp is never valid."""
    return entry is not None and stamp != 0 and entry.stamp == stamp


def find(store: Store, token: int) -> tuple[Flight | None, bool]:
    """Find a token's flight and whether it is the live one: the scripts' `at`."""
    flight = store.flight
    if flight is not None and flight.token == token:
        return flight, True
    for retired in store.retired:
        if retired.token == token:
            return retired, False
    return None, False


def put_back(store: Store, flight: Flight, *, live: bool) -> Store:
    """Write a flight where it is."""
    if live:
        return store._replace(flight=flight)
    return store._replace(retired=tuple(sorted([*(r for r in store.retired if r.token != flight.token), flight])))


def take_out(store: Store, token: int) -> Store:
    """Delete a token's flight, live or retired."""
    if store.flight is not None and store.flight.token == token:
        return store._replace(flight=None)
    return store._replace(retired=tuple(r for r in store.retired if r.token != token))


def outcome_of(store: Store, token: int) -> int | None:
    """Read what a token left, if it has ended."""
    for outcome in store.outcomes:
        if outcome.token == token:
            return outcome.says
    return None


def leave_outcome(store: Store, token: int, says: int) -> Store:
    """Write what a token left; a later one replaces it."""
    kept = [outcome for outcome in store.outcomes if outcome.token != token]
    return store._replace(outcomes=tuple(sorted([*kept, Outcome(token, says)])))


def with_caller(state: State, index: int, caller: Caller) -> State:
    """Replace one caller."""
    callers = state.callers
    return state._replace(callers=(*callers[:index], caller, *callers[index + 1 :]))


def with_worker(state: State, index: int, worker: Worker) -> State:
    """Replace one worker. Workers are alike: keeping them sorted merges states that differ only in who does it."""
    workers = state.workers
    return state._replace(workers=tuple(sorted((*workers[:index], worker, *workers[index + 1 :]))))


def with_message(state: State, message: Message) -> State:
    """Add a copy to the broker."""
    return state._replace(messages=tuple(sorted((*state.messages, message))))


def without_message(state: State, message: Message) -> State:
    """Take a copy out of the broker."""
    messages = list(state.messages)
    messages.remove(message)
    return state._replace(messages=tuple(messages))


def _stores(state: State) -> tuple[Store, ...]:
    return (state.store,) if state.replica is None else (state.store, state.replica.store)


def _smallest_unused(used: set[int]) -> int:
    name = 1
    while name in used:
        name += 1
    return name


def new_token(state: State) -> int:
    """Give a token nobody refers to."""
    used = {message.token for message in state.messages}
    used.update(main.token for main in state.mains)
    used.update(state.revoked)
    for store in _stores(state):
        used.update(flight.token for flight in store.retired)
        used.update(outcome.token for outcome in store.outcomes)
        if store.entry is not None:
            used.add(store.entry.token)
        if store.flight is not None:
            used.add(store.flight.token)
    for caller in state.callers:
        used.update((caller.token, caller.outdated, caller.seen))
        if caller.entry is not None:
            used.add(caller.entry.token)
    for worker in state.workers:
        used.update((worker.token, worker.seen, worker.spare))
    return _smallest_unused(used)


def new_stamp(state: State) -> int:
    """Give a stamp nobody refers to."""
    used: set[int] = set()
    for store in _stores(state):
        used.add(store.stamp)
        used.update(flight.stamp for flight in store.retired)
        if store.entry is not None:
            used.add(store.entry.stamp)
        if store.flight is not None:
            used.add(store.flight.stamp)
    for caller in state.callers:
        used.add(caller.stamp)
        if caller.entry is not None:
            used.add(caller.entry.stamp)
    used.update(worker.stamp for worker in state.workers)
    return _smallest_unused(used)


def new_owner(state: State) -> int:
    """Give an owner nonce nobody refers to."""
    used: set[int] = set()
    for store in _stores(state):
        used.update(flight.owner for flight in store.retired)
        if store.flight is not None:
            used.add(store.flight.owner)
    used.update(caller.owner for caller in state.callers)
    used.update(worker.owner for worker in state.workers)
    used.update(main.owner for main in state.mains)
    return _smallest_unused(used)


def forget_unasked(state: State) -> State:
    """Drop outcomes and revocations nobody can ask for any more: the same world with fewer states."""
    if not state.store.outcomes and not state.revoked:
        return state
    asked = {message.token for message in state.messages}
    asked.update(caller.token for caller in state.callers)
    asked.update(worker.token for worker in state.workers)
    asked.update(worker.spare for worker in state.workers)
    asked.update(main.token for main in state.mains)
    for store in _stores(state):
        asked.update(flight.token for flight in store.retired)
        if store.flight is not None:
            asked.add(store.flight.token)
    outcomes = tuple(outcome for outcome in state.store.outcomes if outcome.token in asked)
    revoked = tuple(token for token in state.revoked if token in asked)
    if len(outcomes) == len(state.store.outcomes) and len(revoked) == len(state.revoked):
        return state
    return state._replace(store=state.store._replace(outcomes=outcomes), revoked=revoked)
