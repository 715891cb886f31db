"""This is where we walk the model's scripts and the Lua side by side, so that the model speaks about what we ship."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import redis

from taskcache.protocol.entry import EntryKey
from taskcache.protocol.scripts import SCRIPTS
from tests.model import scripts
from tests.model.rules import Rules
from tests.model.state import (
    CANCELLED,
    ERROR,
    LOOK,
    NOBODY,
    OUTDATED,
    UNBEGUN,
    Entry,
    Flight,
    Outcome,
    Store,
    find,
    take_out,
)

# The rules that the Lua does not have: none.
LUA = Rules()

TOKENS = (1, 2, 3)
OWNERS = (1, 2)
STAMPS = (1, 2)
INBOXES = (0, 1)
LEASE_MS, LINGER_MS = 60_000, 15_000
TTL_MS = {"lasting": 30_000, "short": 10_000, "zero": 0}
KEY = EntryKey.of(b"cache:walk")


class Server:
    """The real scripts on the real server, seen through the model's names."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client

    def run(self, name: str, token: int, **args: object) -> list[bytes]:
        """Run one script; its keys and arguments are found by the names in its header."""
        script = SCRIPTS[name]
        about = _token(int(str(args.get("outdated", token)))) if name == "elect" else _token(token)
        keys = {
            "entry": KEY.entry,
            "flight": KEY.flight,
            "retired": KEY.retired(about),
            "outcome": KEY.outcome(about),
            "own_retired": KEY.retired(_token(token)),
            "own_outcome": KEY.outcome(_token(token)),
        }
        given: dict[str, object] = {"token": _token(token), "lease_ms": LEASE_MS, "queued_ms": LEASE_MS}
        given |= {
            "resend_ms": 5_000,
            "linger_ms": LINGER_MS,
            "inline_bytes": 65_536,
            "inline": 0,
            "again": 0,
            "progress": "",
        }
        given |= {name: _spell(name, value) for name, value in args.items()}
        names = [keys[key] for key in script.keys]
        reply: Any = self.client.eval(
            script.text.decode(),
            len(names),
            *names,
            *(given[arg] for arg, _ in script.args),  # type: ignore[arg-type]  # likewise
        )
        return reply if isinstance(reply, list) else [reply]

    def store(self, stamp: int) -> Store:
        """Read everything back as the model would write it."""
        with self.client.pipeline(transaction=False) as pipeline:
            pipeline.get(KEY.entry)
            pipeline.hgetall(KEY.flight)
            for token in TOKENS:
                pipeline.hgetall(KEY.retired(_token(token)))
                pipeline.get(KEY.outcome(_token(token)))
            entry, flight, *others = pipeline.execute()
        retired = [_flight(found) for found in others[::2]]
        said = zip(TOKENS, others[1::2], strict=True)
        return Store(
            _entry(entry) if entry else None,
            stamp,
            _flight(flight),
            tuple(sorted(found for found in retired if found is not None)),
            tuple(Outcome(token, _says(envelope)) for token, envelope in said if envelope is not None),
        )


class Walk:
    """A random walk; each step does the same in the model and on the server, and gives both replies."""

    def __init__(self, server: Server, seed: int) -> None:
        self.server = server
        self.any = random.Random(seed)
        self.store = Store(stamp=1)
        self.told: list[str] = []

    def step(self) -> tuple[str, str]:
        """Do one random thing on both sides: the model's reply, then the server's."""
        verbs: list[Callable[[int], tuple[str, bytes]]] = [
            self._elect,
            self._elect,
            self._claim,
            self._claim,
            self._renew,
            self._release,
            self._publish,
            self._follow,
            self._forget,
            self._leave,
            self._lapse,
        ]
        verb, token = self.any.choice(verbs), self.any.choice(TOKENS)
        expected, actual = verb(token)
        self.told.append(f"{verb.__name__[1:]} T{token}: {actual.decode()}")
        return expected, actual.decode()

    def _elect(self, token: int) -> tuple[str, bytes]:
        args = {
            "seen": self.any.choice((0, *TOKENS)),
            "outdated": self.any.choice((0, *TOKENS)),
            "owner": self.any.choice((NOBODY, NOBODY, *OWNERS)),
        }
        stamp, inbox = self.any.choice(STAMPS), self.any.choice((None, *INBOXES))
        word, about, self.store = scripts.elect(self.store, LUA, token=token, stamp=stamp, inbox=inbox, **args)
        reply = self.server.run("elect", token, stamps=stamp, inbox=inbox, **args)
        return f"{word} {_id(about) if word == 'hit' else _token(about)}", reply[0] + b" " + reply[1][
            : 18 if word == "hit" else 99
        ]

    def _claim(self, token: int) -> tuple[str, bytes]:
        owner, stamp, again = self.any.choice(OWNERS), self.any.choice(STAMPS), self.any.choice((False, True))
        word, self.store = scripts.claim(self.store, LUA, token=token, owner=owner, stamp=stamp, again=again)
        return word, self.server.run("claim", token, owner=owner, stamps=stamp, again=int(again))[0]

    def _renew(self, token: int) -> tuple[str, bytes]:
        owner, held = self.any.choice(OWNERS), self.any.choice((False, True))
        word, self.store = scripts.renew(self.store, LUA, token=token, owner=owner, held=held)
        return word, self.server.run("renew", token, owner=owner, held=int(held))[0]

    def _release(self, token: int) -> tuple[str, bytes]:
        owner = self.any.choice(OWNERS)
        word, self.store = scripts.release(self.store, token=token, owner=owner)
        return word, self.server.run("release", token, owner=owner, in_ms=0)[0]

    def _publish(self, token: int) -> tuple[str, bytes]:
        owner = self.any.choice((NOBODY, *OWNERS))
        lifetime = self.any.choice(tuple(TTL_MS))
        says = self.any.randrange(9) if lifetime != "zero" else self.any.choice((ERROR, 3))
        flight, _ = find(self.store, token)
        envelope = _envelope(Entry(token, says, flight.stamp if flight is not None else 1)) if says >= 0 else b"error"
        word, _, self.store = scripts.publish(
            self.store, LUA, token=token, owner=owner, says=says, stores=lifetime != "zero", lasts=lifetime == "lasting"
        )
        return word, self.server.run("publish", token, owner=owner, envelope=envelope, ttl_ms=TTL_MS[lifetime])[0]

    def _follow(self, token: int) -> tuple[str, bytes]:
        inbox = self.any.choice(INBOXES)
        word, _, self.store = scripts.follow(self.store, token=token, inbox=inbox)
        reply = self.server.run("follow", token, inbox=inbox, sent=self.any.choice((-1, 0, 1)))
        if reply[0] in (b"flying", b"resend"):
            # The model has no clock; that the reply tells the lease's own time is looked at here.
            assert 0 < int(reply[3]) <= LEASE_MS
            return word, b"flying" if reply[1] == b"running" else b"waiting"
        return word, reply[0]

    def _forget(self, token: int) -> tuple[str, bytes]:
        entry = self.any.choice((None, Entry(token, 7, self.any.choice(STAMPS))))
        was_there = self.store.entry is not None
        self.store = scripts.forget(self.store, LUA, entry=entry)
        envelope = _envelope(entry) if entry is not None else b""
        reply = self.server.run("forget", token, envelope=envelope, ttl_ms=30_000)[0]
        return str(int(was_there)), str(reply).encode()

    def _leave(self, token: int) -> tuple[str, bytes]:
        inbox = self.any.choice(INBOXES)
        word, self.store = scripts.leave(self.store, token=token, inbox=inbox)
        return word, self.server.run("leave", token, inbox=inbox, envelope=b"cancelled")[0]

    def _lapse(self, token: int) -> tuple[str, bytes]:
        """End one lease, or one outcome: what time does."""
        if self.any.random() < 0.5:
            outcomes = tuple(outcome for outcome in self.store.outcomes if outcome.token != token)
            self.store = self.store._replace(outcomes=outcomes)
            self.server.client.delete(KEY.outcome(_token(token)))
        elif find(self.store, token)[0] is not None:
            _, live = find(self.store, token)
            self.store = take_out(self.store, token)
            self.server.client.delete(KEY.flight if live else KEY.retired(_token(token)))
        return "", b""


def _token(token: int) -> str:
    return f"T{token}"


def _id(token: int) -> str:
    return f"{token:018}" if token else ""


def _spell(name: str, value: object) -> object:
    """Write a model's value as the script's argument."""
    if name == "seen":
        return _id(int(str(value)))
    if name == "outdated":
        return _token(int(str(value)))
    if name == "owner":
        return f"o{value}" if value != NOBODY else ""
    if name == "stamps":
        return f"s{value}"
    if name == "inbox":
        return "" if value is None else f"i{value}"
    return value


def _envelope(entry: Entry) -> bytes:
    return f"{_id(entry.token)} {entry.born} {entry.stamp}".encode()


def _entry(envelope: bytes) -> Entry:
    return Entry(*(int(part) for part in envelope.split()))


def _says(envelope: bytes) -> int:
    words = {b"": LOOK, b"error": ERROR, b"cancelled": CANCELLED}
    return words[envelope] if envelope in words else _entry(envelope).born


def _flight(found: dict[bytes, bytes]) -> Flight | None:
    if not found:
        return None
    stamps = found.get(b"stamps")
    stamp = UNBEGUN if stamps is None else int(stamps[1:] or OUTDATED)
    inboxes = frozenset(int(field[3:]) for field in found if field.startswith(b"w:"))
    owner = int(found.get(b"owner", b"o0")[1:])
    return Flight(int(found[b"token"][1:]), found[b"state"].decode(), owner, stamp, inboxes)


@pytest.mark.parametrize("seed", range(8))
def test_the_model_and_the_lua_say_and_do_the_same(client: redis.Redis, seed: int) -> None:
    """On a random walk every reply and every field the server holds afterwards is what the model's script says."""
    walk = Walk(Server(client), seed)

    for _ in range(300):
        expected, actual = walk.step()

        assert (expected, walk.store) == (actual, walk.server.store(1)), walk.told
