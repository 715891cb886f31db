"""This is where callers die, fork, are cancelled and interrupted, and leave others waiting."""

from __future__ import annotations

import signal
import time

from tests.faults.scenario import LEASE_S, LONG_LEASE_S, Play, row
from tests.nodes.waiting import wait_until

LEFT = "no other caller is involved in Celery"


@row("caller SIGKILLed between election and dispatch", within_s=8, without_celery=LEFT)
def killed_before_dispatch(play: Play) -> None:
    """The flight has no message; whoever follows it sends one when the leader has not reported for five seconds."""
    play.worker()
    leader, follower = play.people()
    play.open()
    leader.say(f"die_before_dispatch('held', {play.name!r})")
    leader.process.wait(30)
    with play.fault():
        play.asked.append((follower, int(follower.ask(f"ask('held', {play.name!r})"))))
    play.answered()


@row("caller SIGKILLed while others wait for its flight", within_s=3, without_celery=LEFT)
def leader_killed(play: Play) -> None:
    """The flight is the worker's by then. Times from the body's end."""
    play.worker()
    play.ask("held", waiters=(1, 2), first_leads=True)
    play.begun()
    play.clients[0].kill()
    del play.asked[0]
    with play.fault():
        play.open()
    play.answered()


@row(
    "caller that computes itself (`cached`) SIGKILLed", at_most=2, at_least=2, within_s=LEASE_S + 2, without_celery=LEFT
)
def computing_caller_killed(play: Play) -> None:
    """A follower takes over when the lease is over."""
    play.people()
    play.ask("here", waiters=(1, 0))
    play.begun()
    leader, follower = play.clients
    play.asked = [(follower, int(follower.ask(f"ask('here', {play.name!r})"))) for _ in range(2)]
    play.followed()
    with play.fault():
        leader.kill()
    play.open()
    play.answered()


@row("caller forks while it waits; parent and child both wait on", within_s=4, without_celery=LEFT)
def forked(play: Play) -> None:
    """The child has no threads of its parent's: it makes its own, and waits for the same flight. Times from the body's end."""
    play.worker()
    play.ask("held", waiters=(1, 1), first_leads=True)
    play.begun()
    parent = play.clients[0]
    parent.ask(f"fork_and_wait({play.asked[0][1]})")
    with play.fault():
        play.open()
    play.answered()
    told = parent.ask("told_by_child()")
    assert f"value {play.name} 1" == told, told


@row("interpreter exits with waits open", within_s=3, without_celery=LEFT)
def exits(play: Play) -> None:
    """It ends at once, whatever it waits for; the others hear the value."""
    play.worker()
    play.ask("held", waiters=(1, 1), first_leads=True)
    play.begun()
    began = time.monotonic()
    assert 0 == play.clients[0].exited()
    # What it waits for ends no sooner than we open it, and a busy machine takes seconds to end any interpreter.
    assert time.monotonic() - began < 10, "the exit was held up"
    del play.asked[0]
    with play.fault():
        play.open()
    play.answered()


@row("asyncio: the leader's task is cancelled", within_s=3, without_celery=LEFT)
def leader_cancelled(play: Play) -> None:
    """The others are not. Times from the body's end."""
    play.worker()
    play.people()
    play.ask("aio.held", waiters=(1, 2), first_leads=True)
    play.begun()
    play.clients[0].ask(f"cancel({play.asked[0][1]})")
    assert "CancelledError" == play.clients[0].ask(f"answer({play.asked[0][1]})")[0]
    del play.asked[0]
    with play.fault():
        play.open()
    play.answered()


@row("asyncio: a follower's task is cancelled", within_s=3, without_celery=LEFT)
def follower_cancelled(play: Play) -> None:
    """The leader and the other followers are not. Times from the body's end."""
    play.worker()
    play.people()
    play.ask("aio.held", waiters=(2, 1), first_leads=True)
    play.begun()
    play.clients[0].ask(f"cancel({play.asked[1][1]})")
    assert "CancelledError" == play.clients[0].ask(f"answer({play.asked[1][1]})")[0]
    del play.asked[1]
    with play.fault():
        play.open()
    play.answered()


@row("asyncio: all are cancelled, then one comes back", within_s=3, without_celery=LEFT)
def all_cancelled(play: Play) -> None:
    """The computation goes on, and whoever comes back finds it. Times from the body's end."""
    play.worker()
    play.people()
    play.ask("aio.held", waiters=(2, 1), first_leads=True)
    play.begun()
    for client, ticket in play.asked:
        client.ask(f"cancel({ticket})")
        assert "CancelledError" == client.ask(f"answer({ticket})")[0]
    play.asked.clear()
    client = play.clients[1]
    play.asked = [(client, int(client.ask(f"ask('aio.held', {play.name!r})")))]
    play.dispatched()
    with play.fault():
        play.open()
    play.answered()


@row("asyncio: the coroutine that computes (`cached`) is cancelled", within_s=3, without_celery=LEFT)
def computing_coroutine_cancelled(play: Play) -> None:
    """What it began goes on in a task of its own, for those who wait. Times from the body's end."""
    play.people()
    leader, follower = play.clients
    first = int(leader.ask(f"ask('loop.here', {play.name!r})"))
    play.begun()
    play.asked = [(follower, int(follower.ask(f"ask('here', {play.name!r})")))]
    play.followed()
    leader.ask(f"cancel({first})")
    assert "CancelledError" == leader.ask(f"answer({first})")[0]
    with play.fault():
        play.open()
    play.answered()


@row("KeyboardInterrupt in a sync wait", within_s=3, without_celery=LEFT)
def interrupted(play: Play) -> None:
    """Ctrl-C ends that wait and nobody else's. Times from the body's end."""
    play.worker()
    play.ask("held", waiters=(1, 2), first_leads=True)
    play.begun()
    first = play.clients[0]
    first.say(f"wait_in_main('held', {play.name!r})")
    wait_until(lambda: first.is_in_main_thread_wait(), "the wait in the main thread", 20)
    first.process.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" == first.answer()
    with play.fault():
        play.open()
    play.answered()


@row(
    "KeyboardInterrupt in a body that computes here (`cached`)",
    at_most=2,
    at_least=2,
    within_s=3,
    without_celery=LEFT,
    lease_s=LONG_LEASE_S,
)
def computing_interrupted(play: Play) -> None:
    """The lease, of 30 s here, is given back at once, and a follower computes."""
    play.people()
    leader, follower = play.clients
    leader.say(f"wait_in_main('here', {play.name!r})")
    play.begun()
    play.asked = [(follower, int(follower.ask(f"ask('here', {play.name!r})")))]
    play.followed()
    with play.fault():
        leader.process.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" == leader.answer()
    play.begun_again()
    play.open()
    play.answered()
