"""This is where the fleet of a soak is started, made to work under chaos, brought to rest, and looked over."""

from __future__ import annotations

import json
import random
import re
import shutil
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.nodes.process import is_alive
from tests.nodes.server import ValkeyNode
from tests.nodes.workers import Pool, WorkerNode
from tests.soak.chaos import Chaos
from tests.soak.client_process import ClientProcess
from tests.soak.footprint import Footprint
from tests.soak.judging import Leftovers
from tests.soak.words import APP, BOUND_S, CLIENTS, SECRET

POOLS: tuple[Pool, ...] = ("prefork", "threads", "gevent", "solo")
# Each write is in the file before it is acknowledged, so that a server killed with SIGKILL has forgotten nothing.
DURABLE = ("appendonly yes", "appendfsync no", "auto-aof-rewrite-percentage 0")


@dataclass
class Report:
    """What a soak saw."""

    seed: int
    seconds: float
    counts: Counter[str] = field(default_factory=Counter)
    chaos: Counter[str] = field(default_factory=Counter)
    left: dict[str, str] = field(default_factory=dict)
    slowest: tuple[float, str] = (0.0, "")
    long: list[list[Any]] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"soak of {self.seconds:.0f} s, seed {self.seed}", "", "| what | how often |", "|---|---:|"]
        lines += [f"| {what} | {count:,} |" for what, count in sorted(self.counts.items())]
        lines += ["", "| what went wrong | how often |", "|---|---:|"]
        lines += [f"| {what} | {count:,} |" for what, count in sorted(self.chaos.items())]
        lines += ["", "| what was left | |", "|---|---|", *(f"| {what} | {how} |" for what, how in self.left.items())]
        lines += [
            "",
            f"slowest call: {self.slowest[0]:.1f} s ({self.slowest[1]})",
            f"violations: {len(self.violations)}",
        ]
        return "\n".join([*lines, *(f"  {each}" for each in self.violations)])


class Stage:
    """Three servers, four workers, eight clients."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._stack = ExitStack()
        # Whoever stops and starts workers and clients.
        self.lock = threading.RLock()
        self._draw = random.Random(f"clients {seed}")
        self.folder = Path(tempfile.mkdtemp(prefix="taskcache-soak-"))
        self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self.cache = self._stack.enter_context(ValkeyNode(config=DURABLE))
        self.broker = self._stack.enter_context(ValkeyNode())
        self.calm = self._stack.enter_context(ValkeyNode())
        self.env = {
            "SOAK_CACHE": self.cache.url(),
            "SOAK_BROKER": self.broker.url(),
            "SOAK_BACKEND": self.calm.url(1),
            "SOAK_TRUTH": self.calm.url(),
            "SOAK_SECRET": SECRET,
            "SOAK_FOLDER": str(self.folder),
        }
        self.workers = [WorkerNode(APP, pool=pool, concurrency=3, env=self.env) for pool in POOLS]
        self.clients: list[ClientProcess] = []
        # What each worker has before its first task.
        self.before: list[Footprint] = []

    def __enter__(self) -> Stage:
        for worker in self.workers:
            self._stack.callback(worker.close)
            worker.start(wait=False)
        for worker in self.workers:
            worker.wait_ready(90)
            self.before.append(Footprint.of(worker))
        for number in range(CLIENTS):
            self.clients.append(self._client(number))
        return self

    def __exit__(self, *exc_info: object) -> None:
        for client in self.clients:
            client.kill()
        self._stack.close()

    def _client(self, number: int) -> ClientProcess:
        kind = "threads" if number % 2 else "asyncio"
        return ClientProcess(number, kind, self._draw.randrange(2**31), self.folder, self.env)

    def restart_client(self, place: int) -> None:
        self.clients[place].kill()
        self.clients[place] = self._client(place)

    # -- the soak

    def soak(self, seconds: float) -> Report:
        """Let everybody work for so long, then bring the fleet to rest and look for what should not be there."""
        report = Report(self.seed, seconds)
        for client in self.clients:
            client.wait_ready()
        chaos = Chaos(self, self.seed)
        chaos.start()
        end = time.monotonic() + seconds
        while time.monotonic() < end and chaos.is_alive():
            time.sleep(0.2)
            self._supervise(report)
        chaos.stop()
        self._supervise(report)
        report.chaos = chaos.counts
        if chaos.failure is not None:
            report.violations.append(f"the chaos itself failed: {chaos.failure!r}")
        self._rest(report)
        Leftovers(self, report.left, report.violations).look()
        return report

    def _supervise(self, report: Report) -> None:
        """A worker that ends by itself is started again, as everywhere; whose fault it was stands at the end of its log."""
        for worker in self.workers:
            with self.lock:
                if not worker.is_running:
                    report.chaos["a worker ended by itself"] += 1
                    end = _last_words(worker.log())
                    if "/taskcache/" in end:
                        report.violations.append(f"a worker ended by itself:\n{end}")
                    worker.kill()
                    worker.start(wait=False)

    def _rest(self, report: Report) -> None:
        """No more faults: every call ends, and every client tells what is left in it."""
        for client in self.clients:
            client.stop()
        end = time.monotonic() + BOUND_S + 40
        while any(client.session.is_running for client in self.clients) and time.monotonic() < end:
            time.sleep(0.2)
            self._supervise(report)
        for client in self.clients:
            if client.session.is_running:
                where = client.stacks()
                report.violations.append(f"lost wait: client {client.number} did not come to its end\n{where}")
                client.kill()
        for fact in self.facts():
            if "violation" in fact:
                who = f"client {fact['client']}"
                report.violations.append("\n".join(filter(None, (f"{who}: {fact['violation']}", fact.get("trace")))))
            if "long" in fact:
                report.long.append(fact["long"])
            report.counts.update(fact.get("counts", {}))
            report.slowest = max(report.slowest, tuple(fact.get("slowest", (0.0, ""))))

    def facts(self) -> list[dict[str, Any]]:
        """Every line that a client has written; the last one of a killed client may be cut."""
        found = []
        for path in sorted(self.folder.glob("*.jsonl")):
            for line in path.read_text().splitlines():
                if line.endswith("}"):
                    found.append(json.loads(line))
        return found


def soak(seconds: float, seed: int) -> Report:
    """One whole soak, from nothing to nothing."""
    with Stage(seed) as stage:
        report = stage.soak(seconds)
    left = survivors(stage.folder)
    if left:
        report.violations.append(f"left processes: {left}")
    report.left["processes"] = str(len(left))
    return report


def _last_words(log: str) -> str:
    """What ended a worker: Celery's word about it, or the end of the log; other processes of its pool write on meanwhile."""
    entries = re.split(r"^(?=\[\d{4}-)", log, flags=re.MULTILINE)
    critical = [entry for entry in entries if "CRITICAL/MainProcess" in entry.partition("]")[0]]
    return critical[-1] if critical else log[-2500:]


def survivors(folder: Path) -> list[str]:
    """Every process that any client or worker of the soak in `folder` has been or has started, and that lives."""
    found = []
    for process in psutil.process_iter():
        # Those of others end while we look, or are none of our business.
        with suppress(psutil.Error):
            if process.environ().get("SOAK_FOLDER") == str(folder) and is_alive(process):
                found.append(f"{process.pid}: {' '.join(process.cmdline())}")
    return found
