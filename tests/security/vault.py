"""This is where a cache is that third parties write into: its readers, its good bytes, and what a forger can make."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import redis

from taskcache import Cache, ComputationLost
from taskcache.codec.envelope import Envelope, Flags, pack, unpack
from taskcache.codec.sealing import Codec
from taskcache.protocol.entry import new_token, token_bytes
from taskcache.settings import Settings

SECRET = "the secret of the attacked cache"
FORGER = "a secret that a forger has chosen"
MISSING = object()
LONG = "a long text, which is compressed. " * 400


class Parcel:
    """Something that only a pickle carries."""

    def __init__(self, content: str) -> None:
        self.content = content

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Parcel) and other.content == self.content

    def __hash__(self) -> int:
        return hash(self.content)


@dataclass
class Vault:
    """One cache with functions of every kind, on a server that anybody may write to."""

    url: str
    secret: str | None
    runs: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        name = "signed" if self.secret else "open"
        self.cache = Cache(self.url, name=name, default_timeout=60, secret=self.secret)
        self.client = redis.Redis.from_url(self.url)

        @self.cache.cached(name="square", timeout=60)
        def square(number: int) -> int:
            self.count("square")
            return number * number

        @self.cache.cached(name="tagged", timeout=60, tags=("tag",))
        def tagged(number: int) -> list[int]:
            return [number] * 3

        @self.cache.cached(name="long", timeout=60)
        def long(number: int) -> str:
            return f"{number} {LONG}"

        @self.cache.cached(name="parcel", timeout=60)
        def parcel(number: int) -> Any:
            return Parcel(f"parcel {number}") if self.secret else {"parcel": number}

        self.square, self.tagged, self.long, self.parcel = square, tagged, long, parcel
        self.functions = (square, tagged, long, parcel)

    def count(self, name: str) -> None:
        """Note a run of a body."""
        self.runs[name] = self.runs.get(name, 0) + 1

    def redis_key(self, key: str) -> bytes:
        return self.cache.make_key(key).encode()

    def entry(self, key: str) -> bytes:
        """The bytes that are stored under a key."""
        found = self.client.get(self.redis_key(key))
        assert isinstance(found, bytes), f"{key} is not stored"
        return found

    def put(self, key: str, entry: bytes) -> None:
        """Write bytes as a third party does."""
        self.client.set(self.redis_key(key), entry, px=60_000)

    def good(self) -> list[bytes]:
        """Entries of every kind, each good where it belongs."""
        for function in self.functions:
            function(8)
        self.cache.set("plain 8", {"eight": 8})
        return [*(self.entry(function.key_for(8)) for function in self.functions), self.entry("plain 8")]

    def reads(self, function: Any, number: int) -> dict[str, Any]:
        """What every reader gives for one call; MISSING where it found nothing it trusts."""
        key = function.key_for(number)
        found: dict[str, Any] = {
            "get": self.cache.get(key, MISSING),
            "get_many": self.cache.get_many(["nothing here", key]).get(key, MISSING),
        }
        entry = function.peek(number)
        found["peek"] = MISSING if entry is None else entry.value
        try:
            found["result"] = self.cache.result(found_id(self.cache, function, key))()
        except ComputationLost:
            found["result"] = MISSING
        # The last two: what computes replaces the bytes.
        found["call"] = function(number)
        found["call again"] = function(number)
        return found

    def forged(self, function: Any, number: int, value: object, secret: str | None = FORGER, **given: Any) -> bytes:
        """An entry made by somebody who knows everything about the call but our secret."""
        name = self.cache.name
        key = self.redis_key(function.key_for(number))
        stamps = b"".join(self._stamp(stamp) for stamp in (f"{name}~fn:{function.name}", *self._tags(function)))
        codec = Codec(Settings(secrets=(secret.encode(),) if secret else ()))
        tags = ("tag",) if self._tags(function) else ()
        label_bytes = len(function.name)
        return codec.seal(
            key,
            value,
            token=given.get("token", token_bytes(new_token())),
            created_ms=int(time.time() * 1000),
            fresh_ms=60_000,
            cost_ms=0,
            label_bytes=label_bytes,
            stamps=stamps,
            tags=tags,
        )

    def _tags(self, function: Any) -> tuple[str, ...]:
        return (f"{self.cache.name}~tag:tag",) if function is self.tagged else ()

    def _stamp(self, name: str) -> bytes:
        stamp = self.client.get(name)
        return stamp if isinstance(stamp, bytes) else b"s" * 12


def found_id(cache: Cache, function: Any, key: str) -> str:
    """The id that the result of a call has, for a call that is not made here."""
    from taskcache.calls.following import write_id

    assert cache is function.cache
    tags = ("tag",) if function.name == "tagged" else ()
    from taskcache.calls.invocation import Invocation

    return write_id(Invocation.of(cache.settings, cache.codec, key, function.name, tags, 0), "")


def with_pickle(entry: bytes, pickled: bytes, *, key_id: int | None) -> bytes:
    """The head of an entry over a pickle; with `key_id`, and a MAC that somebody has guessed."""
    good = unpack(entry)
    flags = Flags.PICKLE | (good.flags & Flags.TAGGED) | (Flags.PLAIN if key_id is None else Flags.SIGNED)
    return pack(
        Envelope(
            good.token,
            flags,
            good.label_bytes,
            good.created_ms,
            good.fresh_ms,
            good.cost_ms,
            good.stamps,
            good.tags,
            key_id or 0,
            b"" if key_id is None else b"m" * 16,
            pickled,
        )
    )
