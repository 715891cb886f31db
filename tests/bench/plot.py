"""This is where a run becomes a picture: hits beside the peers, and the curves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.bench.goals import Curve
from tests.bench.report import Report

OURS, OTHERS = "#1668b8", "#9aa3ad"


def write_plot(path: Path, report: Report) -> bool:
    """Write the picture as SVG; False without matplotlib, which only this needs."""
    try:
        import matplotlib as mpl
    except ImportError:
        return False
    mpl.use("svg")
    # The same bytes for the same numbers, and text that stays text.
    mpl.rcParams.update({"svg.hashsalt": "taskcache", "svg.fonttype": "none", "font.size": 9})
    from matplotlib.figure import Figure

    curves = [curve for curve in report.curves if any(curve.series.values())]
    rows = 1 + (len(curves) + 2) // 3
    figure = Figure(figsize=(11, 3.4 * rows), layout="constrained")
    grid = figure.add_gridspec(rows, 3)
    _peers(figure.add_subplot(grid[0, :]), report)
    for number, curve in enumerate(curves):
        _curve(figure.add_subplot(grid[1 + number // 3, number % 3]), curve)
    figure.savefig(path, format="svg", metadata={"Date": None})
    return True


def _peers(axes: Any, report: Report) -> None:
    """A small hit of everybody, in units of a bare `r.get`."""
    first = next((outcome for outcome in report.outcomes if outcome.row.key == "hit.small" and outcome.seconds), None)
    axes.set_title("A small hit, in units of redis-py's bare `r.get` (shorter is better)")
    if first is None:
        return
    # From the medians of one rotation: for the eye, the table has the ratios of the rounds.
    times = {name: seconds / first.seconds["r.get"] for name, seconds in first.seconds.items()}
    names = sorted(times, key=times.__getitem__, reverse=True)
    colours = [OURS if name in ("taskcache", "signed") else OTHERS for name in names]
    bars = axes.barh(names, [times[name] for name in names], color=colours)
    axes.bar_label(bars, fmt="%.2f", padding=3)
    axes.spines[["top", "right"]].set_visible(False)


def _curve(axes: Any, curve: Curve) -> None:
    axes.set_title(curve.title)
    for name, points in curve.series.items():
        xs, ys = zip(*points, strict=True) if points else ((), ())
        colour = OURS if name == "taskcache" else OTHERS if name.startswith("redis-py") else None
        axes.plot(xs, ys, marker="o", label=name, color=colour)
    if any(x >= 1000 for points in curve.series.values() for x, _ in points):
        axes.set_xscale("symlog")
    axes.set_xlabel(curve.x)
    axes.set_ylabel(curve.y)
    heights = [y for points in curve.series.values() for _, y in points if y > 0]
    if heights and max(heights) > 10 * min(heights):
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
    if len(curve.series) > 1:
        axes.legend(frameon=False)
