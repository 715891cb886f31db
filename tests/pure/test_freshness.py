"""This is where the short look at an entry believes nothing that the long one would not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from taskcache.codec.envelope import CREATED_AT, FLAGS_AT, MAC_BYTES, Envelope, Flags, pack, unpack
from taskcache.errors import UntrustedValue
from taskcache.freshness import SHORT_HEAD_BYTES, Verdict, is_fresh_value, judge
from tests.pure.damage import damaged

STAMP = b"a stamp of 1"


def entry_of(flags: int) -> bytes:
    """An entry of one function, with whatever flags."""
    mac = b"m" * 16
    sealed = pack(Envelope(b"t" * 16, Flags.SIGNED, 4, 1, 60_000, 3, STAMP, (), 9, mac, b"payload"))
    return sealed[:FLAGS_AT] + bytes((flags,)) + sealed[FLAGS_AT + 1 :]


def is_fresh_at_length(entry: bytes) -> bool:
    """What taking the whole head apart says: a value, and one that this stamp alone decides."""
    try:
        envelope = unpack(entry)
    except UntrustedValue:
        return False
    return not envelope.flags & Flags.ERROR and judge(envelope, [STAMP]) is Verdict.FRESH


@given(st.integers(0, 255))
def test_flags_of_a_later_version_are_not_overlooked(flags: int) -> None:
    """Nor those of an error, of tags that were added, or of a signature that is missing."""
    entry = entry_of(flags)

    assert is_fresh_value(entry, STAMP) == (flags < 8 and bool(flags & Flags.SIGNED)) == is_fresh_at_length(entry)


@given(st.data())
def test_a_damaged_head_is_not_fresh(data: st.DataObject) -> None:
    """Whatever was changed, lost or added: what is fresh at a glance is fresh at length, and the other way round."""
    entry = damaged(data, entry_of(data.draw(st.sampled_from((int(Flags.SIGNED), 0)))))

    assert not is_fresh_value(entry, None)
    assert not is_fresh_value(entry, b"another stam")
    # Whoever opens it finds that half of its signature is missing.
    is_cut = entry[FLAGS_AT : FLAGS_AT + 1] == bytes((Flags.SIGNED,)) and len(entry) < SHORT_HEAD_BYTES + MAC_BYTES
    # Labels of 65,280 signs and more are left to the long look.
    is_long = entry[CREATED_AT - 1 : CREATED_AT] == b"\xff"
    assert is_fresh_value(entry, STAMP) == (
        (is_fresh_at_length(entry) and not is_long) or (is_cut and len(entry) >= SHORT_HEAD_BYTES)
    )


def test_what_is_said_of_nobody_has_no_stamp() -> None:
    """An entry of no function that carries a stamp contradicts itself, to both looks."""
    entry = bytearray(entry_of(int(Flags.SIGNED)))
    entry[CREATED_AT - 2 : CREATED_AT] = b"\xff\xff"

    assert not is_fresh_value(bytes(entry), STAMP)
    assert not is_fresh_at_length(bytes(entry))
