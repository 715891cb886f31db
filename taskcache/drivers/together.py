"""This is where the steps of many calls are carried out side by side: one pipeline a round, however many they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct

from taskcache.drivers.topology import Server
from taskcache.errors import NoServer, ValueTooLarge
from taskcache.protocol.steps import Call, Calls, Launch, Step, Steps, Wait


class Stopped(Struct, frozen=True):
    """Where the steps of one call stopped: at a wait, at their end, or at an error."""

    wait: Wait | None
    value: Any = None
    error: Exception | None = None


# Sends the calls at these places; None, or the error of each of them, in their order.
LaunchAll = Callable[[Sequence[tuple[int, Launch]]], Sequence[Exception | None]]


def run(calls: Sequence[Steps[Any]], server: Server) -> list[Any]:
    """Carry out steps that neither wait nor launch; what each gave, or the first error once all have ended."""
    stopped = run_until_waits(calls, server, _launch_nothing)
    for each in stopped:
        if each.error is not None:
            raise each.error
    return [each.value for each in stopped]


def _launch_nothing(orders: Sequence[tuple[int, Launch]]) -> Sequence[Exception | None]:
    raise AssertionError(f"these steps launch nothing: {orders!r}")


def run_until_waits(calls: Sequence[Steps[Any]], server: Server, launch: LaunchAll) -> list[Stopped]:
    """
    Carry out each call up to its first wait or its end; an error ends one of them and not the others.

    `launch` sends all calls that lead after the same round trip. Raises NoServer when the server is away.
    """
    stopped: list[Stopped | None] = [None] * len(calls)
    answers: list[tuple[int, Any]] = [(place, None) for place in range(len(calls))]
    while answers:
        asked: list[tuple[int, Step]] = []
        orders: list[tuple[int, Launch]] = []
        for place, reply in answers:
            step = _advance(calls[place], reply, place, stopped)
            if isinstance(step, Wait):
                stopped[place] = Stopped(step)
            elif isinstance(step, Launch):
                orders.append((place, step))
            elif step is not None:
                asked.append((place, step))
        launched = [(place, said) for (place, _), said in zip(orders, launch(orders) if orders else (), strict=True)]
        # An error is thrown into the steps, which end their flight with it.
        answers = [*launched, *_ask(asked, server)]
    return [each for each in stopped if each is not None]


def _advance(steps: Steps[Any], reply: Any, place: int, stopped: list[Stopped | None]) -> Step | None:
    try:
        return steps.throw(reply) if isinstance(reply, Exception) else steps.send(reply)
    except StopIteration as done:
        stopped[place] = Stopped(None, done.value)
    except NoServer:
        raise
    except Exception as error:  # noqa: BLE001 - it belongs to this call, and the others go on
        stopped[place] = Stopped(None, None, error)
    return None


def _ask(asked: list[tuple[int, Step]], server: Server) -> list[tuple[int, Any]]:
    if not asked:
        return []
    flat: list[Call] = []
    for _, step in asked:
        assert isinstance(step, Call | Calls)
        flat.extend((step,) if isinstance(step, Call) else step.calls)
    try:
        replies = iter(server.calls(flat))
    except ValueTooLarge:
        # The server has hung up on all that came after it.
        return [(place, _asked_alone(step, server)) for place, step in asked]
    return [
        (place, next(replies) if isinstance(step, Call) else [next(replies) for _ in step.calls])  # type: ignore[union-attr]  # asserted above
        for place, step in asked
    ]


def _asked_alone(step: Step, server: Server) -> Any:
    try:
        return server.calls(step.calls) if isinstance(step, Calls) else server.call(step)  # type: ignore[arg-type]  # asserted above
    except ValueTooLarge as error:
        return error
