"""This is where runs are drawn from a seed, brought to their end, and a run that breaks is made as short as it can be."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import redis

from taskcache.drivers.renewer import Lease
from taskcache.protocol.scripts import Script
from tests.races.callers import Caller, Other
from tests.races.disasters import lapse
from tests.races.fleet import KEYS, Fleet
from tests.races.moves import Climate, Move
from tests.races.truth import Violation

FAULTS = (
    *("pause", "evict", "expire", "empty", "lose_message", "dup", "crash_process", "crash_worker", "crash_child"),
    *("late", "lost_reply", "away", "refuse", "interrupt", "twice", "fail", "retry", "reject", "leave", "inline"),
    "failover",
)
MOVES = 160
# How many rounds everybody gets to end after the last fault; the longest seen needs about 60.
ROUNDS = 400

Scripts = dict[str, Script]
Choose = Callable[[Fleet], Move | None]


@dataclass(frozen=True)
class Broken:
    """A run that broke an invariant: what, and the moves that led there."""

    seed: int
    violation: str
    moves: tuple[str, ...]
    climate: Climate

    def __str__(self) -> str:
        return "\n".join([f"seed {self.seed}: {self.violation}", *(f"  {move}" for move in self.moves)])


def climate_of(seed: int) -> Climate:
    """Draw what may happen in the run of this seed."""
    draw = random.Random(f"climate {seed}")
    kinds = draw.sample(FAULTS, draw.choice((0, 1, 2, 3, 4, 8)))
    return Climate(
        processes=draw.choice((1, 2, 3)),
        workers=draw.choice((1, 2, 3)),
        calls=draw.choice((2, 3, 4, 6)),
        computing=draw.choice(((), ("f:a",), ("f:b",), tuple(KEYS))),
        invalidations=draw.choice((0, 1, 2, 3)),
        lifetimes=draw.choice((("lasting",), ("lasting", "short", "zero"), ("zero",))),
        acks_late=draw.random() < 0.5,
        requeues=draw.random() < 0.5,
        revokes=draw.random() < 0.3,
        ending=draw.choice((0.03, 0.1, 0.4)),
        beginning=draw.choice((0.05, 0.15, 0.5)),
        invalidating=draw.choice((0.05, 0.1, 0.3)),
        budget={kind: draw.choice((1, 1, 2)) for kind in kinds},
        adds_tags=draw.random() < 0.3,
        nests=draw.random() < 0.3,
    )


def explore(
    client: redis.Redis,
    seed: int,
    moves: int = MOVES,
    *,
    scripts: Scripts | None = None,
    climate: Climate | None = None,
    shortens: bool = True,
) -> Broken | None:
    """Play the run of this seed; a broken one comes back as its shortest story."""
    draw = random.Random(seed)
    climate = climate or climate_of(seed)
    told: list[str] = []

    def choose(fleet: Fleet) -> Move | None:
        if len(told) >= moves:
            return None
        found = list(fleet.moves())
        return draw.choices(found, [move.weight for move in found])[0] if found else None

    violation = _play(client, climate, choose, told, scripts)
    if violation is None:
        return None
    broken = Broken(seed, violation, tuple(told), climate)
    return _shortest(client, broken, scripts) if shortens else broken


def tell(
    client: redis.Redis, moves: tuple[str, ...], climate: Climate, scripts: Scripts | None = None
) -> tuple[str | None, dict[str, str]]:
    """Play a story move by move, each of which has to be possible; gives what it breaks, and how each call ended."""
    fleet = Fleet(client, climate, scripts)
    try:
        for name in moves:
            possible = {move.name: move for move in fleet.moves()}
            assert name in possible, f"{name!r} is not possible now; what is: {sorted(possible)}"
            play_move(fleet, possible[name])
        drain(fleet)
    except Violation as violation:
        return str(violation), _endings(fleet)
    finally:
        fleet.close()
    return None, _endings(fleet)


def _endings(fleet: Fleet) -> dict[str, str]:
    return {call.name: call.ended for process in fleet.processes for call in process.callers}


def repeat(client: redis.Redis, broken: Broken, scripts: Scripts | None = None) -> Broken | None:
    """Play these moves again, as far as they are possible."""
    left = list(reversed(broken.moves))
    told: list[str] = []

    def choose(fleet: Fleet) -> Move | None:
        while left:
            name = left.pop()
            move = next((move for move in fleet.moves() if move.name == name), None)
            if move is not None:
                return move
        return None

    violation = _play(client, broken.climate, choose, told, scripts)
    return None if violation is None else Broken(broken.seed, violation, tuple(told), broken.climate)


def _play(
    client: redis.Redis, climate: Climate, choose: Choose, told: list[str], scripts: Scripts | None
) -> str | None:
    fleet = Fleet(client, climate, scripts)
    try:
        while True:
            move = choose(fleet)
            if move is None:
                break
            told.append(move.name)
            play_move(fleet, move)
        drain(fleet)
    except Violation as violation:
        return str(violation)
    finally:
        fleet.close()
    return None


def play_move(fleet: Fleet, move: Move) -> None:
    """Have it happen, and look at what there is now."""
    fleet.truth.tick += 1
    move.act()
    if fleet.dirty:
        fleet.truth.look(fleet.client, fleet.seen)
        fleet.dirty, fleet.seen = False, None


def drain(fleet: Fleet) -> None:
    """No more faults: everybody goes on in turn, and every call ends (I3)."""
    fleet.is_draining = True
    for _ in range(ROUNDS):
        done: set[str] = set()
        while True:
            # One step of each in a round: whoever asks again and again holds nobody up.
            move = next((move for move in fleet.moves() if _who(move) not in done), None)
            if move is None:
                break
            done.add(_who(move))
            play_move(fleet, move)
        if not _unended(fleet):
            return
        _pass_time(fleet)
    raise Violation(f"I3: {', '.join(_unended(fleet))} never ended")


def _who(move: Move) -> str:
    return move.name if move.name.startswith("tell") else move.name.partition(":")[0]


def _unended(fleet: Fleet) -> list[str]:
    calls: list[Caller | Other] = [
        call for process in fleet.all_processes for call in process.callers if not call.ended and not _is_idle(call)
    ]
    calls += [other for other in fleet.invalidators if not other.fiber.is_over]
    return [each.name for each in calls]


def _is_idle(call: Caller) -> bool:
    """Whether it waits by an id, which starts nothing, for what nobody else wants: it hears `queued` until it gives up."""
    fleet, token = call.fleet, call.token
    if not call.polls or not fleet.is_queued(call.key, token):
        return False
    watches = [watching for process in fleet.all_processes for watching in process.watches.values()]
    can_come = any(message.token == token for message in fleet.broker)
    return not can_come and not any(watching.token == token and watching.launches for watching in watches)


def _pass_time(fleet: Fleet) -> None:
    """Leases end that nobody renews, and what is queued is due to be sent again."""
    living = {(lease.token, lease.owner) for lease in _leases(fleet)}
    owners = {call.owner for process in fleet.all_processes for call in process.callers if not call.ended}
    owners |= {worker.owner for worker in fleet.workers if worker.message is not None}
    under_way = {message.token for message in fleet.broker}
    for key, held in list(fleet.truth.server.items()):
        if not isinstance(held, dict):
            continue
        token, owner = held[b"token"].decode(), held.get(b"owner", b"").decode()
        if held[b"state"] != b"running" and token not in under_way:
            fleet.client.hset(key, mapping={"resend_at": 0, "due_ms": 0})
        elif held[b"state"] == b"running" and (token, owner) not in living and owner not in owners:
            lapse(fleet, key)
    fleet.truth.look(fleet.client)


def _leases(fleet: Fleet) -> list[Lease]:
    renewers = [process.renewer for process in fleet.all_processes]
    renewers += [renewer for worker in fleet.workers for renewer in (worker.main, worker.own)]
    return [lease for renewer in renewers for lease in renewer.leases()]


def _shortest(client: redis.Redis, broken: Broken, scripts: Scripts | None) -> Broken:
    """Leave moves out while the same invariant breaks: first many at a time, then one by one."""
    what = broken.violation.partition(":")[0]
    size = max(1, len(broken.moves) // 2)
    while True:
        at = 0
        while at < len(broken.moves):
            fewer = Broken(broken.seed, "", broken.moves[:at] + broken.moves[at + size :], broken.climate)
            found = repeat(client, fewer, scripts)
            if found is not None and found.violation.partition(":")[0] == what and len(found.moves) < len(broken.moves):
                broken = found
            else:
                at += size
        if size == 1:
            return broken
        size = max(1, size // 2)
