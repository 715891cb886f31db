"""This is where a computation begins, is given back, and is left: claim, release, leave, and what keys and stamps hold."""

from __future__ import annotations

import pytest

from taskcache.protocol.entry import EntryKey, is_companion, new_token, token_bytes
from taskcache.protocol.flight import Claim, begin, depart, end, invalidate, yield_back
from taskcache.protocol.scripts import SCRIPTS
from taskcache.protocol.stamps import bump, ensure, extensions, function_stamp, glob_escape, stamp_pattern, tag_stamp
from taskcache.protocol.steps import Call, Calls
from tests.steps.hand import KEY, NEW, OLD, STAMP, T1, Hand, errand


def claimed(reply: list[bytes]) -> Claim:
    hand = Hand(begin(errand(), T1, owner="worker", inline=False)).answer([NEW], reply)
    claim: Claim = hand.result
    return claim


def test_stamps_are_read_before_the_claim() -> None:
    """Read, made if missing, kept alive together with the claim: an invalidation after the claim is seen."""
    hand = Hand(begin(errand(), T1, owner="worker", inline=False))
    hand.answer([None], None)
    step = hand.now
    assert isinstance(step, Calls)
    kept, claim = step.calls

    assert (["MGET", "SET"], "PEXPIRE", "claim") == (hand.names()[:2], kept.name, claim.name)
    assert hand.asked[1].args[0] == claim.args[2]  # type: ignore[union-attr]  # it is a call


def test_stamps_outlive_the_entry() -> None:
    """By an hour, the longest computation anyone should wait for; for ever when the entry lives for ever."""
    for lifetime_ms, keeping in (
        (60_000, Call("PEXPIRE", (STAMP,), (3_660_000, "GT"))),
        (-1, Call("PERSIST", (STAMP,))),
    ):
        hand = Hand(begin(errand(lifetime_ms=lifetime_ms), T1, owner="worker", inline=False)).answer([NEW])
        step = hand.now
        assert isinstance(step, Calls)
        assert keeping == step.calls[0]


def test_the_stamps_of_the_claim_count() -> None:
    """A second attempt keeps those of the first, and the server's clock says when it began."""
    assert Claim("run", OLD, 1234) == claimed([b"run", OLD, b"1234"])


@pytest.mark.parametrize("word", ["taken", "early"])
def test_how_long_to_wait_is_told(word: str) -> None:
    """A lease that has just ended reads as -2: that is now."""
    assert (Claim(word, left_ms=700), Claim(word, left_ms=0)) == (  # type: ignore[arg-type]  # a claim's own words
        claimed([word.encode(), b"700"]),
        claimed([word.encode(), b"-2"]),
    )


@pytest.mark.parametrize("word", ["ended", "superseded", "gone"])
def test_other_answers_are_words(word: str) -> None:
    """Nothing to run."""
    assert Claim(word) == claimed([word.encode()])  # type: ignore[arg-type]  # a claim's own words


@pytest.mark.parametrize(("is_error", "linger_ms"), [(False, 15_000), (True, 60_000)])
def test_outcomes_linger(is_error: bool, linger_ms: int) -> None:
    """Errors four times as long: nothing else says what happened."""
    hand = Hand(end(errand(), T1, owner="me", envelope=b"x", ttl_ms=0, is_error=is_error))

    assert (
        linger_ms
        == dict(zip((name for name, _ in SCRIPTS["publish"].args), hand.call().args, strict=True))["linger_ms"]
    )
    assert "delivered" == hand.answer(b"delivered").result


def test_a_retry_is_given_back_before_it_is_sent() -> None:
    """True when it was ours to give."""
    for reply, is_given in ((b"released", True), (b"refused", False)):
        assert is_given is Hand(yield_back(errand(), T1, owner="me", in_ms=5_000)).answer(reply).result


def test_leaving_says_what_became_of_the_flight() -> None:
    """The script's own word."""
    hand = Hand(depart(errand(), T1, envelope=b"cancelled"))

    assert ("leave", "running") == (hand.call().name, hand.answer(b"running").result)


def test_an_invalidation_is_one_script() -> None:
    """One round trip, whether it removes or replaces."""
    removed, replaced = Hand(invalidate(KEY)), Hand(invalidate(KEY, envelope=b"x", ttl_ms=5))

    assert Call("forget", (KEY.entry, KEY.flight), (b"", 0)) == removed.now
    assert Call("forget", (KEY.entry, KEY.flight), (b"x", 5)) == replaced.now
    assert 1 == removed.answer(1).result


# Stamps


def test_only_missing_stamps_are_made() -> None:
    """What is there stays; all of them together, in their order, are the version of a computation."""
    hand = Hand(ensure((b"a", b"b", b"c"), [OLD, None, NEW], 1000))
    asked = hand.call()
    hand.answer(None)

    assert ((b"b",), OLD + bytes(asked.args[0]) + NEW) == (asked.keys, hand.result)  # type: ignore[arg-type]  # it is bytes


def test_a_stamp_that_must_not_lapse_has_no_expiry() -> None:
    """FOREVER."""
    assert ("NX", "GET") == Hand(ensure((b"a",), [None], -1)).call().args[1:]
    assert (Call("PERSIST", (b"a",)),) == extensions((b"a",), -1)


def test_a_bump_deletes() -> None:
    """Missing means invalid, and unused tags leave nothing behind."""
    hand = Hand(bump((b"a", b"b")))
    hand.answer(1, 0)

    assert (["DEL", "DEL"], 1) == (hand.names(), hand.result)


def test_stamps_have_names_that_no_entry_can_have() -> None:
    """`~` is no part of a cache's name, and entries begin with its name and a colon."""
    assert (b"cache~fn:shop.f", b"cache~tag:user-1") == (
        function_stamp("cache", "shop.f"),
        tag_stamp("cache", "user-1"),
    )
    assert b"c\\*\\[a\\]~*" == stamp_pattern("c*[a]")
    assert b"\\?\\\\" == glob_escape("?\\")


# Keys


@pytest.mark.parametrize(
    ("redis_key", "flight"),
    [
        (b"cache:a", b"{cache:a}:flight"),
        (b"cache:{tag}a", b"cache:{tag}a:flight"),
        (b"cache:{}a", b"{cache:{}a}:flight"),
        (b"cache:{a", b"{cache:{a}:flight"),
    ],
)
def test_companions_live_in_the_slot_of_their_key(redis_key: bytes, flight: bytes) -> None:
    """A key that carries a hash tag keeps it; any other becomes one."""
    assert flight == EntryKey.of(redis_key).flight


def test_companions_are_told_from_entries() -> None:
    """Flights, retired flights and outcomes are not entries."""
    key = EntryKey.of(b"cache:{tag}a")

    assert [True, True, True] == [is_companion(name) for name in key.around(T1)]
    assert [False, False] == [is_companion(key.entry), is_companion(b"cache:my:flight:to:Rome")]


def test_tokens_are_unguessable_names() -> None:
    """128 bits in the form of a Celery task id."""
    tokens = {new_token() for _ in range(1000)}

    assert (1000, {36}, {16}) == (
        len(tokens),
        {len(token) for token in tokens},
        {len(token_bytes(token)) for token in tokens},
    )
