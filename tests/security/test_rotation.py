"""This is where the secret is changed under load: four roll-outs, one process after the other, and no call fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.nodes import guard
from tests.nodes.server import ValkeyNode
from tests.nodes.waiting import wait_until
from tests.nodes.workers import REPOSITORY, WorkerNode
from tests.security.conftest import APP, environment

OLD, NEW = "the old secret that has leaked", "the new secret that nobody knows"
# All can read both before anybody writes with the new one; nobody reads with the old one when nobody writes with it.
STAGES = [OLD, f"{OLD},{NEW}", f"{NEW},{OLD}", NEW]

# Asks for the same few numbers again and again, and for new ones, until it is told to stop.
CALLER = """
import itertools, json, logging, sys, threading
from tests.security import app
from taskcache import events
logging.basicConfig(level=logging.ERROR)
told, told_once, calls, errors, untrusted = threading.Event(), False, 0, [], []
events.listen(lambda event: untrusted.append(event.kind) if event.kind == "untrusted" else None)
threading.Thread(target=lambda: (sys.stdin.read(), told.set()), daemon=True).start()
start = int(sys.argv[1])
for turn in itertools.count():
    for number in (turn % 5, start + turn):
        try:
            value = app.double(number)(timeout=30)
            if value != 2 * number:
                errors.append(f"double({number}) is {value}")
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}")
        calls += 1
    if not told_once and calls >= 10:
        print("calling", flush=True)
        told_once = True
    if told.is_set() and told_once:
        break
print(json.dumps({"calls": calls, "errors": errors[:5], "untrusted": len(untrusted)}), flush=True)
"""


class Caller:
    """A process that calls without a pause."""

    _start = 1_000_000

    def __init__(self, env: dict[str, str]) -> None:
        Caller._start += 1_000_000
        self.process = subprocess.Popen(
            [sys.executable, "-c", CALLER, str(Caller._start)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **env, "PYTHONPATH": str(REPOSITORY)},
            text=True,
            start_new_session=True,
        )
        guard.watch(self.process.pid)

    def wait_calling(self) -> None:
        assert self.process.stdout is not None
        assert "calling\n" == self.process.stdout.readline()

    def stop(self) -> dict[str, Any]:
        """End it after its present call, and give what it has counted."""
        said, _ = self.process.communicate(timeout=60)
        guard.unwatch(self.process.pid)
        counted: dict[str, Any] = json.loads(said)
        return counted


@pytest.fixture
def server() -> Iterator[ValkeyNode]:
    """A server for the whole change."""
    with ValkeyNode() as node:
        yield node


def roll_out(server: ValkeyNode, stages: list[str]) -> list[dict[str, Any]]:
    """Change the secret of a worker and two callers, one process after the other; what the callers have counted."""
    counted: list[dict[str, Any]] = []
    with ExitStack() as stack:

        def worker(secret: str) -> WorkerNode:
            env = {**environment(server), "ATTACKED_SECRET": secret}
            return stack.enter_context(WorkerNode(APP, pool="threads", concurrency=4, env=env))

        def caller(secret: str) -> Caller:
            caller = Caller({**environment(server), "ATTACKED_SECRET": secret})
            caller.wait_calling()
            return caller

        now = worker(stages[0])
        callers = [caller(stages[0]) for _ in range(2)]
        for secret in stages[1:]:
            callers[0], before = caller(secret), callers[0]
            counted.append(before.stop())
            now, old = worker(secret), now
            old.stop()
            callers[1], before = caller(secret), callers[1]
            counted.append(before.stop())
        counted += [each.stop() for each in callers]
    return counted


def test_a_secret_is_changed_under_load_without_an_error(server: ValkeyNode) -> None:
    """Old; old and new; new and old; new: every call of every process gets its value, misses are all it costs."""
    counted = roll_out(server, STAGES)

    assert [] == [error for each in counted for error in each["errors"]]
    assert len(STAGES) * 2 == len(counted)
    assert all(each["calls"] >= 10 for each in counted)


def test_a_secret_that_some_cannot_read_yet_is_an_error_that_names_it(server: ValkeyNode) -> None:
    """Without the second step the first to sign with the new secret are not understood by the others, and say so."""
    with WorkerNode(APP, pool="threads", env={**environment(server), "ATTACKED_SECRET": OLD}):
        early = Caller({**environment(server), "ATTACKED_SECRET": f"{NEW},{OLD}"})
        early.wait_calling()
        counted = early.stop()

    assert counted["errors"]
    assert all("TASKCACHE_SECRET" in error for error in counted["errors"])
    wait_until(lambda: early.process.poll() is not None, "its end")
