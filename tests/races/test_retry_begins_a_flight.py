"""
This is where a retry began a flight whose first claim a failover had lost, and stored what an invalidation had outdated (H32).

W0 claims T1, and the replica that takes over has not heard of it: there T1 waits for its worker. W0's body retries, with
arguments that hold work of its first attempt; somebody busts the key, which leaves a flight alone that has not begun, and
C2 joins it. The retry claims T1 with stamps of now: C2 got what began before the bust, and it was stored as valid. Now a
retry begins no flight, and T1 waits for a message that is none.
"""

from __future__ import annotations

import pytest
import redis
from celery.exceptions import Ignore

from taskcache.drivers import blocking
from taskcache.protocol.flight import obtain
from tests.races.explorer import tell
from tests.races.moves import Climate
from tests.races.stories import without
from tests.races.test_retry_whose_flight_is_gone import Late

STORY = (
    *("P0 asks for f:a", "C1: MGET", "C1: SET", "C1: elect", "C1 hears", "C1 launches", "W0 takes message 1"),
    *("the replica hears of no more writes", "W0: MGET", "W0: PEXPIRE", "W0: claim", "the replica takes over"),
    *("W0's body retries", "W0: release", "W0 sends its retry", "the main process of W0 hears"),
    *("I0 busts f:a", "I0 bust f:a: forget", "P1 asks for f:a", "C2: MGET", "C2: elect", "C2 hears"),
    *("W0 takes message 2", "W0: MGET", "W0: PEXPIRE", "W0: claim"),
)
CLIMATE = Climate(budget={"failover": 1, "retry": 1})


def test_a_retry_begins_no_flight(client: redis.Redis) -> None:
    """Both who wait get what a message of their own computes, after the bust."""
    broken, calls = tell(client, STORY, CLIMATE)

    assert (None, {"C1": "a value", "C2": "a value"}) == (broken, calls)


def test_a_retry_that_begins_one_is_missed(client: redis.Redis) -> None:
    """The story breaks an invariant when the rule is taken away."""
    broken, _ = tell(client, STORY, CLIMATE, without("claim", "again == 1", "false"))

    assert broken is not None
    assert broken.partition(":")[0] in ("I1", "I4")


@pytest.mark.parametrize(("retries", "as_sent"), [(0, False), (1, False), (1, True)])
def test_a_worker_knows_a_retry(
    redis_url: str, client: redis.Redis, cache_name: str, retries: int, as_sent: bool
) -> None:
    """
    The first attempt computes the flight that it finds queued; a retry runs no body, and leaves the flight as it is.

    A message that comes again because a process died is no retry: calls of it may never have begun.
    """
    runs: list[int] = []
    late = Late(redis_url, cache_name, retries, runs.append)
    late.delivery.header["as_sent"] = as_sent
    invocation, station = late.delivery.invocation, late.cache.station
    errand = invocation.errand(station, "")
    blocking.run_until_wait(obtain(errand, None, late.token), station.server, launch=lambda step: None)

    is_retry = bool(retries) and not as_sent
    if is_retry:
        with pytest.raises(Ignore):
            late.run()
    else:
        late.run()

    state = client.hget(invocation.place().flight, "state")
    assert (([], b"queued") if is_retry else ([1], None)) == (runs, state)
