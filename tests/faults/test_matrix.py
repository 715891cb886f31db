"""This is where every row of the matrix is held to its promise, in each pool where that makes a difference."""

from __future__ import annotations

import os

import pytest

from tests.faults.matrix import MATRIX
from tests.faults.scenario import Play, Scenario, failures
from tests.faults.stage import Stage
from tests.nodes.workers import Pool

# Every row in every pool takes more than four minutes on two cores: `make faults-test`. Others play the quick rows once.
EVERYTHING = os.environ.get("TASKCACHE_FAULTS") == "all"
QUICK_S = 8.0

ROWS = [
    pytest.param(each, pool, id=f"{each.name}-{pool}")
    for each in MATRIX
    for pool in (each.pools if EVERYTHING else each.pools[:1])
    if EVERYTHING or each.within_s <= QUICK_S
]


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("scenario", "pool"), ROWS)
def test_the_row_holds(stage: Stage, scenario: Scenario, pool: Pool) -> None:
    """Every waiter is told what the row says, in its time, with no more executions, and no key stays for ever."""
    observed = Play(stage, scenario, pool, with_celery=False).perform()

    assert [] == failures(scenario, observed)
    assert [] == stage.cache.keys_without_ttl()
