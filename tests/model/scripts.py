"""This is where we write the eight scripts a second time, as pure functions of the store, line by line beside the Lua.

Leases, times and progress are left out: a lease ends when the world says so (disasters.py). The reply comes first,
then the store as the script leaves it. `test_scripts.py` runs the same random walks through these and through the Lua.
"""

from __future__ import annotations

from tests.model.rules import Rules
from tests.model.state import (
    CANCELLED,
    LOOK,
    NOBODY,
    OUTDATED,
    QUEUED,
    RETRYING,
    RUNNING,
    UNBEGUN,
    Entry,
    Flight,
    Store,
    find,
    leave_outcome,
    outcome_of,
    put_back,
    take_out,
)

NO_INBOX: frozenset[int] = frozenset()


def elect(
    store: Store,
    rules: Rules,
    *,
    token: int,
    seen: int,
    stamp: int,
    outdated: int,
    inbox: int | None,
    owner: int = NOBODY,
) -> tuple[str, int, Store]:
    """Reply hit, follow, outdated or lead, and the token it is about."""
    entry, flight = store.entry, store.flight
    if entry is not None and entry.token != seen:
        return "hit", entry.token, store
    if not rules.elects_twice and (outcome_of(store, token) is not None or find(store, token)[0] is not None):
        return "lead", token, store
    inboxes = NO_INBOX if inbox is None else frozenset((inbox,))
    if flight is not None and (rules.follow_any or flight.stamp in (UNBEGUN, stamp)):
        return "follow", flight.token, store._replace(flight=flight._replace(inboxes=flight.inboxes | inboxes))
    if flight is not None and flight.token != outdated and not rules.displace_at_once:
        return "outdated", flight.token, store
    if flight is not None:
        store = put_back(store, flight, live=False)
    phase, begun = (QUEUED, UNBEGUN) if owner == NOBODY else (RUNNING, stamp)
    mine = Flight(token, phase, owner, begun, inboxes)
    return "lead", token, store._replace(flight=mine)


def claim(store: Store, rules: Rules, *, token: int, owner: int, stamp: int, again: bool) -> tuple[str, Store]:
    """Reply run, ended, superseded, gone or taken."""
    if outcome_of(store, token) is not None:
        return "ended", store
    flight, live = find(store, token)
    if flight is None:
        return ("gone" if store.flight is None else "superseded"), store
    if again and flight.stamp == UNBEGUN and not rules.retry_begins:
        return "gone", store
    if flight.phase == RUNNING and flight.owner != owner:
        return "taken", store
    begun = stamp if flight.stamp == UNBEGUN else flight.stamp
    return "run", put_back(store, flight._replace(phase=RUNNING, owner=owner, stamp=begun), live=live)


def renew(store: Store, rules: Rules, *, token: int, owner: int, held: bool) -> tuple[str, Store]:
    """Reply live, retired, unowned, ended, gone or asserted."""
    if outcome_of(store, token) is not None and not rules.marker_unread:
        return "ended", store
    flight, live = find(store, token)
    if flight is not None:
        if flight.phase == RUNNING and flight.owner == owner:
            return ("live" if live else "retired"), store
        return "unowned", store
    if not held and not rules.assert_unheld:
        return "gone", store
    return "asserted", put_back(store, Flight(token, RUNNING, owner, OUTDATED, NO_INBOX), live=False)


def release(store: Store, *, token: int, owner: int) -> tuple[str, Store]:
    """Reply released or refused; the owner stays on record."""
    flight, live = find(store, token)
    if flight is None or flight.owner != owner:
        return "refused", store
    return "released", put_back(store, flight._replace(phase=RETRYING), live=live)


def publish(
    store: Store, rules: Rules, *, token: int, owner: int, says: int, stores: bool, lasts: bool
) -> tuple[str, frozenset[int], Store]:
    """
    Reply stored, delivered, kept, refused or ended, and the inboxes to wake.

    `stores` is ttl ≠ 0, `lasts` is ttl ≥ linger. The entry takes the flight's stamp: the worker sends the stamps its
    claim returned, which are the flight's own, or '' and then nothing is stored.
    """
    if outcome_of(store, token) is not None:
        return "ended", NO_INBOX, store
    flight, live = find(store, token)
    if flight is not None and flight.owner != owner and not rules.owner_unchecked:
        # Nobody runs it: the attempt that released it is over, and the next one was never claimed.
        is_waiting = owner == NOBODY and flight.phase != RUNNING
        if not is_waiting or rules.retrying_unfailable:
            return "refused", NO_INBOX, store
    if flight is not None and live and flight.stamp not in (UNBEGUN, OUTDATED) and stores:
        stamp = store.stamp if rules.stamp_at_publish else flight.stamp
        store = store._replace(entry=Entry(token, says, stamp), flight=None)
        return "stored", flight.inboxes, leave_outcome(store, token, LOOK if lasts else says)
    store = leave_outcome(store, token, says)
    if flight is None:
        return "kept", NO_INBOX, store
    return "delivered", flight.inboxes, take_out(store, token)


def follow(store: Store, *, token: int, inbox: int) -> tuple[str, int, Store]:
    """Reply ended (and what the outcome says), gone, flying or waiting (nobody runs it: a waiter may send again)."""
    ended = outcome_of(store, token)
    if ended is not None:
        return "ended", ended, store
    flight, live = find(store, token)
    if flight is None:
        return "gone", 0, store
    if inbox not in flight.inboxes:
        store = put_back(store, flight._replace(inboxes=flight.inboxes | {inbox}), live=live)
    return ("flying" if flight.phase == RUNNING else "waiting"), 0, store


def forget(store: Store, rules: Rules, *, entry: Entry | None) -> Store:
    """Outdate a flight that has begun, and delete the entry or replace it."""
    flight = store.flight
    if flight is not None and flight.stamp != UNBEGUN and not rules.forget_keeps:
        flight = flight._replace(stamp=OUTDATED)
    return store._replace(flight=flight, entry=entry)


def leave(store: Store, *, token: int, inbox: int) -> tuple[str, Store]:
    """Reply gone, others, running or ended."""
    flight, live = find(store, token)
    if flight is None:
        return "gone", store
    flight = flight._replace(inboxes=flight.inboxes - {inbox})
    if flight.inboxes:
        return "others", put_back(store, flight, live=live)
    if flight.phase == RUNNING:
        return "running", put_back(store, flight._replace(stamp=OUTDATED), live=live)
    return "ended", take_out(leave_outcome(store, token, CANCELLED), token)
