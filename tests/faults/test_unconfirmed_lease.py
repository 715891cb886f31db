"""This is where a worker's main process asks early whether it holds a flight: what it knows it holds, it can bring back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis

from taskcache.drivers.renewer import FIRST_BEATS, Lease, Renewer
from taskcache.drivers.topology import Server
from taskcache.protocol.entry import EntryKey
from tests.nodes.waiting import wait_until

TOKEN = "00000000-0000-4000-8000-000000000001"
OWNER = "a worker"
# A beat of twelve seconds: what is confirmed before was asked for early.
LONG_MS = 60_000


class Flown:
    """A running flight on the server, its lease, and a renewer whose thread runs only when something is held."""

    def __init__(self, client: redis.Redis, server: Server, name: str) -> None:
        self.client, self.server = client, server
        self.key = EntryKey.of(f"{name}:key".encode())
        self.renewer = Renewer(lambda: server, LONG_MS, native=True)

    def runs(self, token: str = TOKEN) -> None:
        """Somebody has claimed it."""
        self.client.hset(self.key.flight, mapping={"token": token, "state": "running", "owner": OWNER, "stamps": "s"})
        self.client.pexpire(self.key.flight, LONG_MS)

    def lease(self, token: str = TOKEN) -> Lease:
        return Lease(self.key, token, OWNER)

    def known(self, lease: Lease) -> Lease:
        """Let the renewer know a lease, and start no thread: it beats when it is told to."""
        self.renewer._runs = True
        return self.renewer.hold(lease)

    def scripts_run(self) -> int:
        return int(self.client.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0))


@contextmanager
def flown(client: redis.Redis, redis_url: str, name: str) -> Iterator[Flown]:
    server = Server(redis_url)
    try:
        yield Flown(client, server, name)
    finally:
        server.close()


def test_a_claim_is_confirmed_long_before_the_next_beat(client: redis.Redis, redis_url: str, cache_name: str) -> None:
    """The first one, and one that begins while another is held already."""
    with flown(client, redis_url, cache_name) as found:
        for token in (TOKEN, TOKEN.replace("1", "2")):
            found.runs(token)
            lease = found.renewer.hold(found.lease(token))
            wait_until(lambda held=lease: held.held, "the server's word", 6)  # type: ignore[misc]
        for lease in list(found.renewer._leases.values()):
            found.renewer.drop(lease)

    assert lease.held


def test_a_claim_that_takes_its_time_is_confirmed_too(client: redis.Redis, redis_url: str, cache_name: str) -> None:
    """The child claims after the main process has begun to ask."""
    with flown(client, redis_url, cache_name) as found:
        lease = found.known(found.lease())
        found.renewer.beat(found.server, is_first=True)
        before = lease.held
        found.runs()
        found.renewer.beat(found.server, is_first=True)

    assert (False, True) == (before, lease.held)


def test_what_is_confirmed_survives_an_emptied_server(client: redis.Redis, redis_url: str, cache_name: str) -> None:
    """It comes back for those who wait for it."""
    with flown(client, redis_url, cache_name) as found:
        found.runs()
        found.known(found.lease())
        found.renewer.beat(found.server, is_first=True)
        client.delete(found.key.flight)
        found.renewer.beat(found.server)

    assert b"running" == client.hget(found.key.retired(TOKEN), "state")


@pytest.mark.own_server
def test_what_nobody_claims_is_asked_about_a_few_times(client: redis.Redis, redis_url: str, cache_name: str) -> None:
    """A message that was delivered twice: its second owner never holds the flight."""
    with flown(client, redis_url, cache_name) as found:
        lease = found.known(found.lease())
        before = found.scripts_run()
        for _ in range(3 * FIRST_BEATS):
            found.renewer.beat(found.server, is_first=True)
        asked = found.scripts_run() - before

    # The server does not know the script before the first time, and is asked again then.
    assert (FIRST_BEATS, False) == (lease.beats, lease.is_unconfirmed)
    assert FIRST_BEATS <= asked <= FIRST_BEATS + 1


@pytest.mark.own_server
def test_what_is_held_or_over_costs_nothing_between_two_beats(
    client: redis.Redis, redis_url: str, cache_name: str
) -> None:
    """Ten thousand long tasks are renewed once a beat, as ever; a task that ended at once is forgotten unasked."""
    with flown(client, redis_url, cache_name) as found:
        found.runs()
        held = found.known(found.lease())
        found.renewer.beat(found.server)
        over = found.known(Lease(found.key, TOKEN.replace("1", "2"), OWNER, is_wanted=lambda: False))
        before = found.scripts_run()
        found.renewer.beat(found.server, is_first=True)
        asked = found.scripts_run() - before

    assert (True, 0, 0) == (held.held, over.beats, asked)
    assert found.renewer.find(over.token, OWNER) is None
