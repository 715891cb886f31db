"""This is where we see a lease kept alive, and a lost flight come back for its old waiters only: renew.lua."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import redis

from tests.lua.flights import LEASE_MS, S2, T1, T2, Flights
from tests.nodes.server import ValkeyNode


def running(flights: Flights) -> Flights:
    flights.run("elect", owner="me", inbox="inbox-a")
    return flights


def test_the_owner_extends_its_lease(flights: Flights) -> None:
    """Live, with a full lease again."""
    running(flights).client.pexpire(flights.key.flight, 500)

    assert "live" == flights.run("renew", owner="me")
    assert 500 < flights.lease_ms() <= LEASE_MS


def test_progress_is_published_with_it(flights: Flights) -> None:
    """What is told stays until something else is told."""
    running(flights)
    flights.run("renew", owner="me", progress="half")
    flights.run("renew", owner="me")

    assert "half" == flights.flight()["progress"]


def test_a_full_server_extends_a_lease_with_progress(start_valkey: Callable[..., ValkeyNode]) -> None:
    """What is told of a computation must not cost it its flight."""
    with start_valkey(config=["maxmemory-policy noeviction"]).client() as client:
        flights = running(Flights(client))
        client.pexpire(flights.key.flight, 500)
        client.config_set("maxmemory", 1)
        with suppress(redis.OutOfMemoryError):
            flights.run("renew", owner="me", progress="half")
        left_ms = flights.lease_ms()
        client.config_set("maxmemory", 0)

    assert 500 < left_ms <= LEASE_MS


def test_a_displaced_flight_is_renewed_where_it_is(flights: Flights) -> None:
    """Retired: its value will be delivered and not stored."""
    running(flights)
    flights.run("elect", token=T2, owner="you", stamps=S2, outdated=T1)

    assert ("retired", T2) == (flights.run("renew", owner="me"), flights.flight()["token"])


def test_somebody_elses_lease_is_not_extended(flights: Flights) -> None:
    """Unowned: before the claim that is normal, afterwards it means the claim was lost."""
    flights.run("elect")
    queued = flights.run("renew", owner="me")
    flights.run("claim", owner="other")

    assert ("unowned", "unowned", "other") == (
        queued,
        flights.run("renew", owner="me", held=1),
        flights.flight()["owner"],
    )


def test_an_ended_flight_is_not_brought_back(flights: Flights) -> None:
    """A renewal that comes after the publish makes no ghost."""
    running(flights).run("publish", owner="me")

    assert ("ended", {}, {}) == (flights.run("renew", owner="me", held=1), flights.flight(), flights.flight(T1))


def test_what_was_never_held_is_gone(flights: Flights) -> None:
    """An unclaimed flight is not asserted by the main process of a worker."""
    assert ("gone", {}) == (flights.run("renew", owner="me", held=0), flights.flight(T1))


def test_what_was_held_is_asserted_as_retired(flights: Flights) -> None:
    """The server lost it under its holder: old waiters get the value, nobody new joins, nothing is stored."""
    running(flights).lose(flights.key.flight)

    assert ("asserted", {}) == (flights.run("renew", owner="me", held=1), flights.flight())
    assert {"token": T1, "state": "running", "owner": "me", "stamps": ""} == flights.flight(T1)
    assert 0 < flights.lease_ms(T1) <= LEASE_MS
    assert "lead" == flights.run("elect", token=T2, owner="you")[0]
    assert ("retired", "delivered") == (flights.run("renew", owner="me", held=1), flights.run("publish", owner="me"))
