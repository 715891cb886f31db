"""This is where workers die, hang, and hold on to the interpreter."""

from __future__ import annotations

import json
import os
import signal
import time
from functools import partial

from tests.faults.scenario import ALL, BRIEF_LEASE_S, HEARING, LEASE_S, LONG_LEASE_S, Play, row
from tests.faults.stage import BACKEND_DB, LONG_S
from tests.nodes.waiting import wait_until

TAKEOVER_S = LEASE_S + 2
AT_ONCE_S = 3.0


def _kill_worker(play: Play, function: str) -> None:
    victim = play.worker()
    play.ask(function)
    play.begun()
    play.worker(more=1)
    with play.fault():
        victim.kill()
    play.open()


@row("worker SIGKILLed while it computes, acks early", at_most=2, at_least=2, within_s=TAKEOVER_S, pools=ALL)
def worker_killed(play: Play) -> None:
    """Nobody renews the lease; when it is over, one waiter leads again and the other worker computes."""
    _kill_worker(play, "held")


@row("worker SIGKILLed while it computes, acks late", at_most=2, at_least=2, within_s=TAKEOVER_S, pools=ALL)
def worker_killed_late(play: Play) -> None:
    """The same: nothing waits for the broker to redeliver."""
    _kill_worker(play, "held_late")


@row("worker SIGKILLed with a message it had taken and not begun", within_s=14)
def worker_killed_before(play: Play) -> None:
    """The message is lost with it: its sender sees after ten seconds that the queue is empty, and sends it again."""
    play.alone()
    several = {"FAULTS_CONF": json.dumps({"worker_prefetch_multiplier": 4})}
    victim = play.worker(concurrency=1, env=several)
    play.people()
    play.occupy(victim, 1)
    play.ask("held")
    for id in play.task_ids():
        victim.wait_for_log(f"[{id}] received", timeout=LONG_S)
    play.worker(concurrency=1, env=several, more=1)
    play.leader_has_reported()
    with play.fault():
        victim.kill()
    play.open()
    play.vacate()
    play.answered(90)


_child_row = partial(
    row,
    sees="ComputationLost, with the signal",
    words=("ComputationLost",),
    within_s=AT_ONCE_S,
    lease_s=LONG_LEASE_S,
)


def _kill_child(play: Play, function: str) -> None:
    play.worker()
    play.ask(function)
    play.begun()
    # Before it has heard that a child has begun, the main process of Celery gives the message to another one.
    play.renewed()
    _kill(play)


def _kill(play: Play) -> None:
    victims = set(play.pids())
    with play.fault():
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
    play.open()


@_child_row("pool child SIGKILLed (out of memory), acks early")
def child_killed(play: Play) -> None:
    """The main process sees the child die and tells the flight; the lease, of 30 s here, is not waited out."""
    _kill_child(play, "held")


@_child_row("pool child SIGKILLed after its worker has lost its broker and found it again")
def child_killed_reconnected(play: Play) -> None:
    """The main process watches its children in the event loop that Celery emptied, too."""
    play.worker()
    play.ask("held")
    play.begun()
    play.renewed()
    play.stage.broker.restart(keep_data=True)
    play.stage.wait_workers_connected()
    _kill(play)


@row(
    "pool child SIGKILLed, acks late and reject_on_worker_lost",
    at_most=2,
    at_least=2,
    within_s=AT_ONCE_S,
    lease_s=LONG_LEASE_S,
)
def child_killed_requeued(play: Play) -> None:
    """The main process gives the flight back with the message, and the redelivery claims it at once."""
    _kill_child(play, "held_requeued")


@_child_row("pool child SIGKILLed, acks late without reject_on_worker_lost")
def child_killed_late(play: Play) -> None:
    """The message is acknowledged as failed, and those who wait are told at once."""
    _kill_child(play, "held_late")


@row("worker SIGSTOPped past its lease, then continued", at_most=2, at_least=2, within_s=TAKEOVER_S, pools=ALL)
def worker_stopped(play: Play) -> None:
    """The other worker computes; what the one that comes back publishes is not stored; it counts that, and says so in its log."""
    zombie = play.worker()
    play.ask("held")
    play.begun()
    play.worker(more=1)
    with play.fault():
        zombie.pause()
    play.begun_again()
    play.open()
    play.answered()
    zombie.resume()
    zombie.wait_for_log("refused", timeout=LONG_S)
    wait_until(lambda: play.refused("held"), "the refused write to be counted", LONG_S)
    assert play.stage.ledger.pids(play.name)[:1] == play.refused("held"), "counted once, where it happened"
    assert f"{play.name} 2" == play.stored("held"), "the zombie's value replaced its successor's"


@row(
    "a worker's network to the cache hangs for longer than its lease",
    at_most=2,
    at_least=2,
    within_s=TAKEOVER_S,
    pools=HEARING,
)
def worker_cut_off(play: Play) -> None:
    """The other worker computes; what the first one says when it is heard again is refused, and it counts that."""
    play.alone()
    servers = {"FAULTS_CACHE": play.stage.cache.url(), "FAULTS_BACKEND": play.stage.cache.url(BACKEND_DB)}
    far = {name: play.stage.worker_net.url(url) for name, url in servers.items()}
    worker = play.worker(env=far)
    play.ask("held")
    play.begun()
    play.renewed()
    # What is sent again is for the other worker.
    play.clients[0].ask(f"app.app.control.cancel_consumer({play.queue!r}, destination=[{worker.name!r}])")
    worker.wait_for_log(f"Canceling queue {play.queue}", timeout=LONG_S)
    play.worker()
    with play.fault():
        play.stage.worker_net.blackhole = True
    play.begun_again()
    play.open()
    play.answered()
    play.stage.worker_net.blackhole = False
    wait_until(lambda: play.refused("held"), "the refused write to be counted", LONG_S)
    assert play.stage.ledger.pids(play.name)[:1] == play.refused("held"), "counted once, where it happened"
    assert f"{play.name} 2" == play.stored("held"), "it replaced its successor's value"


@row("a body that holds the GIL in C for three leases", within_s=1.5)
def gil_held(play: Play) -> None:
    """The lease is renewed by the main process, whose interpreter is free. Times are counted from the body's end."""
    play.worker()
    play.ask("gripping")
    play.begun()
    play.faulted_at = time.monotonic() + 3 * BRIEF_LEASE_S


@row("a body of ten leases", within_s=1.5, pools=ALL)
def long_body(play: Play) -> None:
    """The lease is renewed as long as the body runs. Times are counted from the body's end."""
    play.worker()
    play.ask("long")
    play.begun()
    play.faulted_at = time.monotonic() + 10 * BRIEF_LEASE_S


@row("worker stopped warmly (SIGTERM) while it computes", within_s=3, pools=HEARING)
def worker_stopped_warmly(play: Play) -> None:
    """A deploy: the running body is finished and published before the worker ends."""
    worker = play.worker()
    play.ask("held")
    play.begun()
    with play.fault():
        worker.send(signal.SIGTERM)
    worker.wait_for_log("Warm shutdown", timeout=LONG_S)
    play.open()
    wait_until(lambda: not worker.is_running, "the worker to end", LONG_S)


@row("worker stopped coldly (SIGQUIT) while it computes", at_most=2, within_s=14, pools=ALL)
def worker_stopped_coldly(play: Play) -> None:
    """It gives the flight back as it ends, and a waiter sends the message again; one that is swallowed, ten seconds later."""
    worker = play.worker()
    play.ask("held")
    play.begun()
    play.worker(more=1)
    with play.fault():
        worker.send(signal.SIGQUIT)
    play.open()
    play.answered(80)
    wait_until(lambda: not worker.is_running, "the worker to end", LONG_S)


@row(
    "worker stopped coldly (SIGQUIT) as soon as the body runs",
    at_most=2,
    within_s=14,
    without_celery="as above",
)
def worker_stopped_coldly_at_once(play: Play) -> None:
    """The same, before the caller has reported that its first message was sent: that report puts nothing off."""
    workers = [play.worker(), play.worker(more=1)]
    play.ask("held")
    play.begun()
    [pid] = play.pids()
    victim = next(each for each in workers if pid in [process.pid for process in each.pool_processes()])
    with play.fault():
        victim.send(signal.SIGQUIT)
    play.open()
    play.answered(80)
    wait_until(lambda: not victim.is_running, "the worker to end", LONG_S)


@row("main process of a prefork worker SIGKILLed, its children left", at_most=2, within_s=TAKEOVER_S)
def main_killed(play: Play) -> None:
    """The orphaned child goes on or not; nobody renews, so another worker computes after the lease."""
    worker = play.worker()
    play.ask("held")
    play.begun()
    play.worker(more=1)
    with play.fault():
        worker.kill_main()
    play.open()
