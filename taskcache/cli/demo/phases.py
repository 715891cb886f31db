"""This is where we say what one phase of the demo came to, and whether its counts are right."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Phase:
    """One round of calls. `computations` were counted by the workers, `hits` by the results' own word."""

    title: str
    calls: int
    computations: int
    hits: int
    seconds: float
    # Computations that died with a killed worker.
    died: int = 0
    # Values that are not those of the phase before.
    changed: int = 0


def cold_flaws(phase: Phase) -> list[str]:
    """An empty cache: every call is computed, once."""
    return _differences(phase, computations=phase.calls, hits=0, changed=0)


def warm_flaws(phase: Phase) -> list[str]:
    """A full cache: nothing is computed."""
    return _differences(phase, computations=0, hits=phase.calls, changed=0)


def edited_flaws(phase: Phase) -> list[str]:
    """One file is another: that one is computed."""
    return _differences(phase, computations=1, hits=phase.calls - 1, changed=1)


def killed_flaws(phase: Phase) -> list[str]:
    """An empty cache and a dead worker: every call has its value, and only what died may have run twice."""
    flaws = _differences(phase, hits=0, changed=0)
    if not phase.died:
        flaws.append(f"{phase.title}: no computation was under way when the worker was killed")
    if not phase.calls <= phase.computations <= phase.calls + phase.died:
        flaws.append(
            f"{phase.title}: {phase.computations} computations, where {phase.calls} calls and {phase.died} that died "
            f"make {phase.calls} to {phase.calls + phase.died}"
        )
    return flaws


def _differences(phase: Phase, **expected: int) -> list[str]:
    found = {name: getattr(phase, name) for name in expected}
    return [
        f"{phase.title}: {found[name]} {name}, and not {number}"
        for name, number in expected.items()
        if found[name] != number
    ]
