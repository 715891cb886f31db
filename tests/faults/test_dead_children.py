"""
This is where a pool loses one process after another, and its worker misses each of them at once.

A process that dies closes its pipe a moment before it can be waited for. Celery listens to the pipe: when it looks in that
moment it sees nobody dead, and looks again five seconds later. That befalls some deaths and not others, so one is not enough.
"""

from __future__ import annotations

import pytest

from tests.faults.matrix import MATRIX
from tests.faults.scenario import Play, failures
from tests.faults.stage import Stage

DEATHS = 5


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", ["child_killed", "child_killed_reconnected"])
def test_five_are_missed_in_time(stage: Stage, name: str) -> None:
    """Whoever waits for what it computed is told within the row's seconds, each time: a lease is longer here."""
    row = next(each for each in MATRIX if each.name == name)
    seen = [Play(stage, row, "prefork", with_celery=False).perform() for _ in range(DEATHS)]

    assert [] == [complaint for observed in seen for complaint in failures(row, observed)]
