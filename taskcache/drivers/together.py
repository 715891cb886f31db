"""This is where the steps of many calls are carried out side by side: one pipeline a round, however many they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from taskcache.drivers.topology import Server
from taskcache.errors import NoServer
from taskcache.protocol.steps import Call, Calls, Launch, Step, Steps, Wait


class Stopped(NamedTuple):
    """Where the steps of one call stopped: at a wait, at their end, or at an error."""

    wait: Wait | None
    value: Any = None
    error: Exception | None = None


def run_until_waits(
    calls: Sequence[Steps[Any]], server: Server, launch: Callable[[int, Launch], None]
) -> list[Stopped]:
    """
    Carry out each call up to its first wait or its end; an error ends one of them and not the others.

    `launch(place, step)` sends the call at that place. Raises NoServer when the server is away.
    """
    stopped: list[Stopped | None] = [None] * len(calls)
    answers: list[tuple[int, Any]] = [(place, None) for place in range(len(calls))]
    while answers:
        asked: list[tuple[int, Step]] = []
        for place, reply in answers:
            step = _advance(calls[place], reply, place, stopped)
            while isinstance(step, Launch):
                step = _advance(calls[place], _launched(launch, place, step), place, stopped)
            if isinstance(step, Wait):
                stopped[place] = Stopped(step)
            elif step is not None:
                asked.append((place, step))
        answers = _ask(asked, server)
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


def _launched(launch: Callable[[int, Launch], None], place: int, step: Launch) -> Exception | None:
    try:
        launch(place, step)
    except Exception as error:  # noqa: BLE001 - thrown into the steps, which end the flight with it
        return error
    return None


def _ask(asked: list[tuple[int, Step]], server: Server) -> list[tuple[int, Any]]:
    if not asked:
        return []
    flat: list[Call] = []
    for _, step in asked:
        assert isinstance(step, Call | Calls)
        flat.extend((step,) if isinstance(step, Call) else step.calls)
    replies = iter(server.calls(flat))
    return [
        (place, next(replies) if isinstance(step, Call) else [next(replies) for _ in step.calls])  # type: ignore[union-attr]  # asserted above
        for place, step in asked
    ]
