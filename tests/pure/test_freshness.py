"""This is where the short look at an entry believes nothing that the long one would not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from taskcache.codec.envelope import FLAGS_AT, Envelope, Flags, pack, unpack
from taskcache.errors import UntrustedValue
from taskcache.freshness import Verdict, is_fresh_value, judge
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
    """Nor those of an error, or of tags that were added."""
    entry = entry_of(flags)
    # An unsigned entry that names a key is found out by the one who opens it.
    assert is_fresh_value(entry, STAMP) == (flags < 8)
    assert not is_fresh_at_length(entry) or is_fresh_value(entry, STAMP)


@given(st.data())
def test_a_damaged_head_is_not_fresh(data: st.DataObject) -> None:
    """Whatever was changed, lost or added: what is fresh at a glance is fresh at length, or has no valid signature."""
    entry = damaged(data, entry_of(int(Flags.SIGNED)))

    assert not is_fresh_value(entry, None)
    assert not is_fresh_value(entry, b"another stam")
    assert is_fresh_at_length(entry) <= is_fresh_value(entry, STAMP)
