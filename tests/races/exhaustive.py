"""
This is where every run of a small fleet is played: in each state everything that can happen next happens once.

A world that is too large for that is played with all runs of a few switches: how often somebody who could go on is made to
wait for another. Most races need one or two (Musuvathi and Qadeer, Iterative context bounding, PLDI 2007).

States are told apart by what the server holds, what is on its way, what each member has done and was answered, and which
invalidations each run and call precedes. Two orders of the same steps that nobody can tell apart lead to one state and go
on as one. Nothing is drawn: what is random in the product comes from the history of whoever asks for it.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import count
from typing import Any
from unittest.mock import patch

import redis

from tests.races.explorer import Broken, Scripts, drain, play_move
from tests.races.fleet import Fleet
from tests.races.moves import Climate, Move
from tests.races.truth import Violation

ENDLESS = 1_000_000
# How often in a world a story may be begun anew because time has passed in it.
MOST_STUMBLES = 5
# Times are written in as many digits; they differ in each run, and within one nothing hangs on them.
_TIME_DIGITS = 12
_LEFT_DIGITS = 4


class NotPossible(Exception):
    """A story that was told once cannot be told again."""


@dataclass
class World(Climate):
    """A fleet that is small enough: what begins in it, in this order for calls, and what may befall it, how often."""

    begins: tuple[str, ...] = ("P0 asks for f:a", "P1 asks for f:a")
    invalidates: tuple[str, ...] = ()
    workers: int = 1
    lifetimes: tuple[str, ...] = ("lasting",)
    # What could go on for ever is played so often among the other steps, and at the end until all is done: looks of each
    # watch, beats of each renewer, messages of each flight that a worker takes.
    looks: int = 0
    beats: int = 0
    takes: int = 2
    # How often somebody who could go on is made to wait; None: as often as there is a chance.
    switches: int | None = None

    def climate(self) -> Climate:
        """What may happen in one run of it."""
        return replace(
            self,
            processes=len({name.partition(" ")[0] for name in self.begins}),
            calls=len(self.begins),
            invalidations=len(self.invalidates),
            budget=dict(self.budget),
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
    # With how few switches each state was reached.
    played, known = Played(), dict[bytes, int]()
    stumbles = 0
    open_: list[tuple[str, ...]] = [()]
    while open_:
        story = open_.pop()
        run = _Run(client, world, scripts)
        try:
            try:
                for name in story:
                    run.do(name)
            except NotPossible:
                # The server's clock goes on: a machine that stood still for seconds has let something become due.
                stumbles += 1
                if stumbles > MOST_STUMBLES:
                    raise
                open_.append(story)
                continue
            while run.switches < known.get(state := run.state(), ENDLESS):
                if played.states >= most:
                    played.is_complete = False
                    return played
                known[state] = run.switches
                played.states = len(known)
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
        # Who moved last, and how often somebody who could have gone on was made to wait.
        self._last = ""
        self.switches = 0
        self.fleet = Fleet(client, world.climate(), scripts)
        self._patch = patch.object(os, "urandom", self._random)
        self._patch.start()

    def close(self) -> None:
        self._patch.stop()
        self.fleet.close()

    def _random(self, size: int) -> bytes:
        """What is random, from who asks and what that one has seen: the same in every order of the others' steps."""
        asked = b"%b %b %d" % (self._asker.encode(), self._seen[self._asker], next(self._drawn))
        return blake2b(asked, digest_size=size).digest()

    # -- moves

    def names(self) -> list[str]:
        """What can happen now, each once; first what whoever moved last does next."""
        moves = [move for _, move in self._moves()]
        if self._world.switches == self.switches and self._can_go_on(moves):
            moves = [move for move in moves if self._mover(move) in (self._last, "")]
        # First what goes on with what went on last: it is nearest to here.
        moves.sort(key=lambda move: self._mover(move) != self._last)
        return list(dict.fromkeys(move.name for move in moves))

    def _can_go_on(self, moves: list[Move]) -> bool:
        movers = [self._mover(move) for move in moves if not _repeated(move.name)]
        return bool(self._last) and self._last in movers

    def _mover(self, move: Move) -> str:
        """Whose step it is: a call's, a process's, a worker's, an invalidation's; nobody's for what befalls them."""
        if " asks for " in move.name:
            return f"C{self._begun() + 1}"
        found = None if move.is_fault else _MEMBER.match(move.name)
        return found[1] if found else ""

    def _begun(self) -> int:
        return sum(len(process.callers) for process in self.fleet.processes)

    def _moves(self) -> Iterator[tuple[str, Move]]:
        begun = self._begun()
        for who, move in self.fleet.moves_by_member():
            if " asks for " in move.name:
                # Calls that are alike begin in one order.
                if begun < len(self._world.begins) and move.name == self._world.begins[begun]:
                    yield who, move
            elif _INVALIDATES.match(move.name):
                if move.name.partition(" ")[2] in self._invalidations_left():
                    yield who, move
            elif (kind := _repeated(move.name)) is None or self._times(move) < getattr(self._world, kind):
                yield who, move

    def _times(self, move: Move) -> int:
        return self._counts[self._spelled(move.name)]

    def _invalidations_left(self) -> list[str]:
        left = list(self._world.invalidates)
        for name in self._counts:
            if _INVALIDATES.match(name):
                left.remove(name.partition(" ")[2])
        return left

    def do(self, name: str) -> None:
        """Have it happen, and remember what it showed to whom."""
        found = list(self._moves())
        possible = [(who, move) for who, move in found if move.name == name]
        if not possible:
            raise NotPossible(f"{name!r} is not possible now; what is: {sorted(move.name for _, move in found)}")
        who, move = possible[0]
        mover = self._mover(move)
        if mover not in (self._last, ""):
            self.switches += self._can_go_on([move for _, move in found])
            self._last = mover
        self._asker, self._drawn = who, count()
        told = self._spelled(name)
        self.fleet.shown.clear()
        self._counts[told] += 1
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
                *(run.token, run.owner, run.number, run.is_active, run.tagged is not None, run.has_called),
                [name for name, each in invalidations if each.outdates(run)],
            )
            for run in truth.runs
        )
        calls = [
            (call.name, [name for name, each in invalidations if 0 < each.returned < call.began])
            for process in fleet.all_processes
            for call in process.callers
        ]
        members = [(each.name, each.is_alive, self._seen[each.name]) for each in fleet.processes]
        workers = [
            *((each.name, self._seen[each.name], each.message and _content(each.message)) for each in fleet.workers),
            *((each.name, each.news, each.child is None) for each in fleet.workers),
        ]
        invalidators = [
            (name, each.applied > 0, each.forgotten > 0, each.returned > 0, self._seen[name])
            for name, each in invalidations
        ]
        replica = fleet.replica and (
            _held(fleet.replica.seen),
            [name for name, each in invalidations if each.applied > fleet.replica.tick],
        )
        told = (
            self._last if self._world.switches is not None else "",
            *(_held(truth.server), fleet.mail, sorted(map(_content, fleet.broker)), sorted(fleet.budget.items())),
            *(runs, calls, members, workers, invalidators, replica),
            *(sorted(truth.lost), sorted(truth.revoked), sorted(truth.spent), sorted(fleet.discarded)),
            sorted((name, times) for name, times in self._counts.items() if _repeated(name)),
        )
        return blake2b(repr(told).encode(), digest_size=16).digest()


# The rest begins with what befalls somebody: "lose what tells", "message 1 comes twice".
_MEMBER = re.compile(r"(?:tell |the child of |the main process of )?([CPWI]\d+)\b")
_INVALIDATES = re.compile(r"I\d+ (busts|puts|bumps)\b")


def _repeated(name: str) -> str | None:
    """What bounds a move that can be repeated for ever; None for others."""
    if name.endswith(" renews"):
        return "beats"
    if " takes " in name:
        return "takes"
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
