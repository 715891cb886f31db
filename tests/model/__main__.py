"""This is where we print the table of runs: `python -m tests.model [--all | --name ...] [--holes] [--seconds N]`."""

from __future__ import annotations

import argparse
import sys

from tests.model.explore import Report, explore
from tests.model.runs import HOLES, RUNS, SMALL
from tests.model.world import Run


def row(report: Report) -> str:
    """Write one line of the table."""
    verdict = "clean" if report.is_clean else report.broken
    if report.is_clean and not report.is_complete:
        verdict = "clean as far as it went, liveness not judged"
    return f"| {report.run.name} | {report.states:,} | {report.transitions:,} | {verdict} | {report.seconds:.0f} s |"


def main() -> int:
    """Explore what was asked for; 1 when a run breaks, or when a hole is not seen."""
    parser = argparse.ArgumentParser(prog="python -m tests.model", description=__doc__)
    parser.add_argument("--all", action="store_true", help="every run, not only the small ones")
    parser.add_argument("--name", action="append", default=[], help="runs whose name contains this; may be repeated")
    parser.add_argument("--holes", action="store_true", help="the holes put back, with their traces")
    parser.add_argument("--seconds", type=float, default=300, help="how long one run may take")
    asked = parser.parse_args()
    holes = [hole for hole in HOLES if not asked.name or any(part in hole.run.name for part in asked.name)]
    runs: tuple[Run, ...] = RUNS if asked.all or asked.name else SMALL
    runs = tuple(run for run in runs if not asked.name or any(part in run.name for part in asked.name))
    failed = 0
    print("| run | states | transitions | verdict | time |\n|---|---|---|---|---|")
    for run in () if asked.holes else runs:
        report = explore(run, seconds=asked.seconds)
        print(row(report), flush=True)
        failed += not report.is_clean
        if not report.is_clean:
            print("  " + " | ".join(report.trace))
    for hole in holes if asked.holes else ():
        report = explore(hole.run, seconds=asked.seconds)
        print(row(report), flush=True)
        print("  " + " | ".join(report.trace))
        failed += not report.broken.startswith(hole.breaks + ":")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
