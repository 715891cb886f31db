"""This is where the benchmark itself is tested: that it runs, not what it finds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench.goals import BUDGET, Curve, Outcome, at_least, at_most, beside, budget
from tests.bench.ground import TINY
from tests.bench.measure import Spread, Times, code, percentile, rotate
from tests.bench.plot import write_plot
from tests.bench.report import Report, as_json, markdown, write_page
from tests.bench.run import CHAPTERS, run

MACHINE = {
    "when": "today",
    "cpu": "one of many",
    "cpus": 2,
    "load": [0.5, 0.5, 0.5],
    "system": "Linux",
    "python": "CPython",
    "server": "Valkey",
    "transport": "TCP",
    "versions": {"redis": "8"},
}
# Those that take long even when they do little: imports start processes, the others are shown by what they share.
LONG = ("imports", "curves", "waiters", "herds")


def report_of(outcomes: list[Outcome], curves: list[Curve] | None = None) -> Report:
    """A report that nobody measured."""
    return Report("tiny", MACHINE, (1.0, 1.0, 1.0), 12.0, outcomes, curves or [])


def test_a_ratio_is_that_of_the_rounds() -> None:
    """A round that was disturbed as a whole changes no ratio."""
    times = Times({"a": [1.0, 10.0, 1.0], "b": [2.0, 20.0, 2.0]})

    assert Spread(0.5, 0.5, 0.5) == times.ratio("a", "b")


def test_percentiles_are_interpolated() -> None:
    """The percentile of few values lies between them."""
    found = [percentile([4.0, 1.0, 2.0, 3.0], percent) for percent in (0, 50, 100)]

    assert [1.0, 2.5, 4.0] == found


def test_every_variant_has_its_turn_in_every_round() -> None:
    """A rotation gives one time for each variant and round."""
    times = rotate({"a": code("pass"), "b": code("pass; pass")}, rounds=3, batch_s=0.0001)

    assert {"a": 3, "b": 3} == {name: len(seconds) for name, seconds in times.of.items()}


@pytest.mark.parametrize(("value", "is_met"), [(0.40, True), (0.41, False)])
def test_a_goal_is_a_bound(value: float, is_met: bool) -> None:
    """The bound itself is within it, from either side."""
    assert (is_met, not is_met or value == 0.40) == (at_most(0.40).is_met(value), at_least(0.40).is_met(value))


def test_the_table_has_every_row_of_the_budget() -> None:
    """A row that was not measured says so instead of being absent."""
    outcomes = [budget("hit.small", Spread(0.35, 0.3, 0.5)), budget("near.hit", None, "not built")]
    table = markdown(report_of(outcomes))

    assert [] == [row.text for row in BUDGET if f"| {row.text} |" not in table]
    assert "| small hit / redis-py `r.get` | ≤ 0.4 | 0.35 [0.3–0.5] |  | yes |" in table
    assert "| near hit / `functools.lru_cache` | ≤ 1.6 | not built |  |  |" in table


@pytest.mark.parametrize(("floor", "said"), [(0.3, "**no**"), (0.41, "out of reach")])
def test_a_goal_is_out_of_reach_when_its_floor_misses_it(floor: float, said: str) -> None:
    """Only then: whoever is above a floor that keeps the goal has work to do."""
    missed = budget("hit.small", Spread(0.5, 0.4, 0.6), floor=Spread(floor, floor, floor))
    met = budget("near.hit", Spread(1.5, 1.4, 1.6), floor=Spread(1.7, 1.7, 1.7))
    table = markdown(report_of([missed, met]))

    assert f"| 0.5 [0.4–0.6] | {floor} | {said} |" in table
    assert "| 1.5 [1.4–1.6] | 1.7 | yes |" in table


def test_json_has_what_the_table_has() -> None:
    """Programs read the same rows."""
    document = json.loads(as_json(report_of([budget("key", Spread(0.5, 0.4, 0.6)), beside("peer", None, "absent")])))

    assert {"key": "key", "measured": 0.5, "met": False} == {
        name: value
        for row in document["rows"]
        if row["key"] == "key"
        for name, value in row.items()
        if name in ("key", "measured", "met")
    }


def test_the_page_keeps_what_stands_around_the_table(tmp_path: Path) -> None:
    """Writing twice leaves one table, and the text before and after it."""
    page = tmp_path / "page.md"
    page.write_text("before\n")
    write_page(page, "one")
    page.write_text(page.read_text() + "after\n")
    write_page(page, "two")

    assert ["before", "two", "after"] == [line for line in page.read_text().splitlines() if line and line[0] != "<"]


def test_the_plot_is_drawn_where_matplotlib_is(tmp_path: Path) -> None:
    """Without matplotlib there is no plot and no error."""
    curve = Curve("hits", "threads", "hits/s", {"taskcache": [(1, 2.0), (2, 3.0)]})
    outcome = budget("hit.small", Spread(0.3, 0.3, 0.3), seconds={"taskcache": 1.0, "r.get": 3.0})
    path = tmp_path / "plot.svg"

    assert write_plot(path, report_of([outcome], [curve])) == path.exists()


# What peers warn of is not ours to mend.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("chapter", [chapter for chapter in CHAPTERS if chapter not in LONG])
def test_a_chapter_runs(chapter: str) -> None:
    """Each chapter gives rows, on counts too small to mean anything."""
    report = run(TINY, "tiny", [chapter], tell=lambda text: None)

    assert 0 < len(report.outcomes)
