"""This is where a real Celery worker runs as the file says, with the rights of Celery's user and no others."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.deploy.files import compose, run, with_defaults
from tests.deploy.servers import GuardedValkey
from tests.nodes import guard
from tests.nodes.waiting import wait_until

APP = """
from celery import Celery
app = Celery("workers")

@app.task
def double(number):
    return 2 * number

@app.task
def total(numbers):
    return sum(numbers)
"""

# A process of its own: Celery's results reach for their server even when they are garbage, and ours is gone by then.
CALLER = """
import json, os, sys
sys.path.insert(0, os.environ["PYTHONPATH"])  # before the folder we are in, which has a `workers` too
from celery import chord, group
from workers import app, double, total

headers = [double.s(number) for number in (1, 2, 3)]
later = double.s(4).apply_async(countdown=3600)
single, several, summed = double.delay(21), group(headers)(), chord(headers)(total.s())
print(json.dumps([single.get(timeout=30), several.get(timeout=30), summed.get(timeout=30)]))
app.control.revoke(later.id)
app.control.purge()
summed.forget()
"""
NAME = "celery@deploy"


class Worker:
    """The worker command of the Compose file as a process."""

    def __init__(self, folder: Path, node: GuardedValkey) -> None:
        (folder / "workers.py").write_text(APP)
        self.env = {
            **os.environ,
            "PYTHONPATH": str(folder),
            "CELERY_BROKER_URL": node.url_for("celery"),
            "CELERY_RESULT_BACKEND": node.url_for("celery", 1),
        }
        self.log = folder / "log"
        words = with_defaults(compose()["services"]["worker"]["command"])
        with self.log.open("wb") as log:
            # -E beside what the file says: a fleet that is watched sends events, and they need rights too.
            self.process = subprocess.Popen(
                [sys.executable, "-m", *words, "-E", "-n", NAME],
                cwd=folder,
                env=self.env,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        guard.watch(self.process.pid)

    def says(self, text: str) -> Callable[[], bool]:
        """Give a condition: the worker has printed `text`, or is gone."""
        return lambda: text in self.log.read_text() or self.process.poll() is not None


@pytest.fixture(scope="module")
def node() -> Iterator[GuardedValkey]:
    """The broker, with the users the Compose file gives it."""
    with GuardedValkey("celery", "operator") as node:
        assert isinstance(node, GuardedValkey)
        yield node


@pytest.fixture
def worker(node: GuardedValkey, tmp_path: Path) -> Iterator[Worker]:
    """The worker, ready."""
    worker = Worker(tmp_path, node)
    try:
        wait_until(worker.says("ready."), "the worker to be ready", timeout=30)
        assert worker.process.poll() is None, worker.log.read_text()[-2000:]
        yield worker
    finally:
        guard.end_session(worker.process)


def test_celery_needs_nothing_beyond_its_rights(worker: Worker, node: GuardedValkey) -> None:
    """Results, a group, a chord, a countdown, a revoke, a purge, a ping and a warm shutdown: nothing is refused."""
    done = run("python", "-c", CALLER, env=worker.env)
    assert [] == node.refused()
    assert 0 == done.returncode, done.stderr[-2000:]
    worker.process.send_signal(signal.SIGTERM)

    assert [42, [2, 4, 6], 12] == json.loads(done.stdout)
    assert 0 == worker.process.wait(30)
    assert "Warm shutdown" in worker.log.read_text()
    assert [] == node.refused()


def test_the_health_check_of_the_image_tells_the_living_from_the_dead(worker: Worker, node: GuardedValkey) -> None:
    """The ping answers 0 for this worker and something else for one that is not there."""

    def ping(name: str, timeout: str) -> int:
        words = ("celery", "-A", "workers", "inspect", "ping", "--timeout", timeout, "--destination", name)
        return run(*words, env=worker.env).returncode

    assert 0 == ping(NAME, "10")
    assert 0 != ping("celery@nobody", "1")
    assert [] == node.refused()
