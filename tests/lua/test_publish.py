"""This is where we see a flight end: publish.lua."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from tests.lua.flights import LINGER_MS, S2, T1, T2, TTL_MS, Flights, envelope


@pytest.fixture
def inbox(client: redis.Redis) -> Iterator[Any]:
    """What one waiting process hears."""
    connection: Any = client
    with connection.pubsub(ignore_subscribe_messages=True) as subscription:
        subscription.subscribe("inbox-a")
        subscription.get_message(timeout=5)
        yield lambda: (subscription.get_message(timeout=5) or {}).get("data")


def test_a_value_is_stored_and_its_flight_is_over(flights: Flights, inbox: Any) -> None:
    """Entry with its lifetime, an outcome that says «look at the entry», a wake-up with the value."""
    flights.run("elect", owner="me", inbox="inbox-a")

    assert "stored" == flights.run("publish", owner="me")
    assert (envelope(T1), b"", {}) == (flights.entry(), flights.outcome(), flights.flight())
    assert TTL_MS - 5_000 < flights.client.pttl(flights.key.entry) <= TTL_MS
    assert 0 < flights.client.pttl(flights.key.outcome(T1)) <= LINGER_MS
    assert T1.encode() + envelope(T1) == inbox()


@pytest.mark.keeps_forever
def test_a_value_for_ever_has_no_lifetime(flights: Flights) -> None:
    """-1 ms."""
    flights.run("elect", owner="me")

    assert ("stored", -1) == (flights.run("publish", owner="me", ttl_ms=-1), flights.client.pttl(flights.key.entry))
    assert b"" == flights.outcome()


def test_a_short_lived_value_stays_as_outcome(flights: Flights) -> None:
    """An entry that may be gone before the last watchdog looks cannot be what waiters are pointed to."""
    flights.run("elect", owner="me")

    assert ("stored", envelope(T1)) == (flights.run("publish", owner="me", ttl_ms=10_000), flights.outcome())


def test_no_time_delivers_without_storing(flights: Flights, inbox: Any) -> None:
    """An error, a declined value, timeout=0."""
    flights.run("elect", owner="me", inbox="inbox-a")

    assert ("delivered", None) == (flights.run("publish", owner="me", ttl_ms=0), flights.entry())
    assert (envelope(T1), {}) == (flights.outcome(), flights.flight())
    assert T1.encode() + envelope(T1) == inbox()


def test_an_outdated_value_is_delivered_to_its_old_waiters(flights: Flights, inbox: Any) -> None:
    """Forgotten meanwhile: whoever waits gets it, nobody finds it."""
    flights.run("elect", owner="me", inbox="inbox-a")
    flights.run("forget", envelope=b"")

    assert ("delivered", None, envelope(T1)) == (flights.run("publish", owner="me"), flights.entry(), flights.outcome())
    assert T1.encode() + envelope(T1) == inbox()


def test_a_retired_flight_delivers_beside_its_successor(flights: Flights) -> None:
    """The successor stays, and its value is the one that is stored, whoever ends first."""
    flights.run("elect", owner="me")
    flights.run("elect", token=T2, owner="you", stamps=S2, outdated=T1)

    assert ("delivered", T2, {}) == (flights.run("publish", owner="me"), flights.flight()["token"], flights.flight(T1))
    assert "stored" == flights.run("publish", token=T2, owner="you")
    assert envelope(T2) == flights.entry()


def test_a_retired_value_does_not_overwrite_its_successors(flights: Flights) -> None:
    """The other order."""
    flights.run("elect", owner="me")
    flights.run("elect", token=T2, owner="you", stamps=S2, outdated=T1)
    flights.run("publish", token=T2, owner="you")

    assert ("delivered", envelope(T2)) == (flights.run("publish", owner="me"), flights.entry())


def test_only_the_owner_publishes(flights: Flights) -> None:
    """A zombie's late write is refused and leaves no trace."""
    flights.run("elect", owner="me")

    assert "refused" == flights.run("publish", owner="zombie")
    assert (None, None, "me") == (flights.entry(), flights.outcome(), flights.flight()["owner"])


def test_a_claimed_flight_is_not_failed_by_who_has_no_claim(flights: Flights) -> None:
    """An empty owner ends what nobody has begun, and nothing else."""
    flights.run("elect")
    flights.run("claim", owner="worker")

    assert ("refused", None) == (flights.run("publish", owner="", ttl_ms=0), flights.outcome())


def test_an_unclaimed_flight_is_failed_without_an_owner(flights: Flights) -> None:
    """The message could not be sent: those who wait are told."""
    flights.run("elect", inbox="inbox-a")

    assert ("delivered", envelope(T1), {}) == (
        flights.run("publish", owner="", ttl_ms=0),
        flights.outcome(),
        flights.flight(),
    )


def test_a_flight_that_waits_for_its_retry_is_failed_without_an_owner(flights: Flights) -> None:
    """Nobody computes it: a revoke or an expiry of the retry message ends it for those who wait."""
    flights.run("elect")
    flights.run("claim", owner="worker")
    flights.run("release", owner="worker", in_ms=10_000)

    assert ("delivered", envelope(T1)) == (flights.run("publish", owner="", ttl_ms=0), flights.outcome())


def test_a_second_publish_is_told_that_it_ended(flights: Flights) -> None:
    """A lost reply is asked for again; nothing is written twice."""
    flights.run("elect", owner="me")
    flights.run("publish", owner="me")

    assert ("ended", envelope(T1)) == (
        flights.run("publish", owner="me", envelope=envelope(T1, b"other")),
        flights.entry(),
    )


def test_a_value_whose_flight_is_gone_is_kept_for_those_who_followed(flights: Flights) -> None:
    """Emptied server, lapsed lease: nothing is stored, since a forget may be lost with the flight."""
    flights.run("elect", owner="me")
    flights.lose(flights.key.flight)

    assert ("kept", None, envelope(T1)) == (flights.run("publish", owner="me"), flights.entry(), flights.outcome())


def test_a_kept_value_leaves_a_newer_flight_alone(flights: Flights) -> None:
    """Another flight has the place."""
    flights.run("elect", token=T2, owner="you")

    assert ("kept", T2, None) == (flights.run("publish", owner="me"), flights.flight()["token"], flights.entry())


def test_a_large_value_does_not_travel_with_the_wake_up(flights: Flights, inbox: Any) -> None:
    """Size × waiters above the limit: the wake-up is only «look»."""
    flights.run("elect", owner="me", inbox="inbox-a")
    flights.run("publish", owner="me", inline_bytes=10)

    assert T1.encode() == inbox()


@pytest.mark.parametrize(("waiters", "is_inline"), [(1, True), (2, True), (3, False)])
def test_a_wake_up_carries_what_its_waiters_have_room_for(
    flights: Flights, inbox: Any, waiters: int, is_inline: bool
) -> None:
    """The bound is for all inboxes together, and for nothing else that the flight holds."""
    for number in range(waiters):
        flights.run("elect", token=T2 if number else T1, inbox=f"inbox-{'abc'[number]}")
    flights.run("claim", owner="me")
    value = envelope(T1, b"v" * 500)
    flights.run("publish", owner="me", envelope=value, inline_bytes=2 * len(value))

    assert T1.encode() + (value if is_inline else b"") == inbox()
