"""
This is where a revoked retry left its waiters without an end (H28).

W0 gives T1 back and sends its retry; T1 is revoked, so every worker discards the message and publishes the reason as
nobody. That was refused, because the flight still bore W0's name, although W0 was through with it. Now what nobody runs
can be failed by anybody.
"""

from __future__ import annotations

import redis

from taskcache.errors import Revoked
from taskcache.protocol.flight import begin, end, obtain, yield_back
from tests.races.fleet import Fleet
from tests.races.moves import Climate
from tests.races.stories import done

KEY = "f:a"


def fails_as_nobody(client: redis.Redis, *, gives_back: bool) -> str:
    """What the server says to a reason that comes from nobody."""
    fleet = Fleet(client, Climate())
    errand = fleet.errand(KEY, "caller", "")
    token = done(fleet, obtain(errand)).token
    done(fleet, begin(errand, token, owner="W0", inline=False))
    if gives_back:
        done(fleet, yield_back(errand, token, owner="W0", in_ms=1_000))
    said: str = done(fleet, end(errand, token, owner="", envelope=errand.failure(Revoked(), token), ttl_ms=0))
    fleet.close()
    return said


def test_a_flight_that_waits_for_its_retry_can_be_failed(client: redis.Redis) -> None:
    """The reason reaches those who wait."""
    assert "delivered" == fails_as_nobody(client, gives_back=True)


def test_a_flight_that_runs_cannot_be_failed_by_others(client: redis.Redis) -> None:
    """While its owner runs it, only the owner ends it."""
    assert "refused" == fails_as_nobody(client, gives_back=False)
