"""This is where we check that a worker node starts, stops and dies as a whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from celery import Celery

from tests.nodes.process import is_alive
from tests.nodes.waiting import wait_until
from tests.nodes.workers import Pool, WorkerNode

StartWorker = Callable[..., WorkerNode]

MODULE = """
import os
from celery import Celery

app = Celery("proj", broker=os.environ["BROKER"], backend=os.environ["BACKEND"])

@app.task(name="whoami")
def whoami():
    return os.getpid()
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a Celery app in proj.py."""
    (tmp_path / "proj.py").write_text(MODULE)
    return tmp_path


@pytest.fixture
def app(broker_url: str, backend_url: str) -> Celery:
    """The same app, as the caller has it."""
    return Celery("proj", broker=broker_url, backend=backend_url, set_as_current=False)


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent", "solo"])
def test_a_worker_computes_and_stops_warmly(
    start_worker: StartWorker, project: Path, app: Celery, broker_url: str, backend_url: str, pool: Pool
) -> None:
    """A worker of each pool runs a task and leaves with 0 when asked to."""
    env = {"BROKER": broker_url, "BACKEND": backend_url}
    worker = start_worker("proj", pool=pool, cwd=project, env=env)
    with app:
        ran_in = app.send_task("whoami").get(timeout=20)
    own = [worker.pid] if pool != "prefork" else [process.pid for process in worker.pool_processes()]

    assert ran_in in own
    assert 0 == worker.stop()


def test_a_killed_worker_leaves_no_process(
    start_worker: StartWorker, project: Path, broker_url: str, backend_url: str
) -> None:
    """SIGKILL ends the pool processes too, and the worker can be started again."""
    worker = start_worker("proj", cwd=project, env={"BROKER": broker_url, "BACKEND": backend_url})
    processes = worker.pool_processes()

    worker.kill()

    assert [False, False] == [is_alive(process) for process in processes]
    worker.start()
    victim = worker.pool_processes()[0]
    worker.kill_pool_process(victim.pid)
    wait_until(lambda: 2 == len(worker.pool_processes()), "a new pool process")
    worker.pause()
    worker.resume()
