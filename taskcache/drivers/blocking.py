"""This is where a thread carries out protocol steps: it calls, it waits, it launches, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from taskcache.drivers.topology import Server
from taskcache.protocol.flight import Ending
from taskcache.protocol.steps import Call, Calls, Launch, Step, Steps, Wait

T = TypeVar("T")


def _refuse(step: Any) -> Any:
    raise TypeError(f"these steps cannot ask for {step!r} here")


def run(
    steps: Steps[T],
    server: Server,
    *,
    wait: Callable[[Wait], Ending] = _refuse,
    launch: Callable[[Launch], None] = _refuse,
) -> T:
    """
    Carry out all steps and return what they return.

    Whatever is raised on the way, KeyboardInterrupt too, is thrown into the steps first, so that they can give back
    what they hold.
    """
    try:
        step = next(steps)
        while True:
            try:
                reply = _answer(step, server, wait, launch)
            except BaseException as error:  # noqa: BLE001 - thrown into the steps, which raise it again
                step = steps.throw(error)
            else:
                step = steps.send(reply)
    except StopIteration as done:
        value: T = done.value
        return value


def run_until_wait(
    steps: Steps[T], server: Server, *, launch: Callable[[Launch], None] = _refuse, ending: Ending = None
) -> tuple[Wait, None] | tuple[None, T]:
    """Carry out steps, from how their last wait ended, up to the next, which is given back unanswered, or to their end."""
    try:
        # None, too, for those that have not begun.
        step = steps.send(ending)
        while not isinstance(step, Wait):
            try:
                reply = _answer(step, server, _refuse, launch)
            except BaseException as error:  # noqa: BLE001 - thrown into the steps, which raise it again
                step = steps.throw(error)
            else:
                step = steps.send(reply)
    except StopIteration as done:
        value: T = done.value
        return None, value
    return step, None


def _answer(step: Step, server: Server, wait: Callable[[Wait], Ending], launch: Callable[[Launch], None]) -> Any:
    if isinstance(step, Call):
        return server.call(step)
    if isinstance(step, Calls):
        return server.calls(step.calls)
    if isinstance(step, Wait):
        return wait(step)
    if isinstance(step, Launch):
        return launch(step)
    return _refuse(step)
