"""This is where the broker refuses, hangs, restarts, forgets and repeats itself."""

from __future__ import annotations

import json

from tests.faults.scenario import ALL, HEARING, Play, row
from tests.faults.stage import LONG_S
from tests.nodes.waiting import wait_until

# A broker that accepts and never answers holds a caller for a few of kombu's own tries.
BOUNDED_S = 25.0
DISPATCH = ("DispatchFailed",)


@row("broker refuses connections", sees="DispatchFailed", words=DISPATCH, at_most=0, within_s=5)
def broker_refuses(play: Play) -> None:
    """Each call says so within seconds, and leaves no flight behind."""
    play.people()
    play.stage.broker_net.refuse = True
    play.stage.broker_net.drop_all()
    with play.fault():
        play.ask("held")
    play.answered()
    assert [] == play.flights(), "a flight stays"


@row(
    "broker refuses connections, on_broker_error='inline'",
    at_most=3,
    within_s=8,
    without_celery="Celery has no such choice",
)
def broker_refuses_inline(play: Play) -> None:
    """The caller computes under its flight, and those who come meanwhile wait for it."""
    play.people()
    play.open()
    play.stage.broker_net.refuse = True
    play.stage.broker_net.drop_all()
    with play.fault():
        play.ask("brokerless")
    play.answered()
    assert 1 == play.runs(), "those who come meanwhile wait for the one that computes"


@row("broker accepts and never answers", sees="DispatchFailed", words=DISPATCH, at_most=0, within_s=BOUNDED_S)
def broker_hangs(play: Play) -> None:
    """Our own producers give up: seconds, where kombu's wait without end."""
    play.people()
    play.stage.broker_net.blackhole = True
    with play.fault():
        play.ask("held")
    play.answered(90)
    assert [] == play.flights(), "a flight stays"


@row("broker restarted with its data while the message is queued", within_s=15, pools=ALL)
def broker_restarts(play: Play) -> None:
    """The message is still there. Times are counted from the restart."""
    play.alone()
    play.people()
    play.open()
    play.ask("held")
    play.dispatched()
    with play.fault():
        play.stage.broker.restart(keep_data=True)
    play.worker()
    play.answered()
    play.stage.wait_workers_connected()


@row("broker restarted empty while the message is queued", within_s=18)
def broker_forgets(play: Play) -> None:
    """Its sender sees after ten seconds that the queue is empty, and sends it again. Times are counted from the restart."""
    play.alone()
    play.people()
    play.open()
    play.ask("held")
    play.dispatched()
    play.leader_has_reported()
    with play.fault():
        play.stage.broker.restart(keep_data=False)
    play.worker()
    play.answered(90)
    play.stage.wait_workers_connected()


@row("broker restarted empty while the body runs", within_s=5, pools=ALL)
def broker_restarts_running(play: Play) -> None:
    """The body goes on and publishes to the cache, which needs no broker."""
    play.worker()
    play.ask("held")
    play.begun()
    with play.fault():
        play.stage.broker.restart(keep_data=False)
    play.open()
    play.answered()
    play.stage.wait_workers_connected()


@row(
    "redelivery by visibility timeout (1 s) while the body runs",
    within_s=3,
    # Not gevent: kombu does not redeliver there, whatever the timeout.
    pools=("prefork", "threads"),
)
def redelivered(play: Play) -> None:
    """The second delivery finds the flight taken, comes back later, and finds it ended. Times are counted from the body's end."""
    play.alone()
    conf = {"broker_transport_options": {"visibility_timeout": 1, "unacked_restore_interval": 1}}
    worker = play.worker(concurrency=8, env={"FAULTS_CONF": json.dumps(conf)})
    play.ask("held_late")
    play.begun()
    id = play.dispatched()
    wait_until(lambda: worker.log().count(f"[{id}] received") >= 2, "the redelivery", 60)
    with play.fault():
        play.open()
    play.answered()
    worker.wait_for_log("gnored", timeout=LONG_S)


@row("the message is delivered three times", within_s=3, pools=HEARING, without_celery="Celery runs each of them")
def duplicated(play: Play) -> None:
    """Copies find the flight taken or ended, and are dropped. Times are counted from the body's end."""
    worker = play.worker(concurrency=2)
    play.people()
    play.ask("held")
    id = play.dispatched()
    for _ in range(2):
        play.clients[0].ask(f"send_again({play.asked[0][1]})")
    play.begun()
    wait_until(lambda: worker.log().count(f"[{id}] received") >= 2, "a copy", LONG_S)
    with play.fault():
        play.open()
    play.answered()
    wait_until(lambda: f"[{id}] ignored" in worker.log(), "a copy to be dropped", LONG_S)
