"""
This is where a message that makes its own flight (`.delay()`, a canvas) met another flight of its key.

It led one under a name that its main process did not know, after an election that had answered «outdated»: nobody renewed
that flight, and its value was not stored. And it followed one whose leader died, and failed with it, where a caller leads
the next.
"""

from __future__ import annotations

from typing import Any

import redis

from taskcache.calls.computing import new_owner
from taskcache.drivers import blocking
from taskcache.protocol.flight import obtain
from taskcache.worker.execution import _begin_direct
from tests.races.test_retry_whose_flight_is_gone import Late


def led(late: Late) -> None:
    """Have somebody else lead a flight of the same key, and be heard of no more."""
    invocation, station = late.delivery.invocation, late.cache.station
    blocking.run(obtain(invocation.errand(station, new_owner())), station.server)


def test_it_leads_under_the_name_that_its_main_process_knows(
    redis_url: str, client: redis.Redis, cache_name: str
) -> None:
    """Also beside a flight that was invalidated, which the first election answers with «outdated»."""
    seen: list[Any] = []

    def body(number: int) -> int:
        seen.append(client.hget(late.delivery.invocation.place().flight, "token"))
        return number

    late = Late(redis_url, cache_name, 0, body)
    late.delivery.header["direct"] = True
    led(late)
    late.function.bust(1)

    assert 1 == _begin_direct(late.delivery)
    assert [late.token.encode()] == seen
    assert 1 == late.function.peek(1).value
    late.cache.close()


def test_it_takes_over_from_a_leader_that_died(redis_url: str, client: redis.Redis, cache_name: str) -> None:
    """As who calls the function does: when the lease is over it computes, and its value is stored."""
    late = Late(redis_url, cache_name, 0, lambda number: number, lease=1)
    late.delivery.header["direct"] = True
    led(late)

    assert 1 == _begin_direct(late.delivery)
    assert 1 == late.function.peek(1).value
    late.cache.close()
