"""This is where a race is told again: as moves of a fleet, or as steps done by hand, one after the other."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from taskcache.protocol.scripts import SCRIPTS
from taskcache.protocol.steps import Call, Calls, Steps, Wait
from tests.races.explorer import Scripts
from tests.races.fleet import Fleet


def without(name: str, rule: str, instead: str) -> Scripts:
    """The scripts with one rule taken away."""
    text = SCRIPTS[name].text
    assert text.count(rule.encode()) == 1, f"{name}.lua does not say {rule!r} once"
    return {**SCRIPTS, name: replace(SCRIPTS[name], text=text.replace(rule.encode(), instead.encode()))}


def done(fleet: Fleet, steps: Steps[Any]) -> Any:
    """Carry out steps at once; gives what they return, or the wait at which they arrive."""
    reply: Any = None
    try:
        while True:
            step = steps.send(reply)
            if isinstance(step, Calls):
                reply = [fleet.execute(call) for call in step.calls]
            elif isinstance(step, Call):
                reply = fleet.execute(step)
            elif isinstance(step, Wait):
                return step
            else:
                reply = None
    except StopIteration as ended:
        return ended.value
