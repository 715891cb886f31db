"""This is where the demo is told: cold, again, one file changed, a worker killed; and each count is checked."""

from __future__ import annotations

import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final

from taskcache.batch import as_completed
from taskcache.cli.demo import phases
from taskcache.cli.demo.library import Module, change, copy_library
from taskcache.cli.demo.measure import Measure
from taskcache.cli.demo.meeting import Meeting, Place, meet
from taskcache.cli.demo.phases import Phase
from taskcache.cli.demo.pool import Pool
from taskcache.cli.demo.screen import Screen
from taskcache.embedded import acquire
from taskcache.errors import NoServer

# A phase takes half a minute on two busy processors; after ten times that something hangs, and it is better to say so.
PATIENCE_S: Final = 300.0
# Below this, the worker to be killed could run out of work before it is.
FEWEST_MODULES: Final = 20
# What the command `celery` takes for options that nobody typed.
_COMMAND_LINE: Final = ("BROKER_URL", "RESULT_BACKEND", "LOADER", "CONFIG_MODULE", "WORKDIR")


def run(*, is_quick: bool, workers: int, screen: Screen | None = None) -> int:
    """Run the demo; gives the exit status, 0 only if each count was right."""
    screen = screen or Screen()
    _forget_other_apps()
    _clean_up_when_ended()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="taskcache-demo-"))).resolve()
        modules = copy_library(folder, is_quick=is_quick)
        if len(modules) < FEWEST_MODULES:
            screen.say(f"only {len(modules)} modules of the standard library are here as files; the demo needs more")
            return 2
        server = acquire()
        place = Place(f"demo-{os.getpid()}", server.url, server.broker_url, server.secret.decode())
        meeting = meet(place)
        stack.callback(_leave, meeting)
        pool = Pool(meeting, workers, folder)
        stack.callback(pool.close)
        # Runs first: a second Ctrl-C must not interrupt the cleaning up after the first.
        stack.callback(_ignore_signals)
        screen.say(f"server   a private one of this user, port {server.port}")
        screen.say(
            f"input    {len(modules)} modules of the standard library of Python {platform.python_version()}, copied"
        )
        screen.say(f"workers  {workers} x celery worker -P prefork -c 1, starting ...")
        pool.start()
        return Story(meeting, pool, screen).tell(modules)


class Story:
    """The phases, in their order."""

    def __init__(self, meeting: Meeting, pool: Pool, screen: Screen) -> None:
        self._meeting = meeting
        self._pool = pool
        self._screen = screen
        self._found: dict[str, Measure] = {}
        self._phases: list[Phase] = []
        self._flaws: list[str] = []

    def tell(self, modules: list[Module]) -> int:
        """Run all phases; gives the exit status."""
        screen = self._screen
        screen.begin("1. Cold: nothing is cached, every call goes to a worker")
        found = self._phase("cold", modules, phases.cold_flaws)
        screen.most_complex(found)

        screen.begin("2. Again: the same calls")
        self._phase("again", modules, phases.warm_flaws)

        edited = max(found, key=lambda module: found[module].branches)
        screen.begin(f"3. One file changed: {edited.name} gets another function")
        modules = [change(module) if module is edited else module for module in modules]
        self._phase("one changed", modules, phases.edited_flaws)

        screen.begin("4. Cold once more, and a worker is killed (SIGKILL) in the middle")
        self._meeting.cache.flush()
        self._phase("worker killed", modules, phases.killed_flaws, midway=self._kill)

        screen.begin("What it came to")
        screen.summary(self._phases)
        for flaw in self._flaws:
            screen.say(f"WRONG  {flaw}")
        if not self._flaws:
            screen.say("Every count is right.")
        return 1 if self._flaws else 0

    def _phase(
        self,
        title: str,
        modules: list[Module],
        flaws: Callable[[Phase], list[str]],
        midway: Callable[[], int] | None = None,
    ) -> dict[Module, Measure]:
        """Call the function for every module, take the values as they come, and count."""
        computed_before, began, died = self._pool.computations(), time.perf_counter(), 0
        found: dict[Module, Measure] = {}
        hits = 0
        with self._screen.bar(len(modules)) as bar:
            module_of: dict[Any, Module] = {}
            for module in modules:
                module_of[self._meeting.measure(*module.call)] = module
                bar.sent()
            for result in as_completed(module_of, timeout=PATIENCE_S):
                found[module_of[result]] = result()
                hits += result.source == "hit"
                bar.arrived()
                if midway is not None and len(found) == len(modules) // 3:
                    died = midway()
        seconds = time.perf_counter() - began
        computed = self._pool.computations() - computed_before
        values = {module.name: measure for module, measure in found.items()}
        before, self._found = self._found or values, values
        changed = sum(before[name] != values[name] for name in values)
        phase = Phase(title, len(found), computed, hits, seconds, died, changed)
        self._phases.append(phase)
        self._flaws += flaws(phase)
        self._screen.say(f"{phase.calls} calls: {computed} computed, {hits} hits, {seconds:.2f} s")
        return found

    def _kill(self) -> int:
        node, died = self._pool.kill_one()
        self._screen.say(f"killed {node} with {died} under way; the others go on")
        return died


def _leave(meeting: Meeting) -> None:
    with suppress(NoServer, OSError):
        meeting.leave()


def _forget_other_apps() -> None:
    """Celery's own variables win over what an app says, and here they are meant for another app."""
    for name in [name for name in os.environ if name.startswith("CELERY_") or name in _COMMAND_LINE]:
        del os.environ[name]


def _clean_up_when_ended() -> None:
    # A session of its own keeps Ctrl-C from the workers, so whatever ends us has to pass through the cleaning up.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))


def _ignore_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
