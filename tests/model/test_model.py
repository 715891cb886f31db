"""This is where we let the model judge the protocol: the small runs are clean, and every hole put back is seen."""

from __future__ import annotations

import pytest

from tests.model.explore import explore
from tests.model.runs import HOLES, SMALL, Hole
from tests.model.world import Run


@pytest.mark.parametrize("run", SMALL, ids=lambda run: run.name)
def test_every_interleaving_of_a_small_fleet_is_clean(run: Run) -> None:
    """No reachable state breaks an invariant, and from each of them every call can still end."""
    report = explore(run, seconds=100)

    assert (True, "", ()) == (report.is_complete, report.broken, report.trace)


@pytest.mark.parametrize("hole", HOLES, ids=lambda hole: hole.run.name)
def test_a_rule_taken_away_is_missed(hole: Hole) -> None:
    """The model finds a counterexample, against the invariant we expect, so it would see such a mistake."""
    report = explore(hole.run, seconds=100)

    assert hole.breaks == report.broken.partition(":")[0]


def test_a_counterexample_is_told_as_its_shortest_story() -> None:
    """A trace begins with a call and ends with the invariant that it breaks."""
    follows_any = HOLES[0]

    report = explore(follows_any.run, seconds=100)

    assert ("C0 begins", 14, True) == (report.trace[0], len(report.trace), report.trace[-1].startswith("I1: "))


def test_a_run_out_of_time_is_not_called_complete() -> None:
    """An exploration that was stopped says so, and judges no liveness."""
    report = explore(SMALL[0], seconds=0)

    assert (False, True) == (report.is_complete, report.is_clean)
