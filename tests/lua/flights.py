"""This is where tests run one script after the other on one key, and look at what each has left there."""

from __future__ import annotations

from typing import Any

import redis

from taskcache.protocol.entry import EntryKey, token_bytes
from taskcache.protocol.scripts import SCRIPTS

KEY = EntryKey.of(b"cache:shop.price:1")
T1, T2, T3 = (f"00000000-0000-4000-8000-00000000000{number}" for number in (1, 2, 3))
S1, S2 = b"stamp-one-12", b"stamp-two-12"
LEASE_MS, QUEUED_MS, RESEND_MS, LINGER_MS, TTL_MS = 5_000, 60_000, 5_000, 15_000, 30_000


def envelope(token: str, value: bytes = b"value") -> bytes:
    """Bytes that begin as an entry does: magic, version, token. The scripts look no further."""
    return b"\xc8\x01" + token_bytes(token) + value


class Flights:
    """The eight scripts by their names, with the arguments a test does not care about filled in."""

    def __init__(self, client: redis.Redis, key: EntryKey = KEY) -> None:
        self.client = client
        self.key = key

    def run(self, name: str, *, token: str = T1, beside: tuple[str, ...] = (), **given: Any) -> Any:
        """Run a script; arrays of one and plain replies are given as they are, decoded."""
        script = SCRIPTS[name]
        about = given.pop("outdated", "-") if name == "elect" else token
        keys = {
            "entry": self.key.entry,
            "flight": self.key.flight,
            "retired": self.key.retired(about),
            "outcome": self.key.outcome(about),
            "own_retired": self.key.retired(token),
            "own_outcome": self.key.outcome(token),
        }
        args: dict[str, Any] = {
            "token": token,
            "seen": b"",
            "stamps": S1,
            "outdated": about,
            "inbox": "",
            "owner": "",
            "lease_ms": LEASE_MS,
            "queued_ms": QUEUED_MS,
            "resend_ms": RESEND_MS,
            "linger_ms": LINGER_MS,
            "inline_bytes": 65_536,
            "inline": 0,
            "again": 0,
            "held": 0,
            "sent": 0,
            "in_ms": 0,
            "progress": "",
            "ttl_ms": TTL_MS,
            "envelope": envelope(token),
        }
        unknown = set(given) - {arg for arg, _ in script.args}
        assert not unknown, f"{name} takes no {unknown}"
        args |= given
        places: tuple[Any, ...] = (*(keys[key] for key in script.keys), *beside)
        reply: Any = self.client.eval(
            script.text.decode(),
            len(places),
            *places,
            *(args[arg] for arg, _ in script.args),
        )
        return _text(reply)

    def flight(self, token: str | None = None) -> dict[str, str]:
        """The fields of the live flight, or of the retired one with this token."""
        name = self.key.flight if token is None else self.key.retired(token)
        fields: dict[Any, Any] = self.client.hgetall(name)
        return {_text(field): _text(value) for field, value in fields.items()}

    def lease_ms(self, token: str | None = None) -> int:
        """How long the live flight, or a retired one, still has."""
        return self.client.pttl(self.key.flight if token is None else self.key.retired(token))

    def outcome(self, token: str = T1) -> bytes | None:
        """What a flight has left for its waiters."""
        left: Any = self.client.get(self.key.outcome(token))
        return left if left is None else bytes(left)

    def entry(self) -> bytes | None:
        """What is stored."""
        stored: Any = self.client.get(self.key.entry)
        return stored if stored is None else bytes(stored)

    def lose(self, *names: bytes) -> None:
        """Let the server lose keys, as an eviction or a failover does."""
        self.client.delete(*names)


def _text(reply: Any) -> Any:
    if isinstance(reply, list):
        return [_text(part) for part in reply]
    if isinstance(reply, bytes):
        try:
            return reply.decode("ascii")
        except UnicodeDecodeError:
            return reply
    return reply
