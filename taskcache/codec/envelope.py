"""This is where we lay an entry out in bytes, so that its head can be read without touching its payload.

    HEADER (43 bytes) | stamps (12 each) | tags, if TAGGED | MAC (16), if SIGNED | payload

The first 18 bytes (magic, version, token) are the entry's id; the scripts compare them and look at nothing else.
Whoever changes the layout changes VERSION: an unknown version reads as a miss, so old and new processes can meet.
"""

from __future__ import annotations

import struct
from enum import IntFlag
from typing import Final

from msgspec import Struct

from taskcache.errors import UntrustedValue, UsageError

MAGIC: Final = 0xC5
VERSION: Final = 1
# What each entry begins with.
IS_OURS: Final = bytes((MAGIC, VERSION))
# magic, version, token, flags, label_bytes, created_ms, fresh_ms, cost_ms, stamp count, key id
HEADER: Final = struct.Struct("<BB16sBHQQIBB")
HEADER_BYTES: Final = HEADER.size
ID_BYTES: Final = 18
TOKEN_BYTES: Final = 16
STAMP_BYTES: Final = 12
MAC_BYTES: Final = 16
FLAGS_AT: Final = 18
CREATED_AT: Final = 21
COUNT_AT: Final = HEADER_BYTES - 2
KEY_ID_AT: Final = HEADER_BYTES - 1
NO_LABEL: Final = 0xFFFF

_LENGTH: Final = struct.Struct("<H")
_MAX_BLOCK_BYTES: Final = 0xFFFF
_MAX_STAMPS: Final = 0xFF
_MAX_COST_MS: Final = 0xFFFF_FFFF


class Flags(IntFlag):
    """How the payload is written; no flag at all is a plain value of the typed codec."""

    PLAIN = 0
    PICKLE = 1
    COMPRESSED = 2
    SIGNED = 4
    ERROR = 8
    TAGGED = 16


# The same as plain numbers: `&` between members is a Python function of a microsecond, and a hit asks several times.
PICKLE: Final = 1
COMPRESSED: Final = 2
SIGNED: Final = 4
ERROR: Final = 8
TAGGED: Final = 16
# Looking a member up is four times faster than making it.
_FLAGS: Final = tuple(Flags(bits) for bits in range(32))


class Envelope(Struct, frozen=True):
    """One stored value with what is known about it; `payload` may be a view into the buffer it was read from."""

    token: bytes
    flags: Flags
    # How many leading bytes of the user key name the function whose stamp comes first; None: no stamp at all.
    label_bytes: int | None
    # Server time at which the computation began.
    created_ms: int
    # Lifetime; 0 when none was stated.
    fresh_ms: int
    cost_ms: int
    stamps: bytes
    # The tag names that belong to the second stamp and those after it.
    tags: tuple[str, ...]
    key_id: int
    mac: bytes
    payload: bytes | memoryview

    @property
    def id(self) -> bytes:
        """The bytes `elect` takes as `seen`."""
        return IS_OURS + self.token


class Head(Struct, frozen=True):
    """What stands before the MAC, as `Envelope` names it, with the flags as a plain number."""

    token: bytes
    bits: int
    label_bytes: int | None
    created_ms: int
    fresh_ms: int
    cost_ms: int
    stamps: bytes
    tags: tuple[str, ...]
    key_id: int


def write_head(head: Head) -> bytes:
    """Write everything before the MAC. Raises `UsageError` when its parts contradict each other or do not fit."""
    count, rest = divmod(len(head.stamps), STAMP_BYTES)
    if len(head.token) != TOKEN_BYTES:
        raise UsageError(f"a token of {len(head.token)} bytes; a token has {TOKEN_BYTES}")
    if rest or count > _MAX_STAMPS:
        raise UsageError(
            f"stamps of {len(head.stamps)} bytes; {STAMP_BYTES} bytes each, {_MAX_STAMPS} at most: use fewer tags"
        )
    if not _is_consistent(head.bits, head.label_bytes, count, len(head.tags)):
        raise UsageError("the flags, label, stamps and tags of an entry contradict each other")
    try:
        header = HEADER.pack(
            MAGIC,
            VERSION,
            head.token,
            head.bits,
            NO_LABEL if head.label_bytes is None else head.label_bytes,
            head.created_ms,
            head.fresh_ms,
            min(head.cost_ms, _MAX_COST_MS),
            count,
            head.key_id,
        )
    except struct.error as error:
        raise UsageError(f"a number of an entry's header is out of its range: {error}") from error
    return header + head.stamps + (_pack_tags(head.tags) if head.tags else b"")


def pack_head(envelope: Envelope) -> bytes:
    """Write what a signature covers besides the payload."""
    return write_head(
        Head(
            envelope.token,
            int(envelope.flags),
            envelope.label_bytes,
            envelope.created_ms,
            envelope.fresh_ms,
            envelope.cost_ms,
            envelope.stamps,
            envelope.tags,
            envelope.key_id,
        )
    )


def pack(envelope: Envelope) -> bytes:
    """Write an envelope. Raises `UsageError` when its parts contradict each other or do not fit."""
    signed = bool(envelope.flags & Flags.SIGNED)
    if len(envelope.mac) != (MAC_BYTES if signed else 0):
        raise UsageError(f"a MAC of {len(envelope.mac)} bytes on an entry that is {'' if signed else 'not '}signed")
    return b"".join((pack_head(envelope), envelope.mac, envelope.payload))


def unpack(buffer: bytes | bytearray | memoryview) -> Envelope:
    """Read an envelope, leaving the payload as a view; anything that is not one of ours is `UntrustedValue`."""
    view = memoryview(buffer)
    if view.format != "B" or view.ndim != 1 or not view.contiguous:
        view = memoryview(view.tobytes())
    if len(view) < HEADER_BYTES:
        raise UntrustedValue(f"an entry of {len(view)} bytes is shorter than its header")
    magic, version, token, bits, label, created_ms, fresh_ms, cost_ms, count, key_id = HEADER.unpack_from(view)
    if magic != MAGIC or version != VERSION:
        raise UntrustedValue(f"not an entry of ours, or one of another version (magic {magic:#x}, version {version})")
    if bits >= len(_FLAGS):
        raise UntrustedValue(f"an entry with unknown flags {bits:#x}")
    label_bytes = None if label == NO_LABEL else label
    at = HEADER_BYTES + count * STAMP_BYTES
    stamps = bytes(view[HEADER_BYTES:at]) if count else b""
    tags: tuple[str, ...] = ()
    if bits & TAGGED:
        tags, at = _unpack_tags(view, at)
    if not _is_consistent(bits, label_bytes, count, len(tags)):
        raise UntrustedValue("an entry whose flags, label, stamps and tags contradict each other")
    mac = b""
    if bits & SIGNED:
        mac, at = bytes(view[at : at + MAC_BYTES]), at + MAC_BYTES
    elif key_id:
        raise UntrustedValue("an entry that names a signing key and is not signed")
    if at > len(view):
        raise UntrustedValue("an entry that ends before its payload")
    return Envelope(
        token, _FLAGS[bits], label_bytes, created_ms, fresh_ms, cost_ms, stamps, tags, key_id, mac, view[at:]
    )


def _is_consistent(bits: int, label_bytes: int | None, stamp_count: int, tag_count: int) -> bool:
    # A label without stamps is allowed: a flight that lost its stamps still delivers, and such an entry never matches.
    if label_bytes is None and stamp_count:
        return False
    if label_bytes is not None and not 0 <= label_bytes < NO_LABEL:
        return False
    if bits & TAGGED:
        return 0 < tag_count == stamp_count - 1
    return tag_count == 0


def _pack_tags(tags: tuple[str, ...]) -> bytes:
    try:
        names = [tag.encode() for tag in tags]
    except UnicodeEncodeError as error:
        raise UsageError(f"a tag is not valid text: {error}") from error
    block_bytes = sum(map(len, names)) + _LENGTH.size * len(names)
    if block_bytes > _MAX_BLOCK_BYTES:
        raise UsageError(
            f"tag names of {block_bytes} bytes; an entry holds {_MAX_BLOCK_BYTES}: use fewer or shorter tags"
        )
    return _LENGTH.pack(block_bytes) + b"".join(_LENGTH.pack(len(name)) + name for name in names)


def _unpack_tags(view: memoryview, at: int) -> tuple[tuple[str, ...], int]:
    tags = []
    try:
        (block_bytes,) = _LENGTH.unpack_from(view, at)
        at += _LENGTH.size
        end = at + block_bytes
        while at < end:
            (name_bytes,) = _LENGTH.unpack_from(view, at)
            at += _LENGTH.size + name_bytes
            tags.append(str(view[at - name_bytes : at], "utf-8"))
    except (struct.error, UnicodeDecodeError) as error:
        raise UntrustedValue(f"the tag names of an entry are damaged: {error}") from error
    if at != end or end > len(view):
        raise UntrustedValue("the tag names of an entry are longer or shorter than they claim")
    return tuple(tags), at
