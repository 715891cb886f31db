"""This is where we see who computes: claim.lua and release.lua."""

from __future__ import annotations

from typing import Any

import pytest

from tests.lua.flights import LEASE_MS, QUEUED_MS, S1, S2, T1, T2, Flights


def test_a_queued_flight_is_claimed_once(flights: Flights) -> None:
    """The first one runs it under its stamps; the second hears how long the lease has left."""
    flights.run("elect", lease_ms=QUEUED_MS)
    word, stamps, time_ms = flights.run("claim", owner="worker")
    taken, left_ms = flights.run("claim", owner="other", stamps=S2)
    flight = flights.flight()

    assert ("run", S1.decode(), "taken") == (word, stamps, taken)
    assert ("running", "worker", S1.decode(), time_ms) == tuple(
        flight[field] for field in ("state", "owner", "stamps", "started_ms")
    )
    assert 0 < int(left_ms) <= LEASE_MS
    assert 0 < flights.lease_ms() <= LEASE_MS


def test_claiming_again_is_the_same_claim(flights: Flights) -> None:
    """A lost reply is asked for again; the stamps of the first claim win."""
    flights.run("elect")
    flights.run("claim", owner="worker")

    assert ["run", S1.decode()] == flights.run("claim", owner="worker", stamps=S2)[:2]


def test_a_flight_that_ended_is_not_run(flights: Flights) -> None:
    """The message is late or came twice."""
    flights.run("elect")
    flights.run("claim", owner="worker")
    flights.run("publish", owner="worker")

    assert ["ended"] == flights.run("claim", owner="other")


def test_a_flight_that_is_not_there_is_gone(flights: Flights) -> None:
    """Nobody wants it any more, or the server lost it."""
    assert ["gone"] == flights.run("claim", owner="worker")


def test_a_flight_whose_place_is_taken_is_superseded(flights: Flights) -> None:
    """Another flight of this key is current, and this one is nowhere."""
    flights.run("elect", token=T2)

    assert ["superseded"] == flights.run("claim", token=T1, owner="worker")


def test_a_retired_flight_can_be_claimed_again(flights: Flights) -> None:
    """It was displaced while it waited for its retry; its old waiters still want it."""
    flights.run("elect")
    flights.run("claim", owner="worker")
    flights.run("release", owner="worker")
    flights.run("elect", token=T2, stamps=S2, outdated=T1)

    assert ["run", S1.decode()] == flights.run("claim", owner="again", stamps=S2)[:2]
    assert ("again", T2) == (flights.flight(T1)["owner"], flights.flight()["token"])


def test_a_released_flight_waits_for_its_time(flights: Flights) -> None:
    """A retry in ten seconds: a waiter may not compute it before, its own message may."""
    flights.run("elect")
    flights.run("claim", owner="worker")
    released = flights.run("release", owner="worker", in_ms=10_000)
    early, left_ms = flights.run("claim", owner="waiter", inline=1)

    assert ("released", "retrying", "worker") == (released, flights.flight()["state"], flights.flight()["owner"])
    assert ("early", True) == (early, 5_000 < int(left_ms) <= 10_000)
    assert QUEUED_MS < flights.lease_ms() <= QUEUED_MS + 10_000
    assert "run" == flights.run("claim", owner="second try")[0]


def test_a_retry_whose_time_has_come_may_be_run_by_a_waiter(flights: Flights) -> None:
    """Else a pool of one would wait for its own message."""
    flights.run("elect")
    flights.run("claim", owner="worker")
    flights.run("release", owner="worker", in_ms=0)

    assert "run" == flights.run("claim", owner="waiter", inline=1)[0]


def test_a_second_attempt_keeps_the_stamps_of_the_first(flights: Flights) -> None:
    """Its arguments may come from work that was done before an invalidation."""
    flights.run("elect")
    flights.run("claim", owner="worker")
    flights.run("release", owner="worker")

    assert ["run", S1.decode()] == flights.run("claim", owner="second try", stamps=S2)[:2]


def test_a_forgotten_flight_stays_forgotten_in_its_second_attempt(flights: Flights) -> None:
    """Stamps of nobody are not given new ones by a retry."""
    flights.run("elect")
    flights.run("claim", owner="worker")
    flights.run("forget", envelope=b"")
    flights.run("release", owner="worker")

    assert ["run", ""] == flights.run("claim", owner="second try")[:2]


def test_only_the_owner_releases(flights: Flights) -> None:
    """A zombie gives nothing back."""
    flights.run("elect")
    flights.run("claim", owner="worker")

    assert ("refused", "running") == (flights.run("release", owner="zombie"), flights.flight()["state"])
    assert "refused" == flights.run("release", token=T2, owner="worker")


def test_releasing_nothing_is_refused(flights: Flights) -> None:
    """A flight that is gone is not brought back by its retry."""
    assert ("refused", {}) == (flights.run("release", owner="worker"), flights.flight())


def test_a_claim_reads_the_stamps_beside_it(flights: Flights) -> None:
    """Where one script reaches them, they are read at the moment of the claim."""
    flights.client.set("fn", S1, ex=60)
    flights.client.set("tag", S2, ex=60)
    flights.run("elect")

    assert ["run", (S1 + S2).decode()] == flights.run("claim", owner="worker", stamps=b"", beside=("fn", "tag"))[:2]
    assert (S1 + S2).decode() == flights.flight()["stamps"]


@pytest.mark.parametrize("written", [None, b"short", b"of thirteen b", ["a list"]])
def test_a_claim_without_its_stamps_begins_nothing(flights: Flights, written: Any) -> None:
    """One is missing, or nobody of us wrote it: the claim says so and leaves the flight as it was."""
    flights.client.set("fn", S1, ex=60)
    if isinstance(written, list):
        flights.client.rpush("tag", *written)
        flights.client.expire("tag", 60)
    elif written is not None:
        flights.client.set("tag", written, ex=60)
    flights.run("elect", lease_ms=QUEUED_MS)

    assert ["unstamped"] == flights.run("claim", owner="worker", stamps=b"", beside=("fn", "tag"))
    assert "queued" == flights.flight()["state"]
    assert "run" == flights.run("claim", owner="worker", stamps=S1 + S2)[0]


def test_a_retry_begins_no_flight(flights: Flights) -> None:
    """A failover lost what the first attempt claimed, and who forgot the key since left a flight alone that had not begun."""
    flights.run("elect")
    refused = flights.run("claim", owner="worker", again=1)
    first = flights.run("claim", owner="worker")[0]
    flights.run("release", owner="worker")

    assert (["gone"], "run") == (refused, first)
    assert ["run", S1.decode()] == flights.run("claim", owner="another", again=1, stamps=S2)[:2]
