"""This is where we check that the demo's checks find what is wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest

from taskcache.cli.demo.phases import Phase, cold_flaws, edited_flaws, killed_flaws, warm_flaws

COLD = Phase("cold", calls=9, computations=9, hits=0, seconds=1.0)
WARM = Phase("again", calls=9, computations=0, hits=9, seconds=0.1)
EDITED = Phase("one changed", calls=9, computations=1, hits=8, seconds=0.1, changed=1)
KILLED = Phase("worker killed", calls=9, computations=10, hits=0, seconds=2.0, died=1)


def test_right_counts_have_no_flaw() -> None:
    """A run as it should be passes; what died need not have been counted twice."""
    assert [] == cold_flaws(COLD) + warm_flaws(WARM) + edited_flaws(EDITED) + killed_flaws(KILLED)
    assert [] == killed_flaws(replace(KILLED, computations=9))


@pytest.mark.parametrize(
    "flaws",
    [
        cold_flaws(replace(COLD, computations=10)),
        cold_flaws(replace(COLD, hits=1)),
        warm_flaws(replace(WARM, computations=1)),
        warm_flaws(replace(WARM, hits=8)),
        warm_flaws(replace(WARM, changed=1)),
        edited_flaws(replace(EDITED, computations=2)),
        edited_flaws(replace(EDITED, changed=0)),
        killed_flaws(replace(KILLED, computations=11)),
        killed_flaws(replace(KILLED, computations=8)),
        killed_flaws(replace(KILLED, changed=1)),
        killed_flaws(replace(KILLED, computations=9, died=0)),
    ],
)
def test_a_wrong_count_is_told(flaws: list[str]) -> None:
    """Each count that is not what the phase promises is one flaw."""
    assert 1 == len(flaws)
