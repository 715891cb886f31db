"""This is where we see waiters ask and go: follow.lua and leave.lua."""

from __future__ import annotations

import pytest

from tests.lua.flights import LEASE_MS, LINGER_MS, QUEUED_MS, S2, T1, T2, Flights, envelope


def test_a_running_flight_is_flying(flights: Flights) -> None:
    """Its state and its progress; who asks is noted, and the lease of a leader is not a waiter's to extend."""
    flights.run("elect", owner="me")
    flights.run("renew", owner="me", progress="half")
    flights.client.pexpire(flights.key.flight, 1_000)

    *told, left_ms = flights.run("follow", inbox="inbox-b")

    assert ["flying", "running", "half"] == told
    assert "1" == flights.flight()["w:inbox-b"]
    assert 0 < flights.lease_ms() <= int(left_ms) <= 1_000


def test_a_waiter_keeps_a_queued_flight_alive(flights: Flights) -> None:
    """Its lease means that somebody still wants it; it is never shortened."""
    flights.run("elect", lease_ms=LEASE_MS)
    told = flights.run("follow", inbox="inbox-b")
    extended = flights.lease_ms()
    flights.run("follow", inbox="inbox-b", queued_ms=1_000)

    assert LEASE_MS < extended <= int(told[3]) <= QUEUED_MS
    assert flights.lease_ms() > LEASE_MS


def test_the_leader_reports_that_the_message_was_sent(flights: Flights) -> None:
    """From then on it is sent again only after a long time."""
    flights.run("elect", resend_ms=0)

    assert ["flying", "queued", ""] == flights.run("follow", inbox="inbox-a", sent=1, resend_ms=60_000)[:3]
    assert ["flying", "queued", ""] == flights.run("follow", inbox="inbox-b")[:3]


def test_a_late_report_does_not_put_off_what_was_given_back(flights: Flights) -> None:
    """The message was sent, claimed and given back before the leader looked: the next one is due as its worker said."""
    flights.run("elect", resend_ms=0)
    flights.run("claim", owner="me")
    flights.run("release", owner="me", in_ms=0, resend_ms=0)

    assert "resend" == flights.run("follow", inbox="inbox-a", sent=1, resend_ms=60_000)[0]


def test_a_late_report_does_not_hasten_a_retry(flights: Flights) -> None:
    """Nothing is sent before the retry's own time."""
    flights.run("elect", resend_ms=0)
    flights.run("claim", owner="me")
    flights.run("release", owner="me", in_ms=60_000, resend_ms=5_000)
    before = flights.flight()["resend_at"]

    assert "flying" == flights.run("follow", inbox="inbox-a", sent=1, resend_ms=1_000)[0]
    assert before == flights.flight()["resend_at"]


def test_one_waiter_sends_an_overdue_message_again(flights: Flights) -> None:
    """The leader died before it was sent, or the broker lost it: exactly one of those who wait is told to send it."""
    flights.run("elect", resend_ms=0)
    told = [flights.run("follow", inbox=f"inbox-{number}")[0] for number in range(3)]

    assert ["resend", "flying", "flying"] == told


def test_an_ended_flight_gives_its_outcome(flights: Flights) -> None:
    """Empty means: look at the entry."""
    flights.run("elect", owner="me")
    flights.run("publish", owner="me")
    stored = flights.run("follow", inbox="inbox-b")
    flights.run("elect", token=T2, owner="you", seen=envelope(T1)[:18])
    flights.run("publish", token=T2, owner="you", ttl_ms=0)

    assert (["ended", ""], ["ended", envelope(T2)]) == (stored, flights.run("follow", token=T2, inbox="inbox-b"))


def test_a_flight_that_is_nowhere_is_gone(flights: Flights) -> None:
    """And asking does not make one."""
    assert (["gone"], []) == (flights.run("follow", inbox="inbox-b"), flights.client.keys("*"))


def test_a_retired_flight_is_followed_where_it_is(flights: Flights) -> None:
    """Whoever followed it once, follows it always."""
    flights.run("elect", owner="me")
    flights.run("elect", token=T2, owner="you", stamps=S2, outdated=T1)

    assert ["flying", "running", ""] == flights.run("follow", inbox="inbox-b")[:3]
    assert ("1", None) == (flights.flight(T1)["w:inbox-b"], flights.flight().get("w:inbox-b"))


def test_leaving_others_waiting(flights: Flights) -> None:
    """The flight goes on for them."""
    flights.run("elect", inbox="inbox-a")
    flights.run("elect", token=T2, inbox="inbox-b")

    assert ("others", "queued") == (flights.run("leave", inbox="inbox-b"), flights.flight()["state"])
    assert "w:inbox-b" not in flights.flight()


def test_the_last_one_ends_what_has_not_begun(flights: Flights) -> None:
    """Its late message finds it ended; who followed by chance hears that it was cancelled."""
    flights.run("elect", inbox="inbox-a")

    assert ("ended", {}) == (flights.run("leave", inbox="inbox-a"), flights.flight())
    assert (["ended"], ["ended", envelope(T1)]) == (
        flights.run("claim", owner="worker"),
        flights.run("follow", inbox="inbox-b"),
    )
    assert 0 < flights.client.pttl(flights.key.outcome(T1)) <= LINGER_MS


def test_the_last_one_leaves_a_running_flight_to_its_worker(flights: Flights) -> None:
    """Nobody new may join what is about to be revoked."""
    flights.run("elect", inbox="inbox-a")
    flights.run("claim", owner="worker")

    assert ("running", "") == (flights.run("leave", inbox="inbox-a"), flights.flight()["stamps"])
    assert ["outdated", T1] == flights.run("elect", token=T2)


def test_leaving_what_is_gone(flights: Flights) -> None:
    """Nothing to do, nothing left."""
    assert ("gone", []) == (flights.run("leave", inbox="inbox-a"), flights.client.keys("*"))


@pytest.mark.parametrize("name", ["follow", "leave"])
def test_an_ended_flight_is_not_touched(flights: Flights, name: str) -> None:
    """Neither asking nor leaving changes what was published."""
    flights.run("elect", owner="me", inbox="inbox-a")
    flights.run("publish", owner="me")
    flights.run(name, inbox="inbox-a")

    assert (envelope(T1), b"", {}) == (flights.entry(), flights.outcome(), flights.flight())
