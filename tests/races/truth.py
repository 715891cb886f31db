"""This is where it is known what really happened, and every state and every delivery is held against it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import redis

from taskcache.calls.invocation import Invocation
from taskcache.codec.envelope import unpack
from taskcache.errors import Cancelled, ComputationLost, DispatchFailed, NoServer
from taskcache.freshness import Verdict, judge
from taskcache.protocol.flight import Landing
from taskcache.protocol.stamps import tag_stamp

# Everything the server holds, in one look: key, TTL, and its text or its fields.
LOOK = """
local seen = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  local is_hash = redis.call('TYPE', key).ok == 'hash'
  seen[#seen + 1] = {key, redis.call('PTTL', key), is_hash and redis.call('HGETALL', key) or redis.call('GET', key)}
end
return seen
"""

# Faults after which a flight may vanish under those who hold it or wait for it.
LOSSES = frozenset({"pause", "empty", "crash_process", "crash_worker", "crash_child", "away", "evict", "failover"})


class Violation(AssertionError):
    """An invariant does not hold."""


@dataclass(slots=True)
class Invalidation:
    """One bust, put, bump or bump of a tag: what it concerns, and when it took effect and returned."""

    keys: frozenset[str]
    # Of a tag that bodies add: it concerns what was read after that.
    is_of_added: bool = False
    applied: int = 0
    returned: int = 0
    # When it took effect first, if that was lost in a failover: sent again, it still concerns what was read before that.
    forgotten: int = 0

    def outdates(self, run: Run) -> bool:
        """Whether what this body read was invalidated since."""
        since = run.tagged if self.is_of_added else run.born
        return run.key in self.keys and since is not None and since < self.applied


@dataclass(slots=True)
class Run:
    """One body: `born` when what it works on was read, for a retry maybe in its first attempt."""

    number: int
    key: str
    token: str
    owner: str
    born: int
    # When it had added its tag.
    tagged: int | None = None
    has_called: bool = False
    is_active: bool = True


@dataclass
class Truth:
    """All runs and invalidations, and which flights a fault has taken from the server."""

    invocations: dict[str, Invocation]
    tick: int = 0
    runs: list[Run] = field(default_factory=list)
    invalidations: list[Invalidation] = field(default_factory=list)
    lost: set[str] = field(default_factory=set)
    # Tokens whose child was told to end by somebody outside of the protocol.
    revoked: set[str] = field(default_factory=set)
    spent: set[str] = field(default_factory=set)
    server: dict[bytes, Any] = field(default_factory=dict)

    def begin(self, key: str, token: str, owner: str, born: int | None) -> Run:
        """Enter a body; I2: no other runs under the same token."""
        others = [run for run in self.runs if run.is_active and run.token == token]
        if others and token not in self.lost:
            raise Violation(f"I2: run {others[0].number} and another one compute under the same token")
        self.runs.append(Run(len(self.runs), key, token, owner, self.tick if born is None else born))
        return self.runs[-1]

    def fail_over(self, tick: int, tokens: Iterable[str]) -> None:
        """What was written after `tick` is gone; an invalidation too, which nobody can help (PROTOCOL.md, section 5)."""
        self.lost |= set(tokens)
        self.server = {}
        for each in self.invalidations:
            if each.applied > tick:
                each.forgotten, each.applied = each.forgotten or each.applied, 0

    # -- after each step ------------------------------------------------------------------------------

    def look(self, client: redis.Redis, seen: Any = None) -> None:
        """Check what must hold in every state: in what was `seen` of the whole server, or what is there now."""
        before = self.server
        found: Any = client.eval(LOOK, 0) if seen is None else seen
        self.server = {}
        for name, ttl_ms, content in found:
            if ttl_ms == -1:
                raise Violation(f"TTL: {name!r} would stay for ever")
            is_hash = isinstance(content, list)
            self.server[name] = dict(zip(content[::2], content[1::2], strict=True)) if is_hash else content
        for key, invocation in self.invocations.items():
            self._check_entry(key, invocation)
            self._check_flights(invocation, before)
        for run in self.runs:
            if run.is_active:
                self._check_run(run)

    def stamps(self, invocation: Invocation) -> list[bytes | None]:
        return [self.server.get(name) for name in invocation.stamps]

    def _check_entry(self, key: str, invocation: Invocation) -> None:
        entry = self.server.get(invocation.redis_key)
        if entry is None:
            return
        envelope, stamps = unpack(entry), self.stamps(invocation)
        if judge(envelope, stamps) is Verdict.MORE:
            names = (tag_stamp(invocation.settings.name, tag) for tag in envelope.tags[len(invocation.tags) :])
            stamps += [self.server.get(name) for name in names]
        if judge(envelope, stamps) is not Verdict.FRESH:
            return
        run = self.runs[self._value(invocation, entry)]
        if run.key != key or any(each.outdates(run) for each in self.invalidations):
            raise Violation(f"I4: the entry of {key} reads as valid; run {run.number} began before an invalidation")

    def _value(self, invocation: Invocation, entry: bytes) -> int:
        value: Any = invocation.codec.open(invocation.redis_key, entry)
        return int(value)

    def _check_flights(self, invocation: Invocation, before: dict[bytes, Any]) -> None:
        place = invocation.place()
        live, was = self.server.get(place.flight), before.get(place.flight)
        token = live[b"token"].decode() if live is not None else ""
        if place.retired(token) in self.server and token not in self.lost:
            raise Violation("I2: a token is both live and retired")
        if live is None or was is None or live[b"token"] == was[b"token"]:
            return
        if "failover" in self.spent:
            return  # stamps that are as they were long ago: who has read later ones displaces needlessly, and harms nobody
        current = self.stamps(invocation)
        if was.get(b"stamps") and None not in current and was[b"stamps"] == b"".join(s for s in current if s):
            raise Violation("I2b: a flight whose stamps are current was displaced")

    def _check_run(self, run: Run) -> None:
        """A flight does not vanish under a body that computes, unless a fault took it."""
        place = self.invocations[run.key].place()
        if run.token in self.lost or run.token in self.revoked:
            return
        if place.outcome(run.token) in self.server:
            return
        flights = [self.server.get(place.flight), self.server.get(place.retired(run.token))]
        if not any(f is not None and f[b"token"].decode() == run.token for f in flights):
            raise Violation(f"I8: the flight of run {run.number} is gone while its body runs")

    def check_asserted(self, token: str) -> None:
        if token not in self.lost:
            raise Violation("I6: a flight was asserted that the server had not lost")

    # -- when a call ends -----------------------------------------------------------------------------

    def deliver(self, who: str, key: str, began: int, landing: Landing | None, error: BaseException | None) -> None:
        """I1 and I7: what a call that stayed to its end was given."""
        if landing is not None and landing.error is None:
            self._check_born(who, key, began, int(str(landing.value)))
            return
        told = landing.error if landing is not None else error
        number = re.fullmatch(r".*failed in run (\d+).*", str(told), re.DOTALL)
        if number:
            self._check_born(who, key, began, int(number[1]))
        elif isinstance(told, Cancelled):
            raise Violation(f"I7: {who} stayed and hears that it was cancelled")
        elif not self._is_excused(told):
            raise Violation(f"{who} ended with {told!r} although only {sorted(self.spent)} happened")

    def _is_excused(self, error: BaseException | None) -> bool:
        spent = self.spent
        if isinstance(error, NoServer):
            return "away" in spent
        if isinstance(error, DispatchFailed | OSError):
            return "refuse" in spent
        if isinstance(error, KeyboardInterrupt):
            return "interrupt" in spent
        if isinstance(error, ComputationLost):
            words = str(error)
            if "vanished" in words:
                return bool(spent & LOSSES)
            return any(word in words and kind in spent for word, kind in _REASONS.items())
        return False

    def _check_born(self, who: str, key: str, began: int, number: int) -> None:
        run = self.runs[number]
        if run.key != key:
            raise Violation(f"{who} asked for {key} and got a value of {run.key}")
        for each in self.invalidations:
            if each.returned and each.returned < began and each.outdates(run):
                raise Violation(
                    f"I1: {who} began at {began}, after the invalidation of {each.applied} returned at {each.returned}, "
                    f"and got run {number}, which began at {run.born}"
                )


_REASONS = {"child died": "crash_child", "revoked": "revoke", "rejected": "reject"}
