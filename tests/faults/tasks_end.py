"""This is where tasks end in ways of Celery's own: limits, revokes, expiry, rejection, and queues that nobody serves."""

from __future__ import annotations

import time

from tests.faults.scenario import ALL, HEARING, LONG_LEASE_S, Play, row
from tests.faults.stage import LONG_S
from tests.nodes.waiting import wait_until

SECONDS_S = 4.0


@row(
    "hard time limit (1 s)",
    sees="TimeLimitExceeded",
    words=("TimeLimitExceeded",),
    within_s=SECONDS_S,
)
def hard_limit(play: Play) -> None:
    """The main process ends the child and tells the flight. Times are counted from the body's start."""
    play.worker()
    play.ask("limited")
    play.begun()
    with play.fault():
        pass
    play.answered()


@row("soft time limit (1 s)", sees="SoftTimeLimitExceeded", words=("SoftTimeLimitExceeded",), within_s=SECONDS_S)
def soft_limit(play: Play) -> None:
    """The body's own SoftTimeLimitExceeded reaches every waiter. Times are counted from the body's start."""
    play.worker()
    play.ask("softly_limited")
    play.begun()
    with play.fault():
        pass
    play.answered()


@row("revoked while queued", sees="Revoked", words=("Revoked",), at_most=0, within_s=SECONDS_S, pools=HEARING)
def revoked_queued(play: Play) -> None:
    """The worker that takes the message refuses it and tells the flight."""
    play.alone()
    worker = play.worker(concurrency=1)
    play.people()
    play.occupy(worker, 2)
    play.ask("held")
    ids = play.task_ids()
    with play.fault():
        play.control("revoke", ids)
    worker.wait_for_log(f"Tasks flagged as revoked: {ids[-1]}" if len(ids) == 1 else "revoked", timeout=LONG_S)
    play.vacate()
    play.answered()


@row(
    "revoked with terminate while it runs",
    sees="Revoked",
    words=("Revoked",),
    within_s=SECONDS_S,
    pools=("prefork", "gevent"),
)
def revoked_running(play: Play) -> None:
    """The main process ends the child and tells the flight."""
    play.worker()
    play.ask("held")
    play.begun()
    ids = play.task_ids()
    with play.fault():
        play.control("revoke", ids, terminate=True)
    play.answered()


@row("expires (1 s) while queued", sees="Expired", words=("Expired",), at_most=0, within_s=SECONDS_S, pools=ALL)
def expired_queued(play: Play) -> None:
    """The worker that takes the message refuses it and tells the flight. Times are counted from the free slot."""
    play.alone()
    worker = play.worker(concurrency=1)
    play.people()
    play.occupy(worker, 2)
    play.ask("expiring")
    play.dispatched()
    end = time.monotonic() + 1.2
    wait_until(lambda: time.monotonic() > end, "the messages to expire")
    with play.fault():
        play.vacate()
    play.answered()


@row("the task raises Reject", sees="ComputationLost", words=("ComputationLost",), within_s=SECONDS_S, pools=ALL)
def rejected(play: Play) -> None:
    """The message is gone and says nothing more; the flight is told before it goes."""
    play.worker()
    play.people()
    # Who asked after the end would begin anew, and rightly.
    play.ask("rejecting")
    play.dispatched()
    play.begun()
    with play.fault():
        play.open()
    play.answered()


@row(
    "the task raises Reject(requeue=True), acks late",
    at_most=2,
    at_least=2,
    within_s=SECONDS_S,
    pools=ALL,
    lease_s=LONG_LEASE_S,
)
def rejected_and_requeued(play: Play) -> None:
    """The flight is given back before the message is, and whoever takes the message runs it at once: the lease is 30 s."""
    play.worker()
    play.people()
    with play.fault():
        play.ask("returning")
    play.answered()


@row("the task raises Ignore", sees="ComputationLost", words=("ComputationLost",), within_s=SECONDS_S, pools=ALL)
def ignored(play: Play) -> None:
    """Celery says nothing of it to anybody; the flight is told."""
    play.worker()
    play.people()
    play.ask("ignoring")
    play.dispatched()
    play.begun()
    with play.fault():
        play.open()
    play.answered()


@row("queue purged", within_s=14)
def purged(play: Play) -> None:
    """Its sender sees after ten seconds that the queue is empty, and sends it again."""
    play.alone()
    play.people()
    play.open()
    play.ask("held")
    play.dispatched()
    wait_until(lambda: play.stage.messages(play.queue) >= 1, "the message", LONG_S)
    play.leader_has_reported()
    with play.fault(), play.stage.broker.client() as broker:
        broker.delete(play.queue)
    play.worker()
    play.answered(90)


@row("worker runs older code that lacks the task", sees="UnknownTask", words=("UnknownTask",), at_most=0, within_s=5)
def unknown_task(play: Play) -> None:
    """The worker drops the message with a note in Celery's result backend, which the watchdog reads."""
    play.alone()
    play.worker(env={"FAULTS_CODE": "old"})
    play.people()
    with play.fault():
        play.ask("newest")
    play.answered()


@row(
    "worker without the secret",
    sees="ComputationLost",
    words=("ComputationLost",),
    at_most=0,
    within_s=SECONDS_S,
    without_celery="Celery's messages are not signed",
)
def no_secret(play: Play) -> None:
    """The worker cannot check the message, runs nothing, and tells the flight which variable is missing."""
    play.alone()
    play.worker(env={"FAULTS_SECRET": ""})
    play.people()
    with play.fault():
        play.ask("held")
    play.answered()


@row(
    "worker with another version of the function",
    sees="ComputationLost",
    words=("ComputationLost",),
    at_most=0,
    within_s=SECONDS_S,
    without_celery="Celery runs whatever code it has",
)
def other_version(play: Play) -> None:
    """The arguments make another key there: the worker runs nothing and tells the flight to deploy."""
    play.alone()
    play.worker(env={"FAULTS_CODE": "other"})
    play.people()
    with play.fault():
        play.ask("versioned")
    play.answered()


@row("no worker at all, inline_after=1", within_s=4)
def no_worker(play: Play) -> None:
    """A waiter claims the flight and computes; the worker that comes later finds nothing to do."""
    play.alone()
    play.people()
    play.open()
    with play.fault():
        play.ask("inline")
    play.answered()
    assert play.stage.messages(play.queue) >= 1
    worker = play.worker()
    worker.wait_for_log("gnored", timeout=LONG_S)
    wait_until(lambda: not play.stage.messages(play.queue), "the queue to be empty", LONG_S)


@row(
    "no worker at all, nothing else said",
    sees="still queued, one warning that names the queue",
    words=("NotReady",),
    at_most=0,
    within_s=14,
)
def nobody_serves(play: Play) -> None:
    """The result says queued for as long as one waits, and after ten seconds a warning says how to start a worker."""
    play.alone()
    play.people()
    with play.fault():
        play.ask("held", timeout=12)
    play.answered()

    def warnings() -> list[str]:
        lines = [line for client in play.clients for line in client.ask("warnings()")]
        return [line for line in lines if play.queue in line]

    wait_until(warnings, "the warning that names the queue")
    assert 1 == len(warnings())


@row("the function's own Celery retry (autoretry_for)", at_most=2, at_least=2, within_s=SECONDS_S, pools=ALL)
def own_retry(play: Play) -> None:
    """The flight stays, waiters wait, and only the last try is delivered."""
    play.worker()
    play.people()
    with play.fault():
        play.ask("retried")
    play.answered()
