"""This is where we see who leads: elect.lua."""

from __future__ import annotations

from taskcache.protocol.entry import EntryKey
from tests.lua.flights import LEASE_MS, QUEUED_MS, RESEND_MS, S1, S2, T1, T2, T3, Flights, envelope


def now_ms(flights: Flights) -> int:
    seconds, micros = flights.client.time()
    return seconds * 1000 + micros // 1000


def test_the_first_leads_a_queued_flight(flights: Flights) -> None:
    """Without an owner a queue will run it: queued, no stamps yet, a time to send again, the lease given."""
    word, token, time_ms = flights.run("elect", lease_ms=QUEUED_MS, inbox="inbox-a")
    flight = flights.flight()

    assert ("lead", T1) == (word, token)
    assert abs(now_ms(flights) - int(time_ms)) < 5_000
    assert int(time_ms) + RESEND_MS == int(flight.pop("resend_at"))
    assert {"token": T1, "state": "queued", "w:inbox-a": "1"} == flight
    assert QUEUED_MS - 5_000 < flights.lease_ms() <= QUEUED_MS


def test_the_first_leads_a_flight_of_its_own(flights: Flights) -> None:
    """With an owner it runs at once, under the stamps that were read before."""
    word, token, _ = flights.run("elect", owner="me")

    assert ("lead", T1) == (word, token)
    assert {"token": T1, "state": "running", "owner": "me", "stamps": S1.decode()} == flights.flight()
    assert 0 < flights.lease_ms() <= LEASE_MS


def test_the_next_one_follows_a_queued_flight_whatever_its_stamps(flights: Flights) -> None:
    """It has not begun, so it will compute after every invalidation up to now."""
    flights.run("elect")

    assert ["follow", T1] == flights.run("elect", token=T2, stamps=S2, inbox="inbox-b")
    assert "1" == flights.flight()["w:inbox-b"]


def test_equal_stamps_follow_a_running_flight(flights: Flights) -> None:
    """Nothing was invalidated since it began."""
    flights.run("elect", owner="me")

    assert ["follow", T1] == flights.run("elect", token=T2, owner="you", inbox="inbox-b")


def test_other_stamps_are_told_first_that_the_flight_is_outdated(flights: Flights) -> None:
    """Theirs may be the older ones: nothing changes until they have read again."""
    flights.run("elect", owner="me")
    before = flights.flight()

    assert ["outdated", T1] == flights.run("elect", token=T2, owner="you", stamps=S2)
    assert (before, {}) == (flights.flight(), flights.flight(T1))


def test_who_has_read_again_displaces_an_outdated_flight(flights: Flights) -> None:
    """It goes on as retired, with its lease and its waiters."""
    flights.run("elect", owner="me", inbox="inbox-a")
    word, token, _ = flights.run("elect", token=T2, owner="you", stamps=S2, outdated=T1)

    assert ("lead", T2) == (word, token)
    assert {"token": T1, "state": "running", "owner": "me", "stamps": S1.decode(), "w:inbox-a": "1"} == flights.flight(
        T1
    )
    assert (T2, True) == (flights.flight()["token"], 0 < flights.lease_ms(T1) <= LEASE_MS)


def test_a_flight_that_is_not_the_one_seen_is_not_displaced(flights: Flights) -> None:
    """Between the two reads another one came: look at that one first."""
    flights.run("elect", owner="me")
    flights.run("elect", token=T2, owner="you", stamps=S2, outdated=T1)

    assert ["outdated", T2] == flights.run("elect", token=T3, owner="they", outdated=T1)
    assert T2 == flights.flight()["token"]


def test_a_forgotten_flight_is_outdated_for_everybody(flights: Flights) -> None:
    """Stamps of nobody equal nobody's."""
    flights.run("elect", owner="me")
    flights.run("forget", envelope=b"")

    assert ["outdated", T1] == flights.run("elect", token=T2, owner="you")


def test_an_entry_that_was_not_seen_ends_the_election(flights: Flights) -> None:
    """A value that came since the read is looked at before anything is begun."""
    flights.client.set(flights.key.entry, envelope(T1), px=30_000)

    assert ["hit", envelope(T1)] == flights.run("elect", token=T2)
    assert {} == flights.flight()


def test_an_entry_that_was_seen_does_not_count(flights: Flights) -> None:
    """It was judged already: invalid, or stale."""
    flights.client.set(flights.key.entry, envelope(T1), px=30_000)

    assert "lead" == flights.run("elect", token=T2, seen=envelope(T1)[:18])[0]


def test_an_election_without_an_inbox_notes_nobody(flights: Flights) -> None:
    """Who refreshes in the background does not wait."""
    flights.run("elect")
    flights.run("elect", token=T2)

    assert [] == [field for field in flights.flight() if field.startswith("w:")]


def test_an_election_that_is_repeated_hears_the_same_again(flights: Flights) -> None:
    """A lost reply makes the client ask again: a token is elected once, and leads wherever its flight is now."""
    flights.run("elect", owner="me", inbox="inbox-a")
    before = flights.flight()
    while_live = flights.run("elect", owner="me", inbox="inbox-a")[:2]
    unchanged = flights.flight() == before
    flights.run("elect", token=T2, owner="you", stamps=S2, outdated=T1)
    while_retired = flights.run("elect", owner="me")[:2]
    flights.run("publish", owner="me")
    when_ended = flights.run("elect", owner="me")[:2]

    assert [["lead", T1]] * 3 == [while_live, while_retired, when_ended]
    assert (True, T2) == (unchanged, flights.flight()["token"])


def test_a_key_with_a_hash_tag_has_companions_of_its_own_form(flights: Flights) -> None:
    """They live in the slot of their key."""
    tagged = Flights(flights.client, EntryKey.of(b"cache:{user}:1"))
    tagged.run("elect", owner="me")

    assert [b"cache:{user}:1:flight"] == flights.client.keys("*")
