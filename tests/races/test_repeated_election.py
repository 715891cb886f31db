"""
This is where an election came twice because its first reply was lost, and its token was elected twice (H26).

C1 elects T1 and never hears it. C2 follows T1, sends it, and a worker delivers its value without storing it. Now C1's
election comes again and finds nothing: it led T1 once more. After an invalidation C3 joined that queued T1, looked at
what T1 had to say, and found the outcome from before. Now a token that was elected, ended or retired is led, not elected.
"""

from __future__ import annotations

import redis

from tests.races.explorer import tell
from tests.races.moves import Climate
from tests.races.stories import without

STORY = (
    *("P0 asks for f:a", "C1: MGET", "C1: SET", "C1: elect, reply lost"),
    *("P1 asks for f:a", "C2: MGET", "C2: elect", "C2 hears"),
    *("time for {race:f:a}:flight to be sent again", "P1's watch of T1 looks", "P1's watch of T1: follow"),
    *("P1's watch of T1 launches", "W0 takes message 1", "W0: MGET", "W0: PEXPIRE", "W0: claim"),
    *("W0's body ends, zero", "W0: publish", "C1: elect", "C1 hears"),
    *("I0 busts f:a", "I0 bust f:a: forget"),
    *("P2 asks for f:a", "C3: MGET", "C3: elect", "C3 hears"),
)
CLIMATE = Climate(processes=3, budget={"lost_reply": 1})


def test_a_token_is_elected_once(client: redis.Redis) -> None:
    """The repeated election hears that it leads, nothing is queued anew, and the later caller gets a value of its own."""
    broken, calls = tell(client, STORY, CLIMATE)

    assert (None, {"C1": "a value", "C2": "a value", "C3": "a value"}) == (broken, calls)


def test_elected_twice_it_serves_what_was_invalidated(client: redis.Redis) -> None:
    """Without the look at its own token the same story gives C3 the value from before the invalidation."""
    elects_twice = without("elect", "live == token or redis.call('EXISTS', own_retired, own_outcome) > 0", "false")

    broken, _ = tell(client, STORY, CLIMATE, elects_twice)

    assert broken is not None
    assert broken.startswith("I1: C3 ")
