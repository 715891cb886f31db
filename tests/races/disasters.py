"""This is where things happen to the server and to the broker that nobody of a fleet did."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from tests.races.moves import Move

if TYPE_CHECKING:
    from tests.races.fleet import Fleet

# A look that shows a lease as overdue is a move too, and with so long a period it is the last look before the lease is over.
WATCHDOG_MS, OVERDUE_MS = 11_000, 6_000


class Snapshot(NamedTuple):
    """What a server held at a moment: as it was seen, and of each key its rest to live, in milliseconds, and its dump."""

    tick: int
    seen: dict[bytes, Any]
    held: dict[bytes, tuple[int, bytes]]


def disasters(fleet: Fleet) -> Iterator[Move]:
    """What may befall a fleet now."""
    for key, held in sorted(fleet.truth.server.items(), key=lambda item: fleet.spoken(item[0])):
        name = fleet.spoken(key)
        if isinstance(held, dict) and held[b"state"] != b"running" and held.get(b"resend_at") != b"0":
            yield Move(f"time for {name} to be sent again", 0.3, partial(_is_due, fleet, key))
        if isinstance(held, dict) and held[b"state"] == b"running":
            yield from fleet.fault("late", f"{name} is not renewed in time", partial(_is_overdue, fleet, key))
        if isinstance(held, dict) or ":outcome:" in name:
            yield from fleet.fault("pause", f"{name} lapses", partial(lapse, fleet, key))
        else:
            kind = "evict" if "~" in name else "expire"
            yield from fleet.fault(kind, f"{name} is gone", partial(lapse, fleet, key))
    for message in fleet.broker:
        yield from fleet.fault(
            "lose_message", f"message {message.number} is lost", partial(fleet.broker.remove, message)
        )
        yield from fleet.fault("dup", f"message {message.number} comes twice", partial(fleet.requeue, message))
    if fleet.truth.server:
        yield from fleet.fault("empty", "the server is emptied", partial(_empty, fleet, broker=False))
        yield from fleet.fault("empty", "the server is emptied, the broker too", partial(_empty, fleet, broker=True))
    if fleet.replica is not None:
        yield Move("the replica takes over", 0.4, partial(_fail_over, fleet), is_fault=True)
    else:
        yield from fleet.fault("failover", "the replica hears of no more writes", partial(_fall_behind, fleet))


def _is_due(fleet: Fleet, key: bytes) -> None:
    fleet.client.hset(key, mapping={"resend_at": 0, "due_ms": 0})
    fleet.dirty, fleet.seen = True, None


def _is_overdue(fleet: Fleet, key: bytes) -> None:
    fleet.client.pexpire(key, OVERDUE_MS)


def lapse(fleet: Fleet, key: bytes) -> None:
    """A lease ends, or an outcome, an entry, a stamp."""
    held = fleet.truth.server.get(key)
    if isinstance(held, dict):
        fleet.truth.lost.add(held[b"token"].decode())
    elif b":outcome:" in key:
        # Who renews hears of its end no more.
        fleet.truth.lost.add(key.decode()[-36:])
    fleet.client.delete(key)
    fleet.dirty, fleet.seen = True, None


def _empty(fleet: Fleet, *, broker: bool) -> None:
    fleet.truth.lost |= set(fleet.tokens)
    # Its replica does what it does.
    fleet.replica = None
    fleet.client.flushdb()
    fleet.dirty, fleet.seen = True, None
    if broker:
        fleet.broker.clear()


def _fall_behind(fleet: Fleet) -> None:
    keys = cast(list[bytes], fleet.client.keys("*"))
    with fleet.client.pipeline(transaction=False) as pipeline:
        for key in keys:
            pipeline.pttl(key)
            pipeline.dump(key)
        replies: list[Any] = pipeline.execute()
    held = zip(replies[::2], replies[1::2], strict=True)
    fleet.replica = Snapshot(fleet.truth.tick, fleet.truth.server, dict(zip(keys, held, strict=True)))


def _fail_over(fleet: Fleet) -> None:
    """The server goes, and with it all writes that the replica had not heard of when it takes over."""
    assert fleet.replica is not None
    snapshot, fleet.replica = fleet.replica, None
    fleet.truth.fail_over(snapshot.tick, fleet.tokens)
    fleet.client.flushdb()
    for key, (ttl_ms, dump) in snapshot.held.items():
        fleet.client.restore(key, ttl_ms, dump)
    fleet.dirty, fleet.seen = True, None
