"""This is where a run becomes a table in Markdown and a document in JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.goals import BUDGET, Curve, Outcome, Row
from tests.bench.measure import Spread

BEGIN = "<!-- table: written by `python -m tests.bench --write docs/benchmarks.md` -->"
END = "<!-- end of table -->"


@dataclass(frozen=True, slots=True)
class Report:
    """All that one run found."""

    scale: str
    machine: dict[str, Any]
    load_after: Sequence[float]
    seconds: float
    outcomes: Sequence[Outcome]
    curves: Sequence[Curve]

    def budgeted(self) -> list[Outcome]:
        """An outcome for each row of the budget, in its order; a row that was left out says so."""
        found = {outcome.row.key: outcome for outcome in self.outcomes if outcome.row.key}
        return [found.get(row.key, Outcome(row, None, "not run")) for row in BUDGET]

    def beside(self) -> list[Outcome]:
        """What has no goal: peers, floors, sizes."""
        return [outcome for outcome in self.outcomes if not outcome.row.key]


def markdown(report: Report) -> str:
    """The run as two tables, the curves and where it was run."""
    lines = [*_machine(report), "", "| row | goal | measured | floor | met |", "|---|---|---|---|---|"]
    lines += map(_line, report.budgeted())
    if report.beside():
        lines += ["", "Without a goal:", "", "| row | measured | |", "|---|---|---|"]
        lines += [f"| {outcome.row.text} | {_measured(outcome)} | {outcome.note} |" for outcome in report.beside()]
    lines += ["", *_absolute(report.outcomes)]
    for curve in report.curves:
        lines += ["", *_curve(curve)]
    return "\n".join(lines)


def _machine(report: Report) -> list[str]:
    machine = report.machine
    loads = f"load average {machine['load'][0]:.1f} before and {report.load_after[0]:.1f} after"
    versions = ", ".join(f"{package} {version}" for package, version in machine["versions"].items())
    return [
        f"{machine['when']}, `{report.scale}` run of {report.seconds:.0f} s: {machine['cpus']} CPUs ({machine['cpu']}), "
        f"{loads}; {machine['system']}, {machine['python']}, {machine['server']}, {machine['transport']}.",
        "",
        f"Versions: {versions}.",
    ]


def _line(outcome: Outcome) -> str:
    met = "out of reach" if outcome.is_out_of_reach else {True: "yes", False: "**no**", None: ""}[outcome.is_met]
    floor = "" if outcome.floor is None else _short(outcome.floor.median)
    note = f" ({outcome.note})" if outcome.note and outcome.spread is not None else ""
    return f"| {outcome.row.text}{note} | {outcome.row.goal or ''} | {_measured(outcome)} | {floor} | {met} |"


def _measured(outcome: Outcome) -> str:
    spread = outcome.spread
    if spread is None:
        return outcome.note
    return number_of(spread, outcome.row)


def number_of(spread: Spread, row: Row) -> str:
    """The median with its unit, and the spread where there is one."""
    unit = row.goal.unit if row.goal is not None else ""
    median = f"{_short(spread.median)}{unit}"
    if spread.low == spread.median == spread.high:
        return median
    return f"{median} [{_short(spread.low)}–{_short(spread.high)}]"


def _short(value: float) -> str:
    """Three figures, which is one more than the noise leaves."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def _absolute(outcomes: Iterable[Outcome]) -> list[str]:
    """The medians in microseconds: where the time goes, on this machine, in this run."""
    lines = ["Microseconds of one operation, to see where time goes; they do not compare between runs:", ""]
    for outcome in outcomes:
        if outcome.seconds:
            times = ", ".join(f"{name} {_short(seconds * 1e6)}" for name, seconds in outcome.seconds.items())
            lines.append(f"- {outcome.row.text}: {times}")
    return lines if len(lines) > 2 else []


def _curve(curve: Curve) -> list[str]:
    xs = sorted({x for points in curve.series.values() for x, _ in points})
    lines = [f"{curve.title} ({curve.y}):", "", f"| {curve.x} | {' | '.join(f'{x:g}' for x in xs)} |"]
    lines.append("|---" * (len(xs) + 1) + "|")
    for name, points in curve.series.items():
        of = dict(points)
        cells = (_short(of[x]) if x in of else "" for x in xs)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def as_json(report: Report) -> str:
    """The run with every number, for programs."""
    document = {
        "scale": report.scale,
        "machine": report.machine,
        "load_after": list(report.load_after),
        "seconds": report.seconds,
        "rows": [_as_dict(outcome) for outcome in [*report.budgeted(), *report.beside()]],
        "curves": [
            {"title": curve.title, "x": curve.x, "y": curve.y, "series": curve.series} for curve in report.curves
        ],
    }
    return json.dumps(document, indent=1, ensure_ascii=False)


def _as_dict(outcome: Outcome) -> dict[str, Any]:
    spread = outcome.spread
    return {
        "key": outcome.row.key,
        "row": outcome.row.text,
        "goal": str(outcome.row.goal) if outcome.row.goal else None,
        "measured": None if spread is None else spread.median,
        "p10": None if spread is None else spread.low,
        "p90": None if spread is None else spread.high,
        "met": outcome.is_met,
        "floor": None if outcome.floor is None else outcome.floor.median,
        "note": outcome.note,
        "seconds": outcome.seconds,
    }


def write_page(path: Path, text: str) -> None:
    """Put the text between the markers of a page; a page without them gets them at its end."""
    page = path.read_text(encoding="utf-8") if path.exists() else ""
    if BEGIN not in page:
        page = f"{page.rstrip()}\n\n{BEGIN}\n{END}\n"
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    path.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")
