"""This is where all rows come together, in the order in which they are printed."""

from __future__ import annotations

from tests.faults import (
    brokers_fail,
    callers_die,
    calls_meet,
    scenario,
    servers_fail,
    tasks_end,
    wakeups_fail,
    workers_die,
)

CHAPTERS = (workers_die, tasks_end, brokers_fail, servers_fail, wakeups_fail, callers_die, calls_meet)
MATRIX = sorted(scenario.MATRIX, key=lambda row: [chapter.__name__ for chapter in CHAPTERS].index(row.play.__module__))
