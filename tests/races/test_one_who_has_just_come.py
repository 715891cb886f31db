"""
This is where a result that was found by its id heard «cancelled», because the one who called had gone away.

A server notes who waits with each look. Who came by an id, or joined, looked for the first time a second after it came; a
caller that left within that second was the last one that the server knew of, and ended the flight. A reader found it by
playing the web page of the guides: answer with the id, and let the browser ask. Now who comes is noted at once.
"""

from __future__ import annotations

import redis

from taskcache.protocol.flight import Errand, attend, depart, obtain
from taskcache.protocol.steps import Steps
from tests.races.fleet import Fleet
from tests.races.moves import Climate
from tests.races.stories import done

KEY = "f:a"


def test_a_caller_that_leaves_ends_nothing_that_is_asked_for_by_its_id(client: redis.Redis) -> None:
    """Only the last one does."""
    fleet = Fleet(client, Climate())
    caller, poller = fleet.errand(KEY, "caller", ""), fleet.errand(KEY, "poller", "")
    wait = done(fleet, obtain(caller))

    def leaving(errand: Errand) -> Steps[str]:
        return depart(errand, wait.token, envelope=b"cancelled")

    assert wait.token == done(fleet, attend(poller, wait.token)).token
    said = [done(fleet, leaving(caller)), fleet.client.exists(caller.key.flight)]
    said += [done(fleet, leaving(poller)), fleet.client.exists(caller.key.flight)]

    assert ["others", 1, "ended", 0] == said
    fleet.close()
