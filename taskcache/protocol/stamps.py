"""This is where we keep the versions that entries are computed under: one per function, one per tag."""

from __future__ import annotations

import os
from collections.abc import Sequence

from taskcache.protocol.steps import Call, Steps

STAMP_BYTES = 12


def function_stamp(cache_name: str, label: str) -> bytes:
    """The key whose value every entry of a function carries; `bust_all` deletes it."""
    return f"{cache_name}~fn:{label}".encode("utf-8", "surrogatepass")


def tag_stamp(cache_name: str, tag: str) -> bytes:
    """The key whose value every entry with this tag carries; `invalidate` deletes it."""
    return f"{cache_name}~tag:{tag}".encode("utf-8", "surrogatepass")


def stamp_pattern(cache_name: str) -> bytes:
    """The SCAN pattern of all stamps of a cache."""
    return glob_escape(cache_name) + b"~*"


def glob_escape(name: str) -> bytes:
    """Make a name match only itself in a SCAN pattern."""
    return "".join("\\" + sign if sign in "*?[]^\\-" else sign for sign in name).encode("utf-8", "surrogatepass")


def ensure(keys: Sequence[bytes], read: Sequence[bytes | None], lifetime_ms: int) -> Steps[bytes]:
    """Give every missing stamp a random value and return all of them, joined in order.

    Random, never counted: a counter that restarts after a loss would make an old entry valid again.
    A stamp that is missing afterwards (the server is full or was emptied meanwhile) stays missing and matches nothing.
    """
    stamps = list(read)
    for place, key in enumerate(keys):
        # Its holder extends the stamp at each claim; FOREVER entries need one that never lapses.
        expiry: tuple[str | int, ...] = ("PX", lifetime_ms) if lifetime_ms > 0 else ()
        if stamps[place] is None:
            fresh = os.urandom(STAMP_BYTES)
            old: bytes | None = yield Call("SET", (key,), (fresh, "NX", "GET", *expiry))
            stamps[place] = fresh if old is None else old
        if len(stamps[place] or b"") != STAMP_BYTES:
            # Nobody of us wrote that, and no entry can carry it. Another one in its place is an invalidation: always safe.
            stamps[place] = fresh = os.urandom(STAMP_BYTES)
            yield Call("SET", (key,), (fresh, *expiry))
    return b"".join(stamp for stamp in stamps if stamp is not None)


def extensions(keys: Sequence[bytes], lifetime_ms: int) -> tuple[Call, ...]:
    """What makes stamps outlive the entries that are about to carry them."""
    if lifetime_ms > 0:
        return tuple(Call("PEXPIRE", (key,), (lifetime_ms, "GT")) for key in keys)
    return tuple(Call("PERSIST", (key,)) for key in keys)


def bump(keys: Sequence[bytes]) -> Steps[int]:
    """Invalidate everything that carries one of these stamps; missing means invalid."""
    gone = 0
    for key in keys:
        reply: int = yield Call("DEL", (key,))
        gone += reply
    return gone
