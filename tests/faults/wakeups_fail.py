"""This is where wake-ups are lost and their connection is cut, at every point of a flight."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.faults.scenario import Play, row
from tests.nodes.waiting import wait_until

# One watchdog period, and a moment for a machine that is busy.
LATE_S = 2.5


def _cut(play: Play, kind: str = "pubsub") -> None:
    with play.stage.cache.client() as cache:
        cache.client_kill_filter(_type=kind)


@contextmanager
def _never_subscribed(play: Play) -> Iterator[None]:
    """Cut every subscription as soon as it is made."""
    stop = threading.Event()

    def cut() -> None:
        with play.stage.cache.client() as cache:
            while not stop.is_set():
                cache.client_kill_filter(_type="pubsub")

    thread = threading.Thread(target=cut)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@row("wake-up connection cut while the message is queued", within_s=LATE_S)
def cut_queued(play: Play) -> None:
    """It is made again, and every wait is looked at. Times from the body's end."""
    play.alone()
    play.people()
    play.ask("held")
    play.dispatched()
    _cut(play)
    play.worker()
    play.begun()
    with play.fault():
        play.open()
    play.answered()


@row("wake-up connection cut while the body runs", within_s=LATE_S)
def cut_running(play: Play) -> None:
    """The same. Times from the body's end."""
    play.worker()
    play.ask("held")
    play.begun()
    _cut(play)
    with play.fault():
        play.open()
    play.answered()


@row("wake-up connection cut again and again from the begin to the end", within_s=LATE_S + 1)
def never_subscribed(play: Play) -> None:
    """Each new connection is a reason to look, and the watchdog finds the value at the latest. Times from the body's end."""
    play.worker()
    play.people()
    with _never_subscribed(play):
        play.ask("held")
        play.begun()
        with play.fault():
            play.open()
        play.answered()


@row("all client connections cut when the body ends, several times", within_s=LATE_S + 1)
def all_cut(play: Play) -> None:
    """Commands and subscription are made again. Times from the body's end."""
    play.worker()
    play.ask("held")
    play.begun()
    with play.fault():
        play.stage.cache_net.drop_all()
        play.open()
        play.stage.cache_net.drop_all()
    play.answered()


@row("pub/sub message lost", within_s=LATE_S)
def message_lost(play: Play) -> None:
    """Wake-ups are hints: the flight's outcome is found at the next look. Times from the body's end."""
    play.worker()
    for client in play.people():
        client.ask("lose_wake_ups()")
    play.ask("held")
    play.begun()
    with play.fault():
        play.open()
    play.answered()


@row("a value of 5 MB, cut off in the middle of its delivery", within_s=6)
def value_truncated(play: Play) -> None:
    """A reply that breaks off is asked for again. Times from the body's end."""
    play.worker()
    play.ask("sizeable")
    play.begun()
    with play.fault():
        play.stage.cache_net.truncate_after = 1_000_000
        play.open()
        wait_until(lambda: play.stage.cache_net.truncate_after == 0, "the cut", 20)
        play.stage.cache_net.truncate_after = None
    play.answered()
