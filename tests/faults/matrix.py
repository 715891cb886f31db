"""This is where all rows come together, in the order in which they are printed."""

from __future__ import annotations

from tests.faults import tasks_end, workers_die
from tests.faults.scenario import MATRIX

CHAPTERS = (workers_die, tasks_end)

__all__ = ["CHAPTERS", "MATRIX"]
