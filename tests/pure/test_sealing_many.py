"""This is where we hold that reading many entries at once trusts no more than reading each of them."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from taskcache.codec import Codec
from taskcache.codec.sealing import UNOPENED
from taskcache.codec.typed import encode, encode_plain
from taskcache.errors import UntrustedValue
from taskcache.settings import Settings
from tests.pure.damage import damaged, flip_a_bit
from tests.pure.values import PLAIN, unhurried
from tests.pure.values import VALUES as EVERYTHING

NEW, OLD = b"new secret of 32 bytes or more...", b"old secret of 32 bytes or more..."
CODECS = {
    "plain": Codec(Settings()),
    "signed": Codec(Settings(secrets=(NEW,))),
    "rotated": Codec(Settings(secrets=(OLD, NEW))),
    "old": Codec(Settings(secrets=(OLD,))),
    "safe": Codec(Settings(secrets=(NEW,), codec="safe")),
    "pickle": Codec(Settings(secrets=(NEW,), codec="pickle")),
}
VALUES: list[Any] = [
    None,
    7,
    "text",
    {"a": (1, 2)},
    "word " * 5000,
    b"\x00" * 100,
    [1.5] * 1000,
    bytes(range(256)) * 20,
]
KEYS = [b"cache:%d" % number for number in range(len(VALUES))]


def opened_together(codec: Codec, keys: list[bytes], entries: list[Any]) -> list[Any]:
    """What a reader of many has: the short way, and where that is not open the long one, which says the same."""
    bare, opened = codec.open_bare(entries), codec.open_plain(keys, entries)

    assert bare is None or bare == opened
    return opened if bare is None else bare


def one_by_one(codec: Codec, entries: list[Any]) -> list[Any]:
    """What each entry gives by itself."""
    found = []
    for key, entry in zip(KEYS, entries, strict=True):
        try:
            found.append(codec.open(key, entry))
        except UntrustedValue:
            found.append(UNOPENED)
    return found


@pytest.mark.parametrize("reader", CODECS)
@pytest.mark.parametrize("writer", CODECS)
def test_many_open_as_each_does(writer: str, reader: str) -> None:
    """Whoever wrote them: what is opened here is what opens alone, and of one's own nothing is left over."""
    entries = CODECS[writer].seal_plain(KEYS, VALUES, fresh_ms=60_000)
    together, alone = opened_together(CODECS[reader], KEYS, entries), one_by_one(CODECS[reader], entries)

    assert all(one is UNOPENED or one == other for one, other in zip(together, alone, strict=True))
    if writer == reader:
        assert VALUES == together


@unhurried
@given(st.lists(PLAIN, min_size=1, max_size=8), st.lists(EVERYTHING, max_size=3))
def test_many_are_written_as_each_is(plain: list[Any], more: list[Any]) -> None:
    """Plain values together are the bytes of each; beside one that is not, all go the longer way."""
    together = encode_plain([*plain, *more])

    assert [encode(value) for value in plain] == encode_plain(plain)
    assert together is None or [encode(value) for value in (*plain, *more)] == together


@pytest.mark.parametrize("name", CODECS)
def test_a_batch_of_all_sorts_comes_back(name: str) -> None:
    """More than are looked at as one; plain ones, long ones, unusual ones, in their order."""
    codec, values = CODECS[name], [value for value in VALUES for _ in range(40)] + list(range(300))
    keys = [b"cache:%d" % number for number in range(len(values))]

    assert values == opened_together(codec, keys, codec.seal_plain(keys, values, fresh_ms=0))
    assert [] == codec.seal_plain([], [], fresh_ms=0)


def test_a_pickle_is_opened_where_it_may_be() -> None:
    """What the typed codec does not write, signed."""
    codec, key = CODECS["signed"], KEYS[:1]
    entries = codec.seal_plain(key, [Fraction(1, 3)], fresh_ms=0)

    assert [Fraction(1, 3)] == opened_together(codec, key, entries)
    assert [UNOPENED] == opened_together(CODECS["safe"], key, entries) == opened_together(CODECS["plain"], key, entries)


def test_what_needs_a_closer_look_is_left() -> None:
    """Nothing, a counter, an entry of a function, a failure, and one that was read into a buffer of its own."""
    codec = CODECS["plain"]
    facts: dict[str, Any] = {"token": bytes(16), "created_ms": 1, "fresh_ms": 0, "cost_ms": 0}
    others = [
        None,
        b"17",
        b"",
        codec.seal(KEYS[3], 1, label_bytes=5, stamps=b"f" * 12, **facts),
        codec.seal_failure(KEYS[4], ValueError("no"), token=bytes(16)),
        bytearray(codec.seal(KEYS[5], 1, label_bytes=None, **facts)),
        codec.seal(KEYS[6], 1, label_bytes=None, **facts)[:30],
        b"\xc5\x02" + codec.seal(KEYS[7], 1, label_bytes=None, **facts)[2:],
    ]

    assert [UNOPENED] * len(others) == opened_together(codec, KEYS, others)


def test_swapped_entries_are_not_opened() -> None:
    """A signature belongs to one key."""
    codec = CODECS["signed"]
    entries = codec.seal_plain(KEYS, VALUES, fresh_ms=60_000)

    assert [UNOPENED] * len(KEYS) == opened_together(codec, KEYS, entries[1:] + entries[:1])


@hypothesis_settings(deadline=None, max_examples=200)
@given(st.data())
def test_a_damaged_one_is_left_and_the_others_are_opened(data: st.DataObject) -> None:
    """No bit can change, no byte be missing or added."""
    codec = CODECS["signed"]
    entries = codec.seal_plain(KEYS, VALUES, fresh_ms=60_000)
    place = data.draw(st.integers(0, len(entries) - 1))
    entries[place] = damaged(data, entries[place])
    opened = opened_together(codec, KEYS, entries)

    assert opened[place] is UNOPENED
    assert [*VALUES[:place], *VALUES[place + 1 :]] == [*opened[:place], *opened[place + 1 :]]


@hypothesis_settings(deadline=None, max_examples=200)
@given(st.data())
def test_a_damaged_unsigned_one_gives_a_value_or_nothing(data: st.DataObject) -> None:
    """Without a secret damage may go unseen, but nothing is raised."""
    codec = CODECS["plain"]
    entries = codec.seal_plain(KEYS, VALUES, fresh_ms=60_000)
    place = data.draw(st.integers(0, len(entries) - 1))
    raw = bytearray(entries[place])
    flip_a_bit(data, raw)
    entries[place] = bytes(raw)

    assert len(entries) == len(opened_together(codec, KEYS, entries))


@hypothesis_settings(deadline=None, max_examples=200)
@given(st.data())
def test_a_damaged_one_among_the_commonest_harms_no_other(data: st.DataObject) -> None:
    """Short plain values are read as one array, unless one of them is not."""
    codec = CODECS["plain"]
    values = [{"id": number} for number in range(len(KEYS))]
    entries: list[Any] = codec.seal_plain(KEYS, values, fresh_ms=60_000)
    assert values == opened_together(codec, KEYS, entries)
    place = data.draw(st.integers(0, len(entries) - 1))
    entries[place] = data.draw(st.sampled_from([None, b"", b"17", damaged(data, entries[place])]))
    opened, alone = opened_together(codec, KEYS, entries), one_by_one(codec, [each or b"" for each in entries])

    # One that lies about a stamp it does not have is refused by a closer look only.
    assert opened[place] is UNOPENED or alone[place] is UNOPENED or opened[place] == alone[place]
    assert [*values[:place], *values[place + 1 :]] == [*opened[:place], *opened[place + 1 :]]
