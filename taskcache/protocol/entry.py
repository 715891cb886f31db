"""This is where we name the Redis keys of one entry and of everything that accompanies it."""

from __future__ import annotations

import os
import re

from msgspec import Struct

from taskcache.protocol.steps import Call, Steps

_TOKEN = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# Whole names, since an entry may be called after a flight to Rome.
_COMPANION = re.compile(rb":(?:flight|(?:retired|outcome):%b)\Z" % _TOKEN.pattern.encode())


class EntryKey(Struct, frozen=True):
    """The Redis key of an entry; its companions share its slot in a Cluster."""

    entry: bytes
    # What the companions start with: "{K}", or K itself when it carries a hash tag of its own.
    root: bytes

    @classmethod
    def of(cls, redis_key: bytes) -> EntryKey:
        """The names that belong to `redis_key`."""
        return cls(redis_key, _root_of(redis_key))

    @property
    def flight(self) -> bytes:
        return self.root + b":flight"

    def retired(self, token: str) -> bytes:
        return self.root + b":retired:" + token.encode()

    def outcome(self, token: str) -> bytes:
        return self.root + b":outcome:" + token.encode()

    def around(self, token: str) -> tuple[bytes, bytes, bytes]:
        """The keys by which a flight is found wherever it is: flight, retired, outcome."""
        return self.flight, self.retired(token), self.outcome(token)


def _root_of(redis_key: bytes) -> bytes:
    opening = redis_key.find(b"{")
    # Redis Cluster hashes what stands between the first { and the } after it, unless that is nothing.
    has_tag = opening >= 0 and redis_key.find(b"}", opening + 1) > opening + 1
    return redis_key if has_tag else b"{%b}" % redis_key


def is_companion(redis_key: bytes) -> bool:
    """Tell the companions of tagged keys, which share the entries' prefix, from entries."""
    return b"{" in redis_key and _COMPANION.search(redis_key) is not None


def new_token() -> str:
    """Name a flight: 128 random bits in the form of a Celery task id, fresh after a fork too."""
    digits = os.urandom(16).hex()
    # A random UUID (RFC 9562); the uuid module takes seven times as long to write one.
    return (
        f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{'89ab'[int(digits[16], 16) & 3]}{digits[17:20]}-{digits[20:]}"
    )


def token_bytes(token: str) -> bytes:
    """The 16 bytes by which envelopes name a flight."""
    return bytes.fromhex(token.replace("-", ""))


def is_token(word: object) -> bool:
    """Tell a flight's name, as it is written everywhere, from anything else that came from outside."""
    return isinstance(word, str) and _TOKEN.fullmatch(word) is not None


def is_of(envelope: bytes, token: str) -> bool:
    """Whether an envelope names this flight."""
    return is_token(token) and envelope[2:18] == token_bytes(token)


def read(keys: tuple[bytes, ...]) -> Steps[list[bytes | None]]:
    """Read an entry and its stamps in one round trip."""
    reply: list[bytes | None] = yield Call("MGET", keys)
    return reply
