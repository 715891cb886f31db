"""This is where one call finds its value: hit, follow, lead, and what to do when each of them goes wrong."""

from __future__ import annotations

from typing import NoReturn

import pytest

from taskcache.errors import ComputationLost, DispatchFailed, NoServer, Revoked, UntrustedValue
from taskcache.protocol.flight import Landing, Lead, obtain
from taskcache.protocol.scripts import SCRIPTS
from taskcache.protocol.steps import Launch, Wait
from tests.steps.hand import KEY, MINE, NEW, OLD, STAMP, T1, Hand, entry, errand

FOLLOW, LEAD, OUTDATED = [b"follow", T1.encode()], [b"lead", MINE.encode(), b"1000"], [b"outdated", T1.encode()]


def begun(*, owner: str = "", first: list[bytes | None] | None = None) -> Hand:
    return Hand(obtain(errand(owner=owner), first, MINE))


def arguments(hand: Hand) -> dict[str, object]:
    """The arguments of the script that is asked now, by their names."""
    call = hand.call()
    return dict(zip((name for name, _ in SCRIPTS[call.name].args), call.args, strict=True))


def test_a_hit_is_one_read() -> None:
    """Entry and stamps in one round trip, and nothing else."""
    hand = begun().answer([entry("value"), NEW])

    assert (["MGET"], Landing("value", None, 0, "hit")) == (hand.names(), hand.result)
    assert ((KEY.entry, STAMP),) == tuple(step.keys for step in hand.asked)  # type: ignore[union-attr]  # it is a call


def test_what_was_read_already_is_not_read_again() -> None:
    """The hit path's own read counts, because it began after the call did."""
    hand = begun(first=[entry("value"), NEW])

    assert ([], "value") == (hand.names(), hand.result.value)


def test_an_entry_under_another_stamp_is_a_miss() -> None:
    """It is elected over, and its id is told so that the election does not take it for a new one."""
    hand = begun(first=[entry("old", OLD), NEW])
    told = arguments(hand)

    assert ("elect", entry("old", OLD)[:18], NEW, MINE) == (
        hand.call().name,
        told["seen"],
        told["stamps"],
        told["token"],
    )


def test_a_missing_stamp_is_made_before_the_election() -> None:
    """And the one that somebody else made at the same moment wins."""
    hand = begun(first=[None, None])
    made = hand.call()
    hand.answer(OLD)

    assert ("SET", (STAMP,), "NX", "GET", "PX") == (made.name, made.keys, *made.args[1:4])
    assert OLD == arguments(hand)["stamps"]


def test_a_random_stamp_each_time() -> None:
    """Never a counter: one that restarts would make an old entry valid again."""
    stamps = {begun(first=[None, None]).call().args[0] for _ in range(20)}

    assert 20 == len(stamps)


def test_a_leader_of_a_queue_sends_its_message_and_waits() -> None:
    """Elect, launch, wait; the value that comes is the call's."""
    hand = begun(first=[None, NEW]).answer(LEAD)
    launched = hand.now
    hand.answer(None)
    waited = hand.now
    hand.answer(entry("value"))

    assert (Launch(MINE), Wait(MINE, True)) == (launched, waited)
    assert Landing("value", None, 0, "led") == hand.result


def test_a_leader_that_computes_itself_is_told_so() -> None:
    """With an owner the steps end where the computation begins, under the stamps that were read before."""
    hand = begun(owner="me", first=[None, NEW])
    stamps_kept = hand.names()[-1]
    hand.answer(LEAD)

    assert ("PEXPIRE+elect", Lead(MINE, NEW, 1000)) == (stamps_kept, hand.result)


def test_a_follower_waits_and_starts_nothing() -> None:
    """Its source says that somebody else led."""
    hand = begun(first=[None, NEW]).answer(FOLLOW)
    waited = hand.now
    hand.answer(entry("value"))

    assert (Wait(T1, False), "joined", ["elect", "Wait"]) == (waited, hand.result.source, hand.names())


def test_an_empty_wake_up_means_look_at_the_entry() -> None:
    """The value was too large, or the message was lost."""
    hand = begun(first=[None, NEW]).answer(FOLLOW, b"", [entry("value"), NEW])

    assert (["elect", "Wait", "MGET"], "value", "joined") == (hand.names(), hand.result.value, hand.result.source)


def test_an_error_is_landed_as_an_error() -> None:
    """Not raised in the steps: it belongs to the caller."""
    hand = begun(first=[None, NEW]).answer(FOLLOW, b"error:nothing there")

    assert (LookupError, "nothing there") == (type(hand.result.error), str(hand.result.error))


def test_an_entry_that_came_meanwhile_is_taken() -> None:
    """The election saw it: no flight is begun."""
    hand = begun(first=[None, NEW]).answer([b"hit", entry("value")])

    assert ("value", "hit", ["elect"]) == (hand.result.value, hand.result.source, hand.names())


def test_an_entry_that_came_meanwhile_under_another_stamp_is_not() -> None:
    """An invalidation was faster than the read: everything is read anew."""
    hand = begun(first=[None, NEW]).answer([b"hit", entry("value", OLD)])

    assert "MGET" == hand.call().name


def test_outdated_is_read_again_before_anything_is_displaced() -> None:
    """Our stamps may be the older ones; only after reading again the token is named."""
    hand = begun(first=[None, OLD]).answer(OUTDATED)
    read_again = hand.call().name
    hand.answer([None, NEW])

    assert ("MGET", "elect", T1, NEW) == (
        read_again,
        hand.call().name,
        arguments(hand)["outdated"],
        arguments(hand)["stamps"],
    )
    assert KEY.retired(T1) == hand.call().keys[2]


@pytest.mark.parametrize("reply", [OUTDATED, [b"hit", entry("value", NEW)]])
def test_a_name_is_kept_until_it_is_elected(reply: list[bytes]) -> None:
    """A worker's main process renews the name it knows: an election that elected nothing is no reason for another."""
    hand = begun(first=[None, OLD]).answer(reply, [None, NEW])

    assert ("elect", MINE) == (hand.call().name, arguments(hand)["token"])


@pytest.mark.parametrize("reply", [FOLLOW, LEAD])
def test_each_flight_has_a_token_of_its_own(reply: list[bytes]) -> None:
    """A token is elected once, ever."""
    hand = begun(first=[None, NEW]).answer(reply)
    if isinstance(hand.now, Launch):
        hand.answer(None)
    hand.answer(None, [None, NEW])

    assert "elect" == hand.call().name
    assert MINE != arguments(hand)["token"]


def test_a_flight_that_vanished_is_replaced() -> None:
    """Its leader died: read and elect again."""
    hand = begun(first=[None, NEW]).answer(FOLLOW, None)

    assert "MGET" == hand.call().name
    hand.answer([None, NEW])
    assert "elect" == hand.call().name


def test_flights_that_keep_vanishing_end_with_a_reason() -> None:
    """A call that kills its worker does not go round for ever."""
    hand = begun(first=[None, NEW]).answer(FOLLOW)
    for _ in range(3):
        hand.answer(None, [None, NEW], FOLLOW)
    with pytest.raises(ComputationLost, match="vanished 4 times"):
        hand.answer(None)


def test_an_ended_flight_without_a_value_is_no_death() -> None:
    """Waiting again and again for an interrupted leader is not the computation's fault."""
    hand = begun(first=[None, NEW]).answer(FOLLOW)
    for _ in range(10):
        hand.answer(b"", [None, NEW], FOLLOW)

    assert isinstance(hand.now, Wait)


def test_a_value_that_only_this_process_cannot_read_ends_with_a_reason() -> None:
    """The flight stored something that does not open here: computing again would not help."""

    def blind(found: bytes, token: str) -> NoReturn:
        raise UntrustedValue

    from msgspec.structs import replace

    hand = Hand(obtain(replace(errand(), opened=blind), [None, NEW], MINE)).answer(FOLLOW, b"")
    with pytest.raises(ComputationLost, match="secret"):
        hand.answer([entry("value"), NEW])


def test_what_a_flight_stored_is_delivered_whatever_its_stamps() -> None:
    """
    Too large for the wake-up, and computed under other stamps than ours, as by a worker whose function has other tags.

    Judged like any entry it was refused, and computed again, and refused: five hundred bodies in a second.
    """
    hand = begun(first=[None, NEW]).answer(FOLLOW, b"", [entry("value", OLD), NEW])

    assert ("value", "joined") == (hand.result.value, hand.result.source)


def test_what_another_flight_stored_is_judged() -> None:
    """It may be older than this call."""
    hand = begun(first=[None, NEW]).answer(FOLLOW, b"", [entry("value", OLD, MINE), NEW])

    assert "elect" == hand.call().name


def test_a_delivered_value_that_cannot_be_read_is_said_to_be_so() -> None:
    """What the flight itself left and does not open is no miss: there is nothing to look for elsewhere."""
    hand = begun(first=[None, NEW]).answer(FOLLOW, b"unreadable")
    assert "GET" == hand.call().name
    with pytest.raises(ComputationLost, match="secret"):
        hand.answer(b"unreadable")


def test_a_wake_up_that_cannot_be_read_makes_the_waiter_look_and_wait_on() -> None:
    """Anybody may publish to an inbox: what cannot be opened is a hint to look, and nothing is there yet."""
    hand = begun(first=[None, NEW]).answer(FOLLOW, b"unreadable", None)

    assert Wait(T1, False) == hand.now
    assert "value" == hand.answer(entry("value")).result.value


def test_a_wake_up_that_cannot_be_read_may_come_when_the_entry_is_there() -> None:
    """The look finds «read the entry», and the value is read there."""
    hand = begun(first=[None, NEW]).answer(FOLLOW, b"unreadable", b"", [entry("value"), NEW])

    assert "value" == hand.result.value


def test_a_message_that_could_not_be_sent_ends_the_flight() -> None:
    """Those who joined hear the reason at once; the caller gets the error itself."""
    hand = begun(first=[None, NEW]).answer(LEAD)
    hand.fail(DispatchFailed("no broker"))
    told = arguments(hand)

    assert ("publish", "", b"error:no broker", 0) == (hand.call().name, told["owner"], told["envelope"], told["ttl_ms"])
    with pytest.raises(DispatchFailed, match="no broker"):
        hand.answer(b"delivered")


def test_an_interrupt_while_sending_ends_the_flight_without_an_answer() -> None:
    """KeyboardInterrupt is nobody else's error: one of those who wait leads the next flight."""
    hand = begun(first=[None, NEW]).answer(LEAD)
    hand.fail(KeyboardInterrupt())

    assert ("publish", b"") == (hand.call().name, arguments(hand)["envelope"])
    with pytest.raises(KeyboardInterrupt):
        hand.answer(b"delivered")


@pytest.mark.parametrize("owner", ["", "me"])
def test_an_interrupt_while_electing_gives_the_flight_back(owner: str) -> None:
    """Nobody knows whether it was won; if it was, the others must not wait for its lease to lapse."""
    hand = begun(owner=owner, first=[None, NEW])
    hand.fail(KeyboardInterrupt())
    told = arguments(hand)

    assert ("publish", MINE, owner, b"", 0) == (
        hand.call().name,
        *(told[name] for name in ("token", "owner", "envelope", "ttl_ms")),
    )
    with pytest.raises(KeyboardInterrupt):
        hand.answer(b"kept")


def test_somebody_elses_cancellation_is_not_ours() -> None:
    """The last one of a process left while we came: we have cancelled nothing, so we ask again."""
    hand = begun(first=[None, NEW]).answer(FOLLOW, b"cancelled")

    assert "MGET" == hand.call().name


def test_a_revocation_is_ours_when_our_process_left() -> None:
    """Then we ask again; another one is told to everybody who waits."""
    ours = Hand(obtain(errand(left=(T1,)), [None, NEW], MINE)).answer(FOLLOW, b"revoked")
    another = begun(first=[None, NEW]).answer(FOLLOW, b"revoked")

    assert "MGET" == ours.call().name
    assert isinstance(another.result.error, Revoked)


def test_steps_that_are_dropped_ask_for_nothing_more() -> None:
    """Whoever drops them is not there to carry anything out."""
    hand = begun(first=[None, NEW]).answer(LEAD)
    hand.steps.close()

    assert Launch(MINE) == hand.now


@pytest.mark.parametrize("replies", [[], [[None, None]], [[None, None], OLD]])
def test_a_server_that_is_away_is_the_callers_to_know(replies: list[object]) -> None:
    """Whichever question it does not answer: NoServer comes through."""
    hand = begun().answer(*replies)
    with pytest.raises(NoServer):
        hand.fail(NoServer("away"))


def test_an_election_whose_reply_was_lost_still_leads() -> None:
    """redis-py sends the script again, and the second answer names our own token."""
    hand = begun(first=[None, NEW]).answer([b"follow", MINE.encode()])

    assert Launch(MINE) == hand.now
