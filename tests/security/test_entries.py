"""This is where a third party writes into the cache, and no reader believes a word of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskcache import events
from taskcache.codec.envelope import COUNT_AT, FLAGS_AT, HEADER_BYTES, STAMP_BYTES, Flags, unpack
from tests.nodes.server import ValkeyNode
from tests.security.bombs import bomb
from tests.security.damage import damaged, fuzz
from tests.security.vault import FORGER, MISSING, SECRET, Vault, with_pickle

TRUTH = {"square": 49, "tagged": [7, 7, 7]}


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyNode]:
    """A server that anybody may write to."""
    with ValkeyNode() as node:
        yield node


@pytest.fixture(scope="module")
def signed(server: ValkeyNode) -> Iterator[Vault]:
    """A cache with a secret."""
    vault = Vault(server.url(), SECRET)
    yield vault
    vault.cache.close()
    vault.client.close()


@pytest.fixture(scope="module")
def unsigned(server: ValkeyNode) -> Iterator[Vault]:
    """A cache without one."""
    vault = Vault(server.url(), None)
    yield vault
    vault.cache.close()
    vault.client.close()


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[events.Event]]:
    """The events of the test, each warning said anew."""
    monkeypatch.setattr(events, "_said", set())
    heard: list[events.Event] = []
    stop = events.listen(heard.append)
    yield heard
    stop()


def is_true(vault: Vault, function: Any, number: int, found: dict[str, Any]) -> bool:
    """Every reader gives the truth or nothing, and the calls give the truth."""
    truth = function.__wrapped__(number)
    readers = {name: value for name, value in found.items() if not name.startswith("call")}
    calls = [found["call"], found["call again"]]
    return all(value is MISSING or value == truth for value in readers.values()) and calls == [truth, truth]


def signed_only(bad: bytes, found: dict[str, Any]) -> dict[str, Any]:
    """What may not be read without a signature: all but what `incr` leaves (docs/security.md)."""
    is_counter = len(bad) <= 20 and bad.strip().lstrip(b"+-").isdigit()
    return {name: value for name, value in found.items() if not (is_counter and name in ("get", "get_many"))}


# With a secret


@fuzz(150)
@given(data=st.data())
def test_fuzz_damaged_entries_are_misses(signed: Vault, data: st.DataObject) -> None:
    """Cut, bent, spliced, re-versioned: every reader finds nothing, or, where only the tail of nothing was bent, the truth."""
    function = data.draw(st.sampled_from(signed.functions))
    function(7)
    bad = data.draw(damaged([*signed.good(), signed.entry(function.key_for(7))]))
    signed.put(function.key_for(7), bad)

    assert is_true(signed, function, 7, signed_only(bad, signed.reads(function, 7)))


@fuzz(60)
@given(bad=st.binary(max_size=200))
def test_fuzz_anything_at_all_is_a_miss(signed: Vault, bad: bytes) -> None:
    """Bytes that have nothing to do with us are computed over."""
    signed.put(signed.square.key_for(7), bad)

    assert is_true(signed, signed.square, 7, signed_only(bad, signed.reads(signed.square, 7)))


def test_entries_swapped_between_keys_and_functions_are_misses(signed: Vault) -> None:
    """What is good under one key is worth nothing under another, of the same function or not."""
    good = signed.good()
    for function in signed.functions:
        for entry in good:
            signed.put(function.key_for(7), entry)
            assert is_true(signed, function, 7, signed.reads(function, 7))


@pytest.mark.parametrize("secret", [FORGER, None], ids=["another secret", "no secret"])
def test_entries_of_a_forger_are_misses(signed: Vault, said: list[events.Event], secret: str | None) -> None:
    """Right key, right stamps, right layout, wrong secret: counted, and never returned."""
    for function in signed.functions:
        function(7)
        signed.put(function.key_for(7), signed.forged(function, 7, "forged", secret))
        said.clear()

        assert is_true(signed, function, 7, signed.reads(function, 7))
        assert {"untrusted"} <= {event.kind for event in said}


@pytest.mark.parametrize("key_id", [None, "ours"], ids=["unsigned", "guessed"])
def test_a_pickle_without_our_signature_is_never_read(
    signed: Vault, unsigned: Vault, tmp_path: Path, key_id: str | None
) -> None:
    """With a secret or without: a pickle that nobody of us has signed stays bytes."""
    for vault in (signed, unsigned):
        for function in vault.functions:
            function(7)
            entry = vault.entry(function.key_for(7))
            number = None if key_id is None else unpack(signed.good()[0]).key_id
            vault.put(function.key_for(7), with_pickle(entry, bomb(tmp_path / "read"), key_id=number))
            found = vault.reads(function, 7)

            assert is_true(vault, function, 7, found)
            assert not (tmp_path / "read").exists()


def test_coroutines_believe_no_more(signed: Vault) -> None:
    """The same for the awaitable readers."""
    signed.square(7)
    key = signed.square.key_for(7)

    async def read() -> list[Any]:
        signed.put(key, signed.forged(signed.square, 7, "forged"))
        found = [await signed.cache.aio.get(key, MISSING), await signed.square.aio(7), await signed.square.aio(7)]
        signed.put(key, b"\x00nothing of ours")
        return [*found, await signed.cache.aio.get(key, MISSING), await signed.square.aio(7)]

    assert [MISSING, 49, 49, MISSING, 49] == asyncio.run(read())


def test_a_distrusted_entry_is_logged_once_without_its_value(
    signed: Vault, said: list[events.Event], caplog: pytest.LogCaptureFixture
) -> None:
    """One line names the function; key, arguments and the forged value are nobody's to read."""
    caplog.set_level(logging.DEBUG, "taskcache")
    signed.square(7)  # there is a stamp to forge an entry for
    for _ in range(3):
        signed.put(signed.square.key_for(7), signed.forged(signed.square, 7, "canary"))
        signed.square(7)
    lines = [record.getMessage() for record in caplog.records if "not readable" in record.getMessage()]

    assert 1 == len(lines)
    assert "square" in lines[0]
    assert signed.square.key_for(7).partition(":")[2] not in lines[0]
    assert "canary" not in caplog.text
    assert 3 == [event.kind for event in said].count("untrusted")


@pytest.mark.parametrize("way", ["call", "map", "aio", "get", "peek"])
def test_a_distrusted_entry_is_counted_once_for_each_call(signed: Vault, said: list[events.Event], way: str) -> None:
    """However often a call looks at the same bytes: the hit path, the long way, and once more when it was elected."""
    square = signed.square
    ways: dict[str, Any] = {
        "call": lambda: square(9),
        "map": lambda: list(square.map([9])),
        "aio": lambda: asyncio.run(square.aio(9)),
        "get": lambda: signed.cache.get(square.key_for(9)),
        "peek": lambda: square.peek(9),
    }
    square(9)
    said.clear()
    for _ in range(2):
        signed.put(square.key_for(9), signed.forged(square, 9, "forged"))
        ways[way]()

    assert 2 == [event.kind for event in said].count("untrusted")


# Old entries put back


def test_an_old_entry_is_no_good_after_bust_all(signed: Vault) -> None:
    """Its stamp is gone for good."""
    signed.square(9)
    old, runs = signed.entry(signed.square.key_for(9)), signed.runs["square"]
    signed.square.bust_all()
    signed.put(signed.square.key_for(9), old)
    found = signed.reads(signed.square, 9)

    assert runs + 1 == signed.runs["square"]
    assert is_true(signed, signed.square, 9, found)


def test_an_old_entry_is_no_good_after_its_tag_was_invalidated(signed: Vault) -> None:
    """The same for tags."""
    signed.tagged(9)
    key = signed.tagged.key_for(9)
    old = signed.entry(key)
    signed.cache.invalidate("tag")
    signed.put(key, old)

    assert (MISSING, None) == (signed.cache.get(key, MISSING), signed.tagged.peek(9))
    assert [9, 9, 9] == signed.tagged(9)
    assert old != signed.entry(key)


def test_an_old_entry_put_back_after_the_bust_of_its_call_is_not_noticed(signed: Vault) -> None:
    """`bust` of one call removes its entry and changes no stamp: a signature says who wrote, not when (docs/security.md)."""
    signed.square(10)
    old, runs = signed.entry(signed.square.key_for(10)), signed.runs["square"]
    signed.square.bust(10)
    signed.put(signed.square.key_for(10), old)

    assert (100, runs) == (signed.square(10), signed.runs["square"])


# Without a secret


@fuzz(150)
@given(data=st.data())
def test_fuzz_without_a_secret_no_bytes_break_a_reader(unsigned: Vault, data: st.DataObject) -> None:
    """Whoever may write is believed; still nothing is unpickled and nobody falls over."""
    function = data.draw(st.sampled_from(unsigned.functions))
    function(7)
    bad = data.draw(
        st.one_of(st.binary(max_size=200), damaged([*unsigned.good(), unsigned.entry(function.key_for(7))]))
    )
    unsigned.put(function.key_for(7), bad)

    assert 6 == len(unsigned.reads(function, 7))


def test_an_entry_with_more_stamps_than_tags_is_a_miss(unsigned: Vault) -> None:
    """Whoever names none cannot be asked whether they hold: it was an MGET without keys, and its error the caller's."""
    for function, stamps in ((unsigned.square, 1), (unsigned.tagged, 2)):
        function.bust(9)
        value, key = function(9), function.key_for(9)
        good = bytearray(unsigned.entry(key))
        good[FLAGS_AT] &= ~Flags.TAGGED
        good[COUNT_AT] = stamps + 1
        unsigned.put(key, bytes(good[: HEADER_BYTES + stamps * STAMP_BYTES]) + b"s" * STAMP_BYTES + b"\xc0")

        assert (None, value, value) == (function.peek(9), function(9), function(9))
        assert function.peek(9) is not None


# Other things than entries


def test_other_types_under_our_keys_break_nobody(signed: Vault) -> None:
    """A list where the entry belongs is a miss and replaced; in the place of a stamp or a flight the call computes alone."""
    key = signed.redis_key(signed.square.key_for(11))
    for place in (key, b"signed~fn:square", b"{%b}:flight" % key):
        signed.client.delete(key, place)
        signed.client.rpush(place, "not ours")
        assert 121 == signed.square(11)
        signed.client.delete(place)
    signed.client.rpush(key, "not ours")

    assert MISSING is signed.cache.get(signed.square.key_for(11), MISSING)
    assert (121, 121) == (signed.square(11), signed.square(11))
    assert b"string" == signed.client.type(key)


@pytest.mark.parametrize("stamp", [b"", b"short", b"x" * 13, b"x" * 100_000])
def test_a_stamp_that_nobody_of_us_wrote_is_replaced(signed: Vault, stamp: bytes) -> None:
    """It can be carried by no entry; another one in its place invalidates, which is always safe."""
    signed.square(12)
    signed.client.set("signed~fn:square", stamp, px=60_000)

    assert (144, 144) == (signed.square(12), signed.square(12))
    assert 12 == signed.client.strlen("signed~fn:square")


def test_a_key_that_is_no_text_does_not_end_the_listing(signed: Vault) -> None:
    """What others wrote below our name is listed, escaped, and flushed with the rest."""
    signed.client.set(b"signed:\xff\xfe", b"x", px=60_000)
    listed = list(signed.cache.keys(strip_prefix=True))

    assert "\\xff\\xfe" in listed
    assert signed.cache.flush() >= 1
    assert [] == list(signed.cache.keys())


@pytest.mark.parametrize("label_bytes", [1, 2, 5, 400])
def test_a_label_that_is_no_part_of_the_key_breaks_nobody(signed: Vault, unsigned: Vault, label_bytes: int) -> None:
    """The head is looked at before anything is verified, and the label may end in the middle of a sign."""
    for vault in (signed, unsigned):
        entry = bytearray(vault.good()[0])
        entry[19:21] = label_bytes.to_bytes(2, "big")
        vault.put("äöü", bytes(entry))

        assert MISSING is vault.cache.get("äöü", MISSING)
