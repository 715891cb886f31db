"""This is where a flight that nobody renews is given up the moment its lease is over, and one that was lost is not."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from taskcache import Cache
from taskcache.calls.invocation import Invocation
from taskcache.protocol import scripts
from taskcache.protocol.flight import Ending
from taskcache.protocol.steps import Wait
from tests.nodes.server import ValkeyNode
from tests.nodes.waiting import wait_until

TOKEN = "00000000-0000-4000-8000-000000000001"
OWNER = "a worker"
# Three of five renewals are missing, so it is overdue at the first look, a period after the wait began.
LEFT_S = 2.2
LAST_MOMENT_MS = 300
# With less than a watchdog's period left, the next look is at the end.
LAST_LOOK_MS = 900


class Waiting:
    """Somebody waits for a running flight of another process, of whose lease `LEFT_S` are left."""

    def __init__(self, cache: Cache) -> None:
        station = cache.station
        errand = Invocation.of(cache.settings, cache.codec, "key", "f", (), 1000).errand(station, "")
        self.key, self.client, self.call = errand.key, station.server.client, station.server.call
        self.grace_s = errand.settings.lease_ms / 4000
        self.seen = threading.Event()
        self.over = threading.Event()
        self.endings: list[Ending | BaseException] = []
        self.client.hset(self.key.flight, mapping={"token": TOKEN, "state": "running", "owner": OWNER, "stamps": "s"})
        self.client.pexpire(self.key.flight, round(LEFT_S * 1000))
        self.began = time.monotonic()
        station.keeper.follow(errand, Wait(TOKEN, False), None, self._hear, lambda sighting: self.seen.set())

    def _hear(self, ending: Ending | BaseException) -> None:
        self.endings.append(ending)
        self.over.set()

    def looked(self) -> None:
        """Wait until a look has found the flight."""
        self.seen.clear()
        assert self.seen.wait(20)

    def scripts_run(self) -> int:
        """How many scripts the server has run."""
        return int(self.client.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0))

    def ends(self) -> None:
        """The flight ends with a value."""
        self.client.set(self.key.outcome(TOKEN), b"its value", px=10_000)
        assert self.over.wait(20)


@contextmanager
def waiting(redis_url: str, cache_name: str) -> Iterator[Waiting]:
    with Cache(redis_url, name=cache_name) as cache:
        yield Waiting(cache)


def test_a_flight_whose_lease_is_over_is_given_up_at_once(redis_url: str, cache_name: str) -> None:
    """Its renewals are missing since long, so nobody is waited for to bring it back."""
    with waiting(redis_url, cache_name) as found:
        assert found.over.wait(20)
        took = time.monotonic() - found.began

    assert [None] == found.endings
    assert LEFT_S < took < LEFT_S + found.grace_s


@pytest.mark.own_server
def test_a_flight_that_a_server_lost_is_brought_back_by_its_living_renewer(redis_url: str, cache_name: str) -> None:
    """Gone before its time it has its grace, in which the renewer asserts it; the waiter waits on."""
    with waiting(redis_url, cache_name) as found:
        found.looked()
        before = found.scripts_run()
        found.client.delete(found.key.flight)
        wait_until(lambda: found.scripts_run() > before, "a look that finds nothing", 20)
        renewal = scripts.renew(found.key.around(TOKEN), token=TOKEN, owner=OWNER, lease_ms=5_000, held=1, progress=b"")
        said = found.call(scripts.as_call(renewal))
        found.looked()
        found.ends()

    assert (b"asserted", [b"its value"]) == (said, found.endings)


def test_a_renewal_in_the_last_moment_saves_the_flight(redis_url: str, cache_name: str) -> None:
    """A worker that was held up for most of its lease goes on, and so does who waits for it."""
    with waiting(redis_url, cache_name) as found:
        found.looked()
        wait_until(lambda: found.client.pttl(found.key.flight) < LAST_MOMENT_MS, "the last moment", 20)
        found.client.pexpire(found.key.flight, 5_000)
        found.looked()
        found.ends()

    assert [b"its value"] == found.endings


def test_a_lease_that_ended_while_the_server_was_away_is_not_taken_for_over(
    start_valkey: Callable[..., ValkeyNode], cache_name: str
) -> None:
    """It lost the flight, and nobody could renew it: a finished value that is offered a moment later is everybody's."""
    node = start_valkey()
    with waiting(node.url(), cache_name) as found:
        # From here on the next look is the one at the end of the lease.
        while found.client.pttl(found.key.flight) > LAST_LOOK_MS:
            found.looked()
        node.kill()
        wait_until(lambda: time.monotonic() > found.began + LEFT_S + found.grace_s, "the lease to be over", 20)
        node.start()
        wait_until(lambda: found.scripts_run() > 1, "a look that finds nothing", 20)
        found.ends()

    assert [b"its value"] == found.endings
