"""This is where a cold miss through a Celery worker is measured, beside `delay().get()` of the same body, for each pool."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tests.bench.goals import POOLS, Outcome, beside, budget, not_built
from tests.bench.ground import Ground
from tests.bench.measure import Spread, percentile
from tests.bench.processes import told, workers

# One call is too few to compare: a round is the mean of so many of each.
IN_A_ROUND = 5


def misses(ground: Ground) -> Iterator[Outcome]:
    """One worker at a time: those that wait for their turn poll the broker, and that would show."""
    for pool in POOLS:
        if pool not in ground.scale.pools:
            yield from not_built(f"miss.{pool}", f"wake.{pool}", note="not in a quick run")
            continue
        with workers(ground, pool):
            yield from _outcomes(pool, told(ground, pool, "misses", ground.scale.calls))


def _outcomes(pool: str, times: dict[str, Any]) -> Iterator[Outcome]:
    ours, theirs = times["taskcache"], times["celery"]
    wakes = {name: _differences(of["had"], of["ended"]) for name, of in times.items()}
    floor = _ratio(times["floor"]["had"], theirs["had"])
    yield budget(f"miss.{pool}", _ratio(ours["had"], theirs["had"]), seconds=_phases(times, wakes), floor=floor)
    floor = _ratio(wakes["floor"], wakes["celery"])
    yield budget(f"wake.{pool}", _ratio(wakes["taskcache"], wakes["celery"]), floor=floor)
    yield beside(f"what the caller pays to send, {pool} / `delay()`", _ratio(ours["sent"], theirs["sent"]))


def _phases(times: dict[str, Any], wakes: dict[str, list[float]]) -> dict[str, float]:
    """Where the time goes: until the call returned, until the body ended, until the caller had the value."""
    phases: dict[str, float] = {}
    for name, of in times.items():
        phases[f"{name}: call returned"] = percentile(of["sent"], 50)
        phases[f"{name}: → body end"] = percentile(_differences(of["ended"], of["sent"]), 50)
        phases[f"{name}: → caller has it"] = percentile(wakes[name], 50)
        phases[f"{name}: all"] = percentile(of["had"], 50)
        phases[f"{name}: all, p99"] = percentile(of["had"], 99)
    return phases


def _differences(later: Sequence[float], earlier: Sequence[float]) -> list[float]:
    return [one - other for one, other in zip(later, earlier, strict=True)]


def _ratio(variant: Sequence[float], base: Sequence[float]) -> Spread:
    starts = range(0, len(base), min(IN_A_ROUND, len(base)))
    return Spread.of([_mean(variant, start) / _mean(base, start) for start in starts])


def _mean(values: Sequence[float], start: int) -> float:
    part = values[start : start + IN_A_ROUND]
    # Never 0: two clocks read within one tick.
    return max(1e-9, sum(part) / len(part))
