"""
This is where leaving a `cached` computation kept its value from being stored (H30).

C0 led T1 and computed it, and waited for nothing, so it had left no inbox. C1 followed and left again as the last one the
flight knew of: nobody new was to join what nobody waited for, and the value of C0 was not stored. Now leaders have their
own inbox in their flight, too.
"""

from __future__ import annotations

import redis

from taskcache.errors import Cancelled
from taskcache.protocol.flight import Lead, depart, end, obtain
from taskcache.protocol.steps import Wait
from tests.races.fleet import Fleet
from tests.races.moves import Climate
from tests.races.stories import done


def test_the_value_of_the_leader_is_stored(client: redis.Redis) -> None:
    """The leave finds that the leader is still there, and the leader's value is stored."""
    fleet = Fleet(client, Climate())
    leader, follower = fleet.errand("f:a", "C0", "owner of C0"), fleet.errand("f:a", "C1", "owner of C1")
    led = done(fleet, obtain(leader))
    assert isinstance(led, Lead)
    assert Wait(led.token, False) == done(fleet, obtain(follower))

    left = done(fleet, depart(follower, led.token, envelope=follower.failure(Cancelled(), led.token)))
    ended = done(fleet, end(leader, led.token, owner="owner of C0", envelope=b"value", ttl_ms=30_000, is_error=False))

    fleet.close()
    assert ("others", "stored") == (left, ended)
