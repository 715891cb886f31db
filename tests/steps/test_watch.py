"""This is where one flight is followed until it ends: woken by its inbox, and looking by itself."""

from __future__ import annotations

from typing import Any

import pytest

from taskcache.errors import ComputationLost, DispatchFailed, UnknownTask
from taskcache.launcher import MessageMissing
from taskcache.protocol.flight import Landing, attend
from taskcache.protocol.scripts import SCRIPTS
from taskcache.protocol.steps import Inquire, Launch, Pause, Wait
from taskcache.protocol.watch import Sighting, watch
from taskcache.settings import Settings
from tests.steps.hand import KEY, NEW, OLD, T1, Hand, entry, errand

RUNNING, QUEUED = [b"flying", b"running", b"", b"4900"], [b"flying", b"queued", b"", b"60000"]
RESEND = [b"resend", b"queued", b"", b"60000"]
LEASE_MS = Settings().lease_ms


class Watched:
    """A watch with what it noticed."""

    def __init__(self, *, leads: bool = False, launches: bool = False, away: tuple[bool, ...] = ()) -> None:
        self.seen: list[Sighting] = []
        # Whether the server was away before each answer.
        outages = iter(away)
        self.hand = Hand(
            watch(
                errand(),
                T1,
                leads=leads,
                noticed=self.seen.append,
                launches=launches,
                was_away=lambda: next(outages, False),
            )
        )


def looks_in_vain(hand: Hand) -> int:
    """Find nothing, every quarter of a second, until the flight is given up; how many looks that took."""
    looks = 0
    while not hand.is_done:
        hand.answer([b"gone"])
        looks += 1
        if not hand.is_done:
            assert Pause(T1, 0.25) == hand.now
            hand.answer(None)
    return looks


def argument(hand: Hand, name: str) -> Any:
    call = hand.call()
    return dict(zip((each for each, _ in SCRIPTS[call.name].args), call.args, strict=True))[name]


def test_a_wake_up_with_a_value_ends_it_without_a_round_trip() -> None:
    """What was heard is the ending."""
    hand = Watched().hand
    paused = hand.now
    hand.answer(b"value")

    assert (Pause(T1, 1.0), ["Pause"], b"value") == (paused, hand.names(), hand.result)


@pytest.mark.parametrize("heard", [None, b""])
def test_silence_and_an_empty_wake_up_mean_look(heard: bytes | None) -> None:
    """One look at the flight, once a second or when woken."""
    hand = Watched().hand.answer(heard)

    assert ("follow", KEY.around(T1), T1, "inbox-a") == (hand.call().name, hand.call().keys, *hand.call().args[:2])


@pytest.mark.parametrize("outcome", [b"", b"value", b"error:why"])
def test_an_outcome_ends_it(outcome: bytes) -> None:
    """Whatever the flight has left; empty means the entry."""
    assert outcome == Watched().hand.answer(None, [b"ended", outcome]).result


def test_a_running_flight_is_noticed_and_waited_for() -> None:
    """State and progress go to who shows them."""
    watched = Watched()
    watched.hand.answer(None, [b"flying", b"running", b"half", b"4900"])

    assert ([Sighting("running", b"half")], Pause(T1, 1.0)) == (watched.seen, watched.hand.now)


def test_a_flight_that_is_gone_has_a_grace() -> None:
    """For a quarter of a lease a living renewer may bring it back: asked every quarter of a second, then it is dead."""
    hand = Watched().hand.answer(None)

    assert (6, None) == (looks_in_vain(hand), hand.result)


@pytest.mark.parametrize(
    ("away", "looks"), [((), 6), ((True,), 11), ((False, False, True), 13), ((True, False, True), 13)]
)
def test_a_flight_that_is_gone_after_an_outage_has_a_longer_grace(away: tuple[bool, ...], looks: int) -> None:
    """Half a lease from the server's return: whoever computes could not renew meanwhile, nor store what is finished."""
    hand = Watched(away=away).hand.answer(None)

    assert (looks, None) == (looks_in_vain(hand), hand.result)


def test_a_lease_that_was_to_end_during_an_outage_is_not_taken_for_over() -> None:
    """The look at its end came too late to say so."""
    hand = Watched(away=(False, True)).hand.answer(None, overdue(300), None, [b"gone"])

    assert (False, Pause(T1, 0.25)) == (hand.is_done, hand.now)


def test_a_flight_that_came_back_after_an_outage_has_the_usual_grace() -> None:
    """Renewed since then, so what is known of it is new."""
    hand = Watched(away=(True, False)).hand.answer(None, RUNNING, None)

    assert (6, None) == (looks_in_vain(hand), hand.result)


def overdue(left_ms: int) -> list[bytes]:
    """A running flight that nobody renews."""
    return [b"flying", b"running", b"", str(left_ms).encode()]


def test_a_flight_that_nobody_renews_is_looked_at_when_its_lease_is_over() -> None:
    """Gone then, it is dead: there is nobody to bring it back, so no grace is given."""
    hand = Watched().hand.answer(None, overdue(700))
    paused = hand.now
    hand.answer(None, [b"gone"])

    assert (Pause(T1, 0.8), True, None) == (paused, hand.is_done, hand.result)


def test_its_last_look_but_one_is_not_late() -> None:
    """With more than a period left it is looked at in the middle, so that the last pause begins from what was seen."""
    hand = Watched().hand.answer(None, overdue(1_500))
    assert Pause(T1, 0.8) == hand.now
    hand.answer(None, [b"gone"])

    assert Pause(T1, 0.25) == hand.now


@pytest.mark.parametrize("left_ms", [LEASE_MS, 3_100, 2_500, -1])
def test_a_lease_that_is_far_from_its_end_changes_nothing(left_ms: int) -> None:
    """It is looked at once a period, and gone before its time it has its grace: a server may have lost it."""
    hand = Watched().hand.answer(None, overdue(left_ms))
    assert Pause(T1, 1.0) == hand.now
    hand.answer(None, [b"gone"])

    assert Pause(T1, 0.25) == hand.now


def test_a_short_lease_that_is_renewed_is_looked_at_as_seldom() -> None:
    """Of a lease of a second there is always less than a period left; what counts is how many renewals are missing."""
    brief = errand(settings=Settings(lease_ms=1_000))
    hand = Hand(watch(brief, T1, leads=False, noticed=lambda sighting: None, launches=False))
    hand.answer(None, overdue(800))

    assert Pause(T1, 1.0) == hand.now


def test_a_renewal_before_the_lease_is_over_saves_the_flight() -> None:
    """A worker that was held up: what was seen before counts no more."""
    hand = Watched().hand.answer(None, overdue(300), None, RUNNING)
    assert Pause(T1, 1.0) == hand.now
    hand.answer(None, [b"gone"])

    assert Pause(T1, 0.25) == hand.now


def test_a_wake_up_before_the_lease_is_over_proves_nothing() -> None:
    """Woken by a new connection, maybe to a server that came back empty, it has not seen the lease end."""
    hand = Watched().hand.answer(None, overdue(300), b"", [b"gone"])

    assert Pause(T1, 0.25) == hand.now


def test_a_flight_that_came_back_is_waited_for_as_before() -> None:
    """The grace begins anew the next time."""
    hand = Watched().hand.answer(None, [b"gone"], None, [b"gone"], None, RUNNING)
    assert Pause(T1, 1.0) == hand.now
    hand.answer(None)
    for _ in range(5):
        hand.answer([b"gone"], None)

    assert "follow" == hand.call().name


def test_the_leader_tells_once_that_its_message_was_sent() -> None:
    """At its first look; from then on the message is not overdue."""
    hand = Watched(leads=True, launches=True).hand.answer(None)
    first = argument(hand, "sent")
    hand.answer(RUNNING, None)

    assert (1, 0) == (first, argument(hand, "sent"))


def test_an_overdue_message_is_sent_again_under_the_same_token() -> None:
    """And at growing distance, so that a long queue is not doubled every minute."""
    hand = Watched(launches=True).hand.answer(None)
    first = argument(hand, "resend_ms")
    hand.answer(RESEND)
    launched = hand.now
    hand.answer(None, None, None)

    assert (Launch(T1), 60_000, 120_000) == (launched, first, argument(hand, "resend_ms"))


def test_the_distance_has_an_end() -> None:
    """Ten minutes at most."""
    hand = Watched(launches=True).hand
    for _ in range(10):
        # Look, send, ask Celery, wait.
        hand.answer(None, RESEND, None, None)
    hand.answer(None)

    assert 600_000 == argument(hand, "resend_ms")


def test_who_cannot_launch_does_not_try() -> None:
    """A waiter in another process, and everybody who waits for a `cached` function."""
    hand = Watched().hand.answer(None, RESEND)

    assert isinstance(hand.now, Pause)


def test_a_broker_that_is_away_does_not_end_the_wait() -> None:
    """The next turn comes, and the flight is still wanted."""
    hand = Watched(launches=True).hand.answer(None, RESEND)
    hand.fail(DispatchFailed("no broker"))

    assert isinstance(hand.now, Inquire)


def test_celery_is_asked_about_what_stays_queued() -> None:
    """An unknown task, a revoke or an expiry would never tell us; no reason means go on."""
    hand = Watched(launches=True).hand.answer(None, QUEUED)
    asked = hand.now
    hand.answer(None)

    assert (Inquire(T1), Pause(T1, 1.0)) == (asked, hand.now)


def test_celery_is_not_asked_about_what_runs() -> None:
    """Its lease answers for it."""
    assert isinstance(Watched(launches=True).hand.answer(None, RUNNING).now, Pause)


def test_a_message_that_is_missing_is_sent_again() -> None:
    """Purged, or gone with a worker that had taken it; sent under the same token, so that it costs no second run."""
    hand = Watched(launches=True).hand.answer(None, QUEUED, MessageMissing())

    assert Launch(T1) == hand.now
    assert Pause(T1, 1.0) == hand.fail(DispatchFailed("no broker")).now


def test_the_message_of_a_retry_is_not_missed() -> None:
    """It waits in its worker for its time, and sent again it would come too early."""
    hand = Watched(launches=True).hand.answer(None, [b"flying", b"retrying", b"", b"500"], MessageMissing())

    assert Pause(T1, 1.0) == hand.now


def test_what_was_given_back_and_sent_again_may_be_missing_too() -> None:
    """A dying worker swallowed what a waiter had sent; once it runs, the next message is a retry's own again."""
    given_back, resend = [b"flying", b"retrying", b"", b"500"], [b"resend", b"retrying", b"", b"500"]
    hand = Watched(launches=True).hand.answer(None, resend, None, None, None, given_back, MessageMissing())
    launched = hand.now
    hand.answer(None, None, RUNNING, None, given_back, MessageMissing())

    assert (Launch(T1), Pause(T1, 1.0)) == (launched, hand.now)


def test_a_reason_ends_the_flight_for_everybody() -> None:
    """Published as the owner of nothing; it comes back to this waiter like to the others."""
    hand = Watched(launches=True).hand.answer(None, QUEUED, UnknownTask("not known there"))

    assert ("publish", "", b"error:not known there", 0) == (
        hand.call().name,
        argument(hand, "owner"),
        argument(hand, "envelope"),
        argument(hand, "ttl_ms"),
    )
    hand.answer(b"delivered", b"", [b"ended", b"error:not known there"])
    assert b"error:not known there" == hand.result


# Waiting for what somebody else began, without starting anything


def attending() -> Hand:
    """One who attends the flight of T1, and is noted."""
    return Hand(attend(errand(), T1)).answer([b"flying", b"queued", b"", b"59000"])


def test_attending_gives_what_is_delivered() -> None:
    """Always as joined."""
    hand = attending()
    waited = hand.now
    hand.answer(entry("value"))

    assert (Wait(T1, False), Landing("value", None, 0, "joined")) == (waited, hand.result)


def test_attending_is_noted_before_the_first_look() -> None:
    """Else whoever leaves as the last one that is known would end what has not begun; it takes nobody's turn to send."""
    hand = Hand(attend(errand(), T1))

    assert ("follow", "inbox-a", -1) == (hand.call().name, argument(hand, "inbox"), argument(hand, "sent"))


def test_attending_looks_at_the_entry() -> None:
    """When the wake-up was empty, or the flight was over before."""
    for ending in (b"", None):
        hand = attending().answer(ending, [entry("value"), NEW])
        assert "value" == hand.result.value


@pytest.mark.parametrize("found", [[None, NEW], [entry("value", OLD), NEW], [entry("value"), None]])
def test_attending_starts_nothing(found: list[bytes | None]) -> None:
    """Over and not stored: an error that says to call again."""
    hand = attending().answer(None)
    with pytest.raises(ComputationLost, match="Call the function again"):
        hand.answer(found)
