"""This is where we give each Lua file one typed name; only here and in lua/ are KEYS and ARGV known."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

from msgspec import Struct

from taskcache.protocol.steps import Call, Steps

_LUA = Path(__file__).parent / "lua"
_HEADER = re.compile(r"^-- (KEYS|ARGS|REPLY) (.+)$", re.MULTILINE)


class Script(Struct, frozen=True):
    """One Lua file: its names as its header gives them, its text with those names bound, and the SHA1 Redis knows it by."""

    name: str
    keys: tuple[str, ...]
    rest: str
    args: tuple[tuple[str, str], ...]
    reply: str
    text: bytes
    sha: str


def _load(name: str) -> Script:
    source = (_LUA / f"{name}.lua").read_text(encoding="utf-8")
    header = dict(_HEADER.findall(source))
    # The last word may be `name...`: as many more keys as the caller gives, in a table.
    *keys, last = header["KEYS"].split()
    rest = last.removesuffix("...") if last.endswith("...") else ""
    keys += [] if rest else [last]
    args = tuple((word.partition(":")[0], word.partition(":")[2] or "str") for word in header["ARGS"].split())
    bound = [f"local {key}=KEYS[{place}]" for place, key in enumerate(keys, 1)]
    if rest:
        bound.append(f"local {rest}={{unpack(KEYS,{len(keys) + 1})}}")
    for place, (arg, kind) in enumerate(args, 1):
        value = f"ARGV[{place}]"
        bound.append(f"local {arg}={f'tonumber({value})' if kind == 'int' else value}")
    # On the first line, so that the line numbers in a server's error are those of the file.
    text = (";".join(bound) + ";" + source).encode()
    return Script(
        name, tuple(keys), rest, args, header["REPLY"], text, hashlib.sha1(text, usedforsecurity=False).hexdigest()
    )


SCRIPTS = {name: _load(name) for name in ("elect", "claim", "renew", "release", "publish", "follow", "forget", "leave")}

Reply = list[bytes]


def elect(
    keys: tuple[bytes, bytes, bytes, bytes, bytes],
    *,
    token: str,
    seen: bytes,
    stamps: bytes,
    outdated: str,
    inbox: str,
    owner: str,
    lease_ms: int,
    resend_ms: int,
) -> Steps[Reply]:
    """Look once more, then join the current flight of this key or become the leader of a new one."""
    reply: Reply = yield Call("elect", keys, (token, seen, stamps, outdated, inbox, owner, lease_ms, resend_ms))
    return reply


def claim(
    keys: tuple[bytes, ...], *, token: str, owner: str, stamps: bytes, lease_ms: int, inline: int, again: int
) -> Steps[Reply]:
    """
    Begin the computation of a flight, unless somebody else has or it is over.

    The first three keys are the flight's; with empty `stamps` the script reads those of the other keys by itself.
    """
    reply: Reply = yield Call("claim", keys, (token, owner, stamps, lease_ms, inline, again))
    return reply


def renew(
    keys: tuple[bytes, bytes, bytes], *, token: str, owner: str, lease_ms: int, held: int, progress: bytes
) -> Steps[bytes]:
    """Extend the lease of a running flight and publish its progress."""
    reply: bytes = yield Call("renew", keys, (token, owner, lease_ms, held, progress))
    return reply


def release(
    keys: tuple[bytes, bytes], *, token: str, owner: str, in_ms: int, queued_ms: int, resend_ms: int
) -> Steps[bytes]:
    """Give a claimed flight back to the queue, for a retry in `in_ms`."""
    reply: bytes = yield Call("release", keys, (token, owner, in_ms, queued_ms, resend_ms))
    return reply


def publish(
    keys: tuple[bytes, bytes, bytes, bytes],
    *,
    token: str,
    owner: str,
    envelope: bytes,
    ttl_ms: int,
    linger_ms: int,
    inline_bytes: int,
) -> Steps[bytes]:
    """End a flight: store its value unless it is outdated, and wake everybody who waits for it."""
    reply: bytes = yield Call("publish", keys, (token, owner, envelope, ttl_ms, linger_ms, inline_bytes))
    return reply


def follow(
    keys: tuple[bytes, bytes, bytes], *, token: str, inbox: str, queued_ms: int, resend_ms: int, sent: int
) -> Steps[Reply]:
    """Ask how a waited flight is doing and how long its lease lasts, and keep a queued one alive."""
    reply: Reply = yield Call("follow", keys, (token, inbox, queued_ms, resend_ms, sent))
    return reply


def forget(keys: tuple[bytes, bytes], *, envelope: bytes, ttl_ms: int) -> Steps[int]:
    """Delete or replace an entry, and outdate the flight that is computing it."""
    reply: int = yield Call("forget", keys, (envelope, ttl_ms))
    return reply


def leave(keys: tuple[bytes, bytes, bytes], *, token: str, inbox: str, envelope: bytes, linger_ms: int) -> Steps[bytes]:
    """Stop waiting; the last one to leave ends a flight that has not begun."""
    reply: bytes = yield Call("leave", keys, (token, inbox, envelope, linger_ms))
    return reply


def as_call(steps: Steps[Any]) -> Call:
    """The one call that a stub above asks for, to be sent together with others."""
    call: Call = next(steps)  # type: ignore[assignment]  # a stub asks for nothing else
    return call


def text(reply: Any) -> str:
    """The word a script answered with."""
    # What others wrote into a flight may be no text: it is then nobody's name and no state, and stops nobody.
    return reply.decode("utf-8", "replace") if isinstance(reply, bytes) else str(reply)
