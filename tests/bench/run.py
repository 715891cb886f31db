"""This is where one run goes through its chapters, in the order of the table."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection

from tests.bench import machine
from tests.bench.chapters import Chapter
from tests.bench.chapters.batches import batches
from tests.bench.chapters.curves import curves
from tests.bench.chapters.deaths import deaths
from tests.bench.chapters.herds import herds
from tests.bench.chapters.hits import hits
from tests.bench.chapters.keys import keys
from tests.bench.chapters.loops import loops
from tests.bench.chapters.misses import misses
from tests.bench.chapters.nears import nears
from tests.bench.chapters.sizes import entries, imports, upkeep, waiters
from tests.bench.chapters.threads import threads
from tests.bench.goals import Curve, Outcome
from tests.bench.ground import Ground, Scale
from tests.bench.report import Report
from tests.nodes.server import ValkeyNode

CHAPTERS: dict[str, Chapter] = {
    chapter.__name__: chapter
    for chapter in (
        *(hits, nears, threads, loops, batches, keys, misses, herds, deaths, imports),
        *(entries, waiters, upkeep, curves),
    )
}


def run(scale: Scale, name: str, chapters: Collection[str] = (), tell: Callable[[str], object] = print) -> Report:
    """Run the chapters, all of them if none is named, and tell what is being done."""
    began = time.monotonic()
    outcomes: list[Outcome] = []
    drawn: list[Curve] = []
    for chapter in chapters or CHAPTERS:
        # An empty server for each: what an earlier chapter stored, or a worker left behind, is not in the way.
        with ValkeyNode() as server:
            ground = Ground(server, scale)
            if not outcomes and not drawn:
                described = machine.described(ground)
            since = time.monotonic()
            for found in CHAPTERS[chapter](ground):
                if isinstance(found, Curve):
                    drawn.append(found)
                else:
                    outcomes.append(found)
        tell(f"{chapter}: {time.monotonic() - since:.0f} s")
    return Report(name, described, os.getloadavg(), time.monotonic() - began, outcomes, drawn)
