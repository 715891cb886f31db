"""This is where calls meet: clocks that differ, calls inside calls, and canvas."""

from __future__ import annotations

import os
import time
from datetime import datetime

from tests.faults.scenario import ALL, Play, row
from tests.faults.stage import Client
from tests.nodes.workers import REPOSITORY

# A `sitecustomize` in front of everything else: each module that imports `time` afterwards gets the wrong clock.
WRONG_CLOCK = os.pathsep.join([str(REPOSITORY / "tests/faults/clock"), str(REPOSITORY)])


def _nested(play: Play, function: str) -> None:
    play.alone()
    play.worker(concurrency=1)
    play.people()
    play.open()
    with play.fault():
        play.ask(function)
    play.answered()


@row("the worker's clock is an hour ahead", within_s=5, without_celery="its result has no lifetime to get wrong")
def clock_ahead(play: Play) -> None:
    """Times are the server's: the value is stored, fresh, and a hit for an hour-behind caller."""
    _clock(play, 3600)


@row("the worker's clock is an hour behind", within_s=5, without_celery="its result has no lifetime to get wrong")
def clock_behind(play: Play) -> None:
    """The same the other way round."""
    _clock(play, -3600)


@row("one caller's clock is an hour ahead, another's an hour behind", within_s=5, without_celery="as above")
def clocks_of_callers(play: Play) -> None:
    """They wait for one flight, and both find its value as young as it is."""
    play.worker()
    shifts = (3600, -3600)
    play.clients = [play.people(1, env={"FAULTS_CLOCK": str(shift)})[0] for shift in shifts]
    play.open()
    with play.fault():
        play.ask("held")
    play.answered()
    for client, shift in zip(play.clients, shifts, strict=True):
        assert abs(client.ask("app.time.time()") - time.time() - shift) < 60, "the caller's clock is right"
        _is_young(play, client)


def _clock(play: Play, seconds: int) -> None:
    play.alone()
    worker = play.worker(env={"FAULTS_CLOCK": str(seconds), "PYTHONPATH": WRONG_CLOCK})
    play.people()
    play.open()
    with play.fault():
        play.ask("held")
    play.answered()
    # Celery stamps its log with the clock it believes.
    stamped = [line[1:20] for line in worker.log().splitlines() if line.startswith("[20")]
    believed = datetime.strptime(stamped[-1], "%Y-%m-%d %H:%M:%S")
    assert abs((believed - datetime.now()).total_seconds() - seconds) < 60, "the worker's clock is right"
    _is_young(play, play.clients[0])


def _is_young(play: Play, client: Client) -> None:
    """The value is a hit, as old and as fresh as it is."""
    assert ["hit", True] == client.ask(
        f"(lambda r: [r.source, 0 <= r.age < 30 and 30 < r.expires_in <= 60])(app.held({play.name!r}))"
    )


@row("two calls deep in a worker with one slot", within_s=5, pools=ALL, without_celery="refuses to wait in a task")
def nested(play: Play) -> None:
    """A waiter inside a task computes what nobody has begun: it never waits for its own slot."""
    _nested(play, "tree")


@row("mutual recursion in a worker with one slot", within_s=5, without_celery="refuses to wait in a task")
def mutual(play: Play) -> None:
    """The same, through two functions that call each other."""
    _nested(play, "ping")


@row(
    "a call of the same key inside itself",
    at_most=2,
    at_least=2,
    within_s=5,
    pools=ALL,
    without_celery="refuses to wait in a task",
)
def recursive(play: Play) -> None:
    """It computes, unlocked and not stored, instead of waiting for itself."""
    _nested(play, "itself")


@row(
    "a chord of cached tasks, one of them a hit",
    at_most=3,
    at_least=3,
    within_s=10,
    pools=ALL,
    without_celery="is Celery's own",
)
def chord(play: Play) -> None:
    """Parts and body go through the cache and give the chord what it needs."""
    _chord(play, slots=2)


@row(
    "a chord of cached tasks in a worker with one slot",
    at_most=3,
    at_least=3,
    within_s=10,
    pools=ALL,
    without_celery="is Celery's own",
)
def chord_in_one_slot(play: Play) -> None:
    """No part waits for the slot of another."""
    _chord(play, slots=1)


def _chord(play: Play, slots: int) -> None:
    play.alone()
    play.worker(concurrency=slots)
    play.people()
    client = play.clients[0]
    assert 1 == client.ask(f"app.part({play.name!r}, 1)(timeout=30)")
    with play.fault():
        play.asked = [(client, int(client.ask(f"ask('chord', {play.name!r})")))]
    play.answered()
    assert f"{play.name} 6" == client.ask(f"answer({play.asked[0][1]})")[1]
