"""
This is where every run of a small fleet is played: in each state everything that can happen next happens once.

States are told apart by what the server holds, what is on its way, what each member has done and was answered, and which
invalidations each run and call precedes. Two orders of the same steps that nobody can tell apart lead to one state and go
on as one. Nothing is drawn: what is random in the product comes from the history of whoever asks for it.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import count
from typing import Any
from unittest.mock import patch

import redis

from tests.races.explorer import Broken, Scripts, drain, play_move
from tests.races.fleet import Fleet
from tests.races.moves import Climate, Move
from tests.races.truth import Violation

# Times are written in as many digits; they differ in each run, and within one nothing hangs on them.
_TIME_DIGITS = 12
_LEFT_DIGITS = 4


@dataclass(frozen=True)
class World:
    """A fleet that is small enough: what begins in it, in this order for calls, and what may befall it, how often."""

    begins: tuple[str, ...] = ("P0 asks for f:a", "P1 asks for f:a")
    invalidates: tuple[str, ...] = ()
    workers: int = 1
    computing: tuple[str, ...] = ()
    faults: dict[str, int] = field(default_factory=dict)
    # Looks of each watch and beats of each renewer that are played among the other steps; when all else is done they go on.
    looks: int = 0
    beats: int = 0
    lifetimes: tuple[str, ...] = ("lasting",)
    acks_late: bool = False
    requeues: bool = False
    revokes: bool = False

    def climate(self) -> Climate:
        return Climate(
            processes=len({name.partition(" ")[0] for name in self.begins}),
            workers=self.workers,
            calls=len(self.begins),
            computing=self.computing,
            invalidations=len(self.invalidates),
            lifetimes=self.lifetimes,
            acks_late=self.acks_late,
            requeues=self.requeues,
            revokes=self.revokes,
            budget=dict(self.faults),
        )


@dataclass
class Played:
    """What came of a world: how many states there are, or the story of the first that breaks an invariant."""

    states: int = 0
    moves: int = 0
    ends: int = 0
    is_complete: bool = True
    broken: Broken | None = None


def play_all(client: redis.Redis, world: World, *, most: int = 1_000_000, scripts: Scripts | None = None) -> Played:
    """Play all runs of a world, until one breaks an invariant or `most` states are known."""
    played, known = Played(), set[bytes]()
    open_: list[tuple[str, ...]] = [()]
    while open_:
        story = open_.pop()
        run = _Run(client, world, scripts)
        try:
            for name in story:
                run.do(name)
            while (state := run.state()) not in known:
                if played.states >= most:
                    played.is_complete = False
                    return played
                known.add(state)
                played.states += 1
                names = run.names()
                if not names:
                    played.ends += 1
                    run.drain()
                    break
                open_.extend((*story, name) for name in names[1:])
                story = (*story, names[0])
                run.do(names[0])
                played.moves += 1
        except Violation as violation:
            played.broken = Broken(0, str(violation), story, world.climate())
            return played
        finally:
            run.close()
    return played


class _Run:
    """One run on its way, and what each of its members has seen so far."""

    def __init__(self, client: redis.Redis, world: World, scripts: Scripts | None) -> None:
        self._world = world
        self._seen: defaultdict[str, bytes] = defaultdict(bytes)
        self._counts: defaultdict[str, int] = defaultdict(int)
        self._asker, self._drawn = "", count()
        self._patch = patch.object(os, "urandom", self._random)
        self._patch.start()
        self.fleet = Fleet(client, world.climate(), scripts)

    def close(self) -> None:
        self.fleet.close()
        self._patch.stop()

    def _random(self, size: int) -> bytes:
        """What is random, from who asks and what that one has seen: the same in every order of the others' steps."""
        return blake2b(self._seen[self._asker] + b"%d" % next(self._drawn), digest_size=size).digest()

    # -- moves

    def names(self) -> list[str]:
        """What can happen now, each once."""
        return list(dict.fromkeys(move.name for _, move in self._moves()))

    def _moves(self) -> Iterator[tuple[str, Move]]:
        begun = len([each for process in self.fleet.processes for each in process.callers])
        for who, move in self.fleet.moves_by_member():
            if " asks for " in move.name:
                # Calls that are alike begin in one order.
                if begun < len(self._world.begins) and move.name == self._world.begins[begun]:
                    yield who, move
            elif _INVALIDATES.match(move.name):
                if move.name.partition(" ")[2] in self._invalidations_left():
                    yield who, move
            elif (kind := _repeated(move.name)) is None or self._counts[move.name] < getattr(self._world, kind):
                yield who, move

    def _invalidations_left(self) -> list[str]:
        left = list(self._world.invalidates)
        for name in self._counts:
            if _INVALIDATES.match(name):
                left.remove(name.partition(" ")[2])
        return left

    def do(self, name: str) -> None:
        """Have it happen, and remember what it showed to whom."""
        who, move = next((who, move) for who, move in self._moves() if move.name == name)
        self._asker, self._drawn = who, count()
        told = self._spelled(name)
        self.fleet.shown.clear()
        self._counts[name] += 1
        play_move(self.fleet, move)
        if who:
            shown = repr([told, _timeless(self.fleet.shown)]).encode()
            self._seen[who] = blake2b(self._seen[who] + shown, digest_size=16).digest()

    def drain(self) -> None:
        """Everybody comes to an end, whatever is left to do."""
        self._asker, self._drawn = "drain", count()
        drain(self.fleet)

    def _spelled(self, name: str) -> str:
        """A move's name with tokens in place of numbers, which depend on the order of others' steps."""
        tokens = self.fleet.tokens
        name = re.sub(r"\bT(\d+)\b", lambda found: tokens[int(found[1]) - 1], name)
        messages = {message.number: message for message in self.fleet.broker}
        return re.sub(r"message (\d+)", lambda found: _content(messages[int(found[1])]), name)

    # -- states

    def state(self) -> bytes:
        """What tells this state from others."""
        fleet, truth = self.fleet, self.fleet.truth
        invalidations = list(zip([other.name for other in fleet.invalidators], truth.invalidations, strict=True))
        runs = sorted(
            (
                *(run.token, run.owner, run.number, run.is_active),
                [name for name, each in invalidations if run.born < each.applied],
            )
            for run in truth.runs
        )
        calls = [
            (call.name, [name for name, each in invalidations if 0 < each.returned < call.began])
            for process in fleet.processes
            for call in process.callers
        ]
        members = [(each.name, each.is_alive, self._seen[each.name]) for each in fleet.processes]
        workers = [
            *((each.name, self._seen[each.name], each.message and _content(each.message)) for each in fleet.workers),
            *((each.name, each.news, each.child is None) for each in fleet.workers),
        ]
        invalidators = [(name, each.applied > 0, each.returned > 0, self._seen[name]) for name, each in invalidations]
        told = (
            *(_held(truth.server), fleet.mail, sorted(map(_content, fleet.broker)), sorted(fleet.budget.items())),
            *(runs, calls, members, workers, invalidators),
            *(sorted(truth.lost), sorted(truth.revoked), sorted(truth.spent), sorted(fleet.discarded)),
            sorted((self._spelled(name), n) for name, n in self._counts.items() if _repeated(name)),
        )
        return blake2b(repr(told).encode(), digest_size=16).digest()


_INVALIDATES = re.compile(r"I\d+ (busts|puts|bumps)\b")


def _repeated(name: str) -> str | None:
    """What bounds a move that can be repeated for ever: looks of a watch, beats of a renewer; None for others."""
    if name.endswith(" renews"):
        return "beats"
    return "looks" if name.endswith((" looks", "to be sent again", " misses its message")) else None


def _content(message: Any) -> str:
    return f"{message.token} {message.claims}"


def _held(server: dict[bytes, Any]) -> list[Any]:
    """What a server holds: of times only whether they have come."""
    held = []
    for key, content in sorted(server.items()):
        if isinstance(content, dict):
            content = sorted(
                (name, value == b"0" if name in (b"resend_at", b"due_ms") else value)
                for name, value in content.items()
                if name != b"started_ms"
            )
        held.append((key, content))
    return held


def _timeless(shown: Any) -> Any:
    """What was answered, without its times."""
    if isinstance(shown, bytes | str | int) and not isinstance(shown, bool):
        digits = shown if isinstance(shown, str) else str(shown) if isinstance(shown, int) else shown.decode("latin-1")
        if digits.isdecimal() and len(digits) >= _LEFT_DIGITS:
            return "a time" if len(digits) >= _TIME_DIGITS else f"about {round(int(digits), -3)}"
        return shown
    if isinstance(shown, Iterable):
        return [_timeless(each) for each in shown]
    return repr(shown) if isinstance(shown, Exception) else shown
