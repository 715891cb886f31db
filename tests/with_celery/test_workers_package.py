"""This is where we start `celery -A workers worker` and call its functions, as a deployment does."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from taskcache.cli.demo.measure import measure
from tests.deploy.test_pools import recommended
from tests.nodes.server import ValkeyNode
from tests.nodes.workers import REPOSITORY, WorkerNode

MODULE = Path(json.__file__).with_name("decoder.py")

# Its addresses come from the environment when it is imported, so it is called from a process of its own.
CALLER = """
import json, sys
from workers.tasks import cache, measure, wait, who
value = eval(sys.argv[1])
print(json.dumps(value, default=str))
"""


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    """The variables by which a deployment is told its addresses."""
    with ValkeyNode() as node:
        yield {
            "TASKCACHE_URL": node.url(0),
            "TASKCACHE_SECRET": "a secret that only tests use",
            "CELERY_BROKER_URL": node.celery_url(1),
            "CELERY_RESULT_BACKEND": node.celery_url(2),
        }


@pytest.fixture(scope="module")
def worker(environment: dict[str, str]) -> Iterator[WorkerNode]:
    """One worker that serves both queues."""
    with WorkerNode("workers", env=environment, extra=["-Q", "celery,io"]) as worker:
        yield worker


def call(environment: dict[str, str], expression: str) -> Any:
    """Evaluate an expression beside the functions of `workers.tasks`, in another process."""
    ran = subprocess.run(
        [sys.executable, "-c", CALLER, expression],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path]), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert 0 == ran.returncode, ran.stderr
    return json.loads(ran.stdout)


def test_a_function_runs_on_the_worker_and_is_a_hit_then(worker: WorkerNode, environment: dict[str, str]) -> None:
    """The first process leads a computation, the next one finds its value."""
    digest = hashlib.sha256(MODULE.read_bytes()).hexdigest()
    ask = f"(lambda result: (result(timeout=30), result.source))(measure({str(MODULE)!r}, {digest!r}))"
    first, again = call(environment, ask), call(environment, ask)

    assert [str(measure(str(MODULE), digest)), "led"] == first
    assert [first[0], "hit"] == again


def test_a_worker_says_who_it_is(worker: WorkerNode, environment: dict[str, str]) -> None:
    """`who()` was computed by a pool process of this worker."""
    answer = call(environment, "who()(timeout=30)")

    assert int(answer["pid"]) in {process.pid for process in worker.pool_processes()}


def test_waiting_tells_its_progress(worker: WorkerNode, environment: dict[str, str]) -> None:
    """The function of the queue `io` shows how far it is, and gives how long it has waited."""
    totals = "[progress.total for progress in result.updates(timeout=30)]"
    seen, waited = call(environment, f"(lambda result: ({totals}, result(timeout=30)))(wait(2.5))")

    assert {2.5} == set(seen) - {0}
    assert waited >= 2.5


def test_the_worker_starts_without_a_warning(worker: WorkerNode) -> None:
    """What is recommended is what Celery understands: it complains of nothing but of being root in a container."""
    complaints = [line for line in worker.log().splitlines() if "Warning" in line or "deprecat" in line.lower()]

    assert [] == [line for line in complaints if "SecurityWarning" not in line]


def test_the_settings_are_those_the_page_recommends() -> None:
    """POOLS.md explains what workers/settings.py does."""
    from workers import settings

    page = recommended()

    assert page == {name: getattr(settings, name) for name in page}
