"""This is where we decide whether what is stored may be returned; nothing here speaks to a server or reads a clock."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import Enum, auto

from taskcache.codec.envelope import (
    COMPRESSED,
    COUNT_AT,
    CREATED_AT,
    FLAGS_AT,
    HEADER_BYTES,
    IS_OURS,
    KEY_ID_AT,
    PICKLE,
    SIGNED,
    STAMP_BYTES,
    Envelope,
)

# The head of an entry that depends on its function alone.
SHORT_HEAD_BYTES = HEADER_BYTES + STAMP_BYTES
# No label at all is 0xFFFF; the few that are nearly as long are looked at the long way.
_LABEL_END = CREATED_AT - 1
# Also what a later version may have added.
_UNUSUAL = 0xFF & ~(PICKLE | COMPRESSED | SIGNED)
# What the head of the commonest entry of a function has at which place.
_COMMONEST = (*enumerate(IS_OURS), (FLAGS_AT, 0), (COUNT_AT, 1), (KEY_ID_AT, 0))
_CREATED = struct.Struct(f"<{CREATED_AT}xQ{SHORT_HEAD_BYTES - CREATED_AT - 8}x")


class Verdict(Enum):
    """What a stored entry is worth to a call that reads it now."""

    FRESH = auto()
    # A stamp differs or is missing: something it depends on was invalidated after its computation began.
    INVALID = auto()
    # It also depends on tags that its body added; their stamps have to be read as well.
    MORE = auto()


def is_fresh_value(entry: bytes, stamp: bytes | None) -> bool:
    """
    Whether this is a value that depends on its function alone, computed under the stamp that holds now.

    It is what `judge` says of nearly all entries, without taking the head apart. A stamp that differs or is missing: the
    function was invalidated after this value's computation began.
    """
    return (
        entry[HEADER_BYTES:SHORT_HEAD_BYTES] == stamp
        and len(entry) >= SHORT_HEAD_BYTES
        and entry[:2] == IS_OURS
        and entry[COUNT_AT] == 1
        and not (flags := entry[FLAGS_AT]) & _UNUSUAL
        # What contradicts itself is not ours: a stamp of no function, and the key of a signature that is not there.
        and entry[_LABEL_END] != 0xFF
        and (not entry[KEY_ID_AT] or flags & SIGNED != 0)
    )


def are_fresh_values(heads: bytes, stamp: bytes | None) -> bool:
    """`is_fresh_value` of the commonest entries, neither signed, pickled nor compressed: their heads, one after the other."""
    if stamp is None or len(stamp) != STAMP_BYTES:
        return False
    count = len(heads) // SHORT_HEAD_BYTES
    # Each slice is what stands at one place in all of them.
    return b"\xff" not in heads[_LABEL_END::SHORT_HEAD_BYTES] and all(
        heads[at::SHORT_HEAD_BYTES] == bytes((byte,)) * count
        for at, byte in (*_COMMONEST, *enumerate(stamp, HEADER_BYTES))
    )


def all_created_ms(heads: bytes) -> list[int]:
    """`created_ms` of each of these heads."""
    return [created for (created,) in _CREATED.iter_unpack(heads)]


def created_ms(entry: bytes) -> int:
    """When the computation of such a value began, by the server's clock."""
    return int.from_bytes(entry[CREATED_AT : CREATED_AT + 8], "little")


def judge(envelope: Envelope, stamps: Sequence[bytes | None]) -> Verdict:
    """
    Compare the stamps an entry was computed under with those that hold now.

    Reading both in any order is safe: a bumped stamp never returns to an old value, so a match at any moment inside
    the call proves that no invalidation finished before the call began.
    """
    current = b""
    for stamp in stamps:
        if stamp is None:
            return Verdict.INVALID
        current += stamp
    if current == envelope.stamps:
        return Verdict.FRESH
    # An entry has either the stamps of its call or more; fewer means that the function's tags were changed by a deploy.
    # Stamps that nobody of us wrote may have any length, and even an empty one is what every entry begins with.
    is_whole = len(current) == STAMP_BYTES * len(stamps)
    return Verdict.MORE if is_whole and envelope.stamps.startswith(current) else Verdict.INVALID
