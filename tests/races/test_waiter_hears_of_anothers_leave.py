"""
This is where somebody who stayed heard that the call was cancelled, because a neighbour had left (H29).

C1 decides to leave; before the server hears of it, C2 of the same process elects and follows the same flight, under the
same inbox. The leave finds no other inbox and ends the flight as cancelled, and C2 hears that. Now who has not left takes
it as «gone» and asks again. So it does when the flight was running, and was revoked because its last waiter had left.
"""

from __future__ import annotations

import redis

from tests.races.explorer import tell
from tests.races.moves import Climate

LEAD = ("P0 asks for f:a", "C1: MGET", "C1: SET", "C1: elect", "C1 hears", "C1 launches")


def test_a_neighbour_of_one_inbox_gets_its_value(client: redis.Redis) -> None:
    """Who joins between the decision to leave and the leave itself is given a value."""
    join = ("C1 leaves", "P0 asks for f:a", "C2: MGET", "C2: elect", "C2 hears", "C1's leave: leave")

    broken, calls = tell(client, (*LEAD, *join), Climate(budget={"leave": 1}))

    assert (None, {"C1": "left", "C2": "a value"}) == (broken, calls)


def test_a_neighbour_of_one_inbox_gets_its_value_of_what_was_revoked(client: redis.Redis) -> None:
    """It computes anew, since the process that had it revoked is its own."""
    story = (
        *("P0 asks for f:a", "C2: MGET", "C2: elect", "C1 leaves", "C2 hears"),
        *("W0 takes message 1", "W0: MGET", "W0: PEXPIRE", "W0: claim", "C1's leave: leave"),
    )

    broken, calls = tell(client, (*LEAD, *story), Climate(revokes=True, budget={"leave": 1}))

    assert (None, {"C1": "left", "C2": "a value"}) == (broken, calls)


def test_a_waiter_whom_an_emptied_server_forgot_gets_its_value(client: redis.Redis) -> None:
    """A flight that came back without its inboxes is left by the only one it knows; the other one is served all the same."""
    story = (
        *("P1 asks for f:a", "C2: MGET", "C2: elect", "C2 hears"),
        *("W0 takes message 1", "W0: MGET", "W0: PEXPIRE", "W0: claim", "W0 renews"),
        *("the server is emptied", "W0 renews", "P0's watch of T1 looks", "P0's watch of T1: follow"),
        *("C1 leaves", "C1's leave: leave"),
    )

    broken, calls = tell(client, (*LEAD, *story), Climate(revokes=True, budget={"leave": 1, "empty": 1}))

    assert broken is None
    assert "left" == calls["C1"]
    assert "Cancelled" != calls["C2"]
