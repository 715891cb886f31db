"""This is where the demo is shown: lines, progress and tables, on a terminal or in a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from taskcache.cli.demo.library import Module
from taskcache.cli.demo.measure import Measure
from taskcache.cli.demo.phases import Phase

SHOWN: Final = 10


class Bar:
    """The progress of one phase."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=total, sent=0)
        self._sent = 0

    def sent(self) -> None:
        """One more call was made."""
        self._sent += 1
        self._progress.update(self._task, sent=self._sent)

    def arrived(self) -> None:
        """One more value is here."""
        self._progress.advance(self._task)


class Screen:
    """Where the demo prints. Without a terminal there are no control codes, and each bar is printed once, at its end."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)

    def say(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, markup=False)

    def begin(self, title: str) -> None:
        """Print the heading of what comes next."""
        self._console.print(f"\n[bold]{title}[/bold]")

    @contextmanager
    def bar(self, total: int) -> Iterator[Bar]:
        """Show progress while the body runs; what the workers print appears above it."""
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[sent]} sent"), TimeElapsedColumn())
        with Progress(TextColumn(" "), *columns, console=self._console) as progress:
            yield Bar(progress, total)

    def most_complex(self, found: dict[Module, Measure]) -> None:
        """Print the modules with the most branches."""
        # Narrow, to fit the 80 columns that a file is taken to have.
        titles = ("lines", "functions", "branches", "each", "depth", "longest", "imports")
        table = _table("module", *titles, gap=0)
        for module in sorted(found, key=lambda module: -found[module].branches)[:SHOWN]:
            measure = found[module]
            table.add_row(
                module.name,
                str(measure.lines),
                str(measure.functions),
                str(measure.branches),
                f"{measure.branches_per_function:.1f}",
                str(measure.deepest_nesting),
                str(measure.longest_lines),
                str(len(measure.imports)),
            )
        self._console.print(table)
        busy = max(found, key=lambda module: found[module].busiest_branches)
        long = max(found, key=lambda module: found[module].longest_lines)
        self.say(f"Most branches: {found[busy].busiest_function} in {busy.name} ({found[busy].busiest_branches})")
        self.say(f"Most lines:    {found[long].longest_function} in {long.name} ({found[long].longest_lines})")

    def summary(self, phases: list[Phase]) -> None:
        """Print what every phase came to."""
        table = _table("phase", "calls", "computations", "hits", "hit ratio", "seconds", "speed")
        for phase in phases:
            table.add_row(
                phase.title,
                str(phase.calls),
                str(phase.computations),
                str(phase.hits),
                f"{phase.hits / phase.calls:.1%}",
                f"{phase.seconds:.2f}",
                f"{phases[0].seconds / phase.seconds:,.1f} x",
            )
        self._console.print(table)


def _table(first: str, *numbers: str, gap: int = 1) -> Table:
    # A divider takes a column besides the gap.
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, gap, 0, 0))
    table.add_column(first, overflow="ellipsis", no_wrap=True, max_width=27)
    for title in numbers:
        table.add_column(title, justify="right", no_wrap=True)
    return table
