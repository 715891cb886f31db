"""
This is where a message that was lost was not sent again, because the turn to do so went to one who could not.

The random explorer found it (seed 178 of its first version): of those who follow a queued flight, the first to look after
`resend_at` is told to send the message again, and nobody else for a minute. A waiter by the id of a result starts nothing
and has no arguments, so it dropped its turn; when it happened to look first each time, the flight stayed queued for ever.
Now who cannot send takes no turn.
"""

from __future__ import annotations

import threading
from typing import Any

import redis
from msgspec.structs import replace

from taskcache.drivers.keeper import Keeper
from taskcache.drivers.topology import Server
from taskcache.protocol.flight import attend, obtain
from taskcache.protocol.steps import Call, Launch, Pause, Wait
from taskcache.protocol.watch import watch
from taskcache.settings import Settings
from tests.nodes.waiting import wait_until
from tests.races.explorer import tell
from tests.races.fleet import Fleet
from tests.races.moves import Climate
from tests.races.stories import done

KEY = "f:a"


def due(fleet: Fleet, wait: Wait) -> None:
    """Let the time come when a queued message is sent again."""
    flight = fleet.invocations[KEY].place().flight
    assert fleet.client.hget(flight, "token") == wait.token.encode()
    fleet.client.hset(flight, "resend_at", 0)


def looks(fleet: Fleet, inbox: str, wait: Wait, *, launches: bool) -> Any:
    """What a watch does after one look."""
    steps = watch(
        fleet.errand(KEY, inbox, ""), wait.token, leads=False, noticed=lambda sighting: None, launches=launches
    )
    assert isinstance(next(steps), Pause)
    call = steps.send(None)
    assert isinstance(call, Call)
    return steps.send(fleet.execute(call))


def test_who_cannot_send_leaves_the_turn_to_who_can(client: redis.Redis) -> None:
    """A poller looks first when the message is due, and a caller that looks next sends it."""
    fleet = Fleet(client, Climate())
    wait = done(fleet, obtain(fleet.errand(KEY, "caller", "")))
    due(fleet, wait)

    polled = looks(fleet, "poller", wait, launches=False)
    called = looks(fleet, "caller", wait, launches=True)

    fleet.close()
    assert (True, Launch(wait.token)) == (isinstance(polled, Pause), called)


def test_a_poller_and_a_lost_message(client: redis.Redis) -> None:
    """With a poller in another process, and the only copy of the message lost, both get the value."""
    story = (
        *("P1 asks for f:a", "C1: MGET", "C1: SET", "C1: elect", "C1 hears", "C1 launches"),
        *("P0 asks for T1 by its id", "message 1 is lost"),
    )

    broken, calls = tell(client, story, Climate(budget={"lose_message": 1}))

    assert (None, {"C1": "a value", "C2": "a value"}) == (broken, calls)


class Sends:
    """A launcher that counts what it was told to send."""

    def __init__(self) -> None:
        self.sent = threading.Event()

    def launch_beside(self, token: str) -> None:
        self.sent.set()

    def inquire(self, token: str) -> None:
        return None

    def note_served(self, token: str) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"a watch does not ask its launcher for {name}")


def test_a_caller_of_a_process_that_polls_already_can_send(client: redis.Redis, redis_url: str) -> None:
    """All who wait for a flight in one process share a watch; one that was begun by an id learns to send from a caller."""
    fleet = Fleet(client, Climate())
    wait = Wait(done(fleet, obtain(fleet.errand(KEY, "a caller that died", ""))).token, False)
    server = Server(redis_url)
    keeper, sends = Keeper(server, 1.0), Sends()
    heard: list[Any] = []
    # Here time does pass.
    errand = replace(fleet.errand(KEY, keeper.inbox(), ""), settings=Settings())
    assert wait == done(fleet, attend(errand, wait.token))
    keeper.follow(errand, wait, None, heard.append, lambda sighting: None)
    due(fleet, wait)

    keeper.follow(errand, wait, sends, heard.append, lambda sighting: None)

    try:
        assert sends.sent.wait(20), "nobody sends the message again"
        fleet.client.set(errand.key.outcome(wait.token), b"what it delivered", px=10_000)
        wait_until(lambda: len(heard) == 2, "both to hear of the end", 20)
        assert [b"what it delivered"] * 2 == heard
    finally:
        keeper.close()
        fleet.close()
        server.close()
