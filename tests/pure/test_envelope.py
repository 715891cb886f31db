"""This is where we hold the layout of an entry, and that no bytes at all can make it raise anything unforeseen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from msgspec.structs import replace

from taskcache.codec.envelope import (
    HEADER,
    HEADER_BYTES,
    ID_BYTES,
    MAC_BYTES,
    STAMP_BYTES,
    Envelope,
    Flags,
    pack,
    pack_head,
    unpack,
)
from taskcache.errors import UntrustedValue, UsageError

unhurried = hypothesis_settings(deadline=None, max_examples=200)
TOKEN = bytes(range(16))
ENTRY = Envelope(
    token=TOKEN,
    flags=Flags.SIGNED | Flags.TAGGED,
    label_bytes=11,
    created_ms=1_700_000_000_000,
    fresh_ms=60_000,
    cost_ms=250,
    stamps=b"f" * 12 + b"t" * 12 + b"u" * 12,
    tags=("user:1", "größe"),
    key_id=7,
    mac=b"m" * 16,
    payload=b"payload",
)


@st.composite
def envelopes(draw: st.DrawFn) -> Envelope:
    label = draw(st.none() | st.integers(0, 0xFFFE))
    tags = tuple(draw(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), max_size=4)))
    count = 0 if label is None else draw(st.integers(0, 5))
    if label is None or not tags:
        tags = ()
    else:
        count = len(tags) + 1
    signed = draw(st.booleans())
    flags = draw(st.sampled_from((Flags.PLAIN, Flags.PICKLE, Flags.ERROR, Flags.COMPRESSED | Flags.PICKLE)))
    return Envelope(
        token=draw(st.binary(min_size=16, max_size=16)),
        flags=flags | (Flags.SIGNED if signed else 0) | (Flags.TAGGED if tags else 0),
        label_bytes=label,
        created_ms=draw(st.integers(0, 2**64 - 1)),
        fresh_ms=draw(st.integers(0, 2**64 - 1)),
        cost_ms=draw(st.integers(0, 2**32 - 1)),
        stamps=draw(st.binary(min_size=count * STAMP_BYTES, max_size=count * STAMP_BYTES)),
        tags=tags,
        key_id=draw(st.integers(0, 255)) if signed else 0,
        mac=draw(st.binary(min_size=16, max_size=16)) if signed else b"",
        payload=draw(st.binary(max_size=50)),
    )


@unhurried
@given(envelopes())
def test_an_envelope_comes_back_whole(envelope: Envelope) -> None:
    """Whatever is packed is unpacked to the same facts, and packs to the same bytes again."""
    written = pack(envelope)

    assert envelope == unpack(written)
    assert written == pack(unpack(written))
    assert written.startswith(pack_head(unpack(written)))


def test_the_first_eighteen_bytes_are_the_id() -> None:
    """Magic, version and token come first, which is what the scripts compare."""
    written = pack(ENTRY)

    assert written[:ID_BYTES] == ENTRY.id
    assert TOKEN == written[2:ID_BYTES]


def test_the_layout_is_pinned() -> None:
    """A change of the layout must be a change of the version."""
    expected = (
        "c501000102030405060708090a0b0c0d0e0f140b00" + "0068e5cf8b010000" + "60ea000000000000" + "fa000000" + "0307"
        "666666666666666666666666" + "747474747474747474747474" + "757575757575757575757575"
        "1100" + "0600757365723a31" + "07006772c3b6c39f65" + "6d" * 16 + "7061796c6f6164"
    )

    assert expected == pack(ENTRY).hex()
    assert 43 == HEADER_BYTES == HEADER.size


def test_the_payload_is_a_view_into_the_buffer() -> None:
    """Unpacking a megabyte copies no megabyte."""
    payload = unpack(pack(ENTRY)).payload

    assert isinstance(payload, memoryview)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda raw: memoryview(raw).cast("c")])
def test_every_kind_of_buffer_is_read(kind: type) -> None:
    """Bytes, bytearrays and views of any format read alike."""
    assert ENTRY == unpack(kind(pack(ENTRY)))


@unhurried
@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda rest: pack(ENTRY)[:18] + rest))
def test_arbitrary_bytes_are_untrusted_or_consistent(raw: bytes) -> None:
    """Bytes from anywhere either read as an envelope that packs to the same bytes, or are refused in one way."""
    try:
        envelope = unpack(raw)
    except UntrustedValue:
        return

    assert raw == pack(envelope)


@unhurried
@given(envelopes(), st.data())
def test_damaged_envelopes_are_untrusted_or_consistent(envelope: Envelope, data: st.DataObject) -> None:
    """A flipped bit or a lost end never raises anything but `UntrustedValue`."""
    raw = bytearray(pack(envelope))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    raw = raw[: data.draw(st.integers(0, len(raw)))]
    try:
        again = unpack(raw)
    except UntrustedValue:
        return

    assert bytes(raw) == pack(again)


@pytest.mark.parametrize("length", range(len(pack(ENTRY)) - len(ENTRY.payload)))
def test_a_truncated_head_is_untrusted(length: int) -> None:
    """An entry cut anywhere before its payload is refused."""
    with pytest.raises(UntrustedValue):
        unpack(pack(ENTRY)[:length])


@pytest.mark.parametrize(("at", "value"), [(0, 0x80), (1, 2), (18, 0x20), (18, 0xFF)])
def test_another_magic_version_or_flag_is_untrusted(at: int, value: int) -> None:
    """An entry of a later version, or of another program, is a miss and no crash."""
    raw = bytearray(pack(ENTRY))
    raw[at] = value

    with pytest.raises(UntrustedValue):
        unpack(raw)


@pytest.mark.parametrize(
    "broken",
    [
        replace(ENTRY, token=b"short"),
        replace(ENTRY, stamps=b"not a multiple"),
        replace(ENTRY, label_bytes=None),
        replace(ENTRY, label_bytes=0xFFFF),
        replace(ENTRY, tags=("one",)),
        replace(ENTRY, flags=Flags.SIGNED),
        replace(ENTRY, flags=Flags.TAGGED),
        replace(ENTRY, mac=b""),
        replace(ENTRY, created_ms=-1),
        replace(ENTRY, key_id=256),
        replace(ENTRY, tags=("x" * 40_000, "y" * 40_000)),
        replace(ENTRY, tags=("\ud800", "y")),
        replace(ENTRY, stamps=b"s" * STAMP_BYTES * 256),
    ],
)
def test_a_contradiction_is_not_written(broken: Envelope) -> None:
    """What could not be read again is refused where it is made."""
    with pytest.raises(UsageError):
        pack(broken)


def test_a_cost_beyond_the_field_is_capped() -> None:
    """A computation of two months loses its exact cost, not its value."""
    assert 2**32 - 1 == unpack(pack(replace(ENTRY, cost_ms=2**40))).cost_ms


def test_a_flight_without_stamps_still_delivers() -> None:
    """A label without stamps can be written: it is delivered to waiters and matches no reader's stamps."""
    bare = replace(ENTRY, flags=Flags.PLAIN, stamps=b"", tags=(), mac=b"", key_id=0)

    assert bare == unpack(pack(bare))
    assert 16 == MAC_BYTES
