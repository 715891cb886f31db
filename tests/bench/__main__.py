"""
This is where the benchmark is started.

    python -m tests.bench                              every row of the budget, about ten minutes
    python -m tests.bench --quick                      the same with fewer rounds, within two minutes
    python -m tests.bench --only hits --only keys      some chapters
    python -m tests.bench --write docs/benchmarks.md   puts the table into the page and the plot beside it
    python -m tests.bench --importtime                 what `import taskcache` spends its time on
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from tests.bench.chapters.sizes import importtime
from tests.bench.ground import FULL, QUICK
from tests.bench.plot import write_plot
from tests.bench.report import as_json, markdown, write_page
from tests.bench.run import CHAPTERS, run
from tests.nodes import guard

FOLDER = Path(".benchmarks")


def main(words: list[str] | None = None) -> None:
    """Run what the command line says, print the table, and keep all numbers under .benchmarks/."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="The performance budget, measured.")
    parser.add_argument("--quick", action="store_true", help="fewer rounds: within two minutes, and noisier")
    parser.add_argument("--only", action="append", choices=list(CHAPTERS), default=[], help="run this chapter")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the table into a page, and a plot beside it")
    parser.add_argument("--importtime", action="store_true", help="show what importing taskcache costs, and end")
    options = parser.parse_args(words)
    if options.write and options.only:
        parser.error("--write wants the whole run: a page with half a table tells nobody anything")
    if options.importtime:
        print(importtime())
        return
    scale, name = (QUICK, "quick") if options.quick else (FULL, "full")
    try:
        report = run(scale, name, options.only, tell=lambda text: print(text, file=sys.stderr, flush=True))
    finally:
        guard.close()
    FOLDER.mkdir(exist_ok=True)
    text = markdown(report)
    for path in (FOLDER / "last.json", FOLDER / f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}.json"):
        path.write_text(as_json(report), encoding="utf-8")
    has_plot = write_plot(FOLDER / "last.svg", report)
    if options.write is not None:
        picture = options.write.with_suffix(".svg")
        if has_plot:
            write_plot(picture, report)
            text = f"{text}\n\n![the same run, drawn]({picture.name})"
        write_page(options.write, text)
    print(text)


if __name__ == "__main__":
    main()
