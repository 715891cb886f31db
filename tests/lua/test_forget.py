"""This is where we see an entry go, and the computation of it outdated: forget.lua."""

from __future__ import annotations

import pytest

from tests.lua.flights import S1, T1, T2, TTL_MS, Flights, envelope


def test_an_entry_is_removed(flights: Flights) -> None:
    """1 when it was there, else 0."""
    flights.client.set(flights.key.entry, envelope(T1), px=30_000)

    assert (1, 0, None) == (
        flights.run("forget", envelope=b""),
        flights.run("forget", envelope=b""),
        flights.entry(),
    )


def test_an_entry_is_replaced(flights: Flights) -> None:
    """Put: with the lifetime given."""
    assert (0, 1) == (flights.run("forget", envelope=b"one"), flights.run("forget", envelope=b"two"))
    assert (b"two", True) == (flights.entry(), TTL_MS - 5_000 < flights.client.pttl(flights.key.entry) <= TTL_MS)


@pytest.mark.keeps_forever
def test_an_entry_is_replaced_for_ever(flights: Flights) -> None:
    """-1 ms."""
    flights.run("forget", envelope=b"one", ttl_ms=-1)

    assert -1 == flights.client.pttl(flights.key.entry)


def test_a_running_flight_is_outdated_and_goes_on(flights: Flights) -> None:
    """It keeps its lease, its owner and its waiters, and has the stamps of nobody."""
    flights.run("elect", owner="me", inbox="inbox-a")
    lease_ms = flights.lease_ms()
    flights.run("forget", envelope=b"")

    assert {"token": T1, "state": "running", "owner": "me", "stamps": "", "w:inbox-a": "1"} == flights.flight()
    assert lease_ms - 2_000 < flights.lease_ms() <= lease_ms


def test_a_queued_flight_is_left_alone(flights: Flights) -> None:
    """It will compute after this: a bust under a full queue costs no second message."""
    flights.run("elect", inbox="inbox-a")
    before = flights.flight()
    flights.run("forget", envelope=b"")

    assert before == flights.flight()
    assert ["follow", T1] == flights.run("elect", token=T2)
    assert ["run", S1.decode()] == flights.run("claim", owner="worker")[:2]


def test_a_flight_that_waits_for_its_retry_is_outdated(flights: Flights) -> None:
    """It has begun once, so its next attempt counts as the older work."""
    flights.run("elect")
    flights.run("claim", owner="worker")
    flights.run("release", owner="worker")
    flights.run("forget", envelope=b"")

    assert "" == flights.flight()["stamps"]


def test_without_a_flight_none_is_made(flights: Flights) -> None:
    """Forgetting leaves no key behind."""
    flights.run("forget", envelope=b"")

    assert [] == flights.client.keys("*")


def test_a_put_survives_the_computation_it_overtook(flights: Flights) -> None:
    """The older computation ends later and does not overwrite it."""
    flights.run("elect", owner="me")
    flights.run("forget", envelope=b"put")

    assert ("delivered", b"put") == (flights.run("publish", owner="me"), flights.entry())
