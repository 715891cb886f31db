"""This is where rows of the matrix are done to pytest-celery's own nodes, which are processes here."""

from __future__ import annotations

import importlib
import uuid
from collections.abc import Iterator
from types import ModuleType

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from pytest_celery import CeleryTestSetup

from taskcache import ComputationLost, DispatchFailed, NotReady, Revoked, TimeLimitExceeded
from tests.conftest import CACHE_DB
from tests.nodes.server import ValkeyNode

LEDGER_DB = 5
LONG_S = 40
# Sooner than a lease of 30 s is over.
SOON_S = 15

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="session")
def setup_module(valkey: ValkeyNode) -> Iterator[ModuleType]:
    """The functions of pytest-celery's worker, as this process has them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAULTS_SETUP_CACHE", valkey.url(CACHE_DB))
        patch.setenv("FAULTS_SETUP_LEDGER", valkey.url(LEDGER_DB))
        yield importlib.import_module("tests.faults.setup_tasks")


@pytest.fixture
def default_worker_tasks(default_worker_tasks: set[ModuleType], setup_module: ModuleType) -> set[ModuleType]:
    """pytest-celery's own tasks, and ours."""
    return {*default_worker_tasks, setup_module}


@pytest.fixture
def setup_tasks(setup_module: ModuleType, celery_setup: CeleryTestSetup, redis_url: str) -> Iterator[ModuleType]:
    """The same, sent with the app of `celery_setup`."""
    caches = (setup_module.cache, setup_module.patient)
    for cache in caches:
        cache.app = celery_setup.app
    yield setup_module
    for cache in caches:
        cache.app = None


@pytest.fixture
def name(setup_tasks: ModuleType) -> Iterator[str]:
    """A name nobody else uses; its gate is opened after the test."""
    name = uuid.uuid4().hex
    yield name
    setup_tasks.ledger.open(name)


def test_a_value_is_computed_once(setup_tasks: ModuleType, name: str) -> None:
    """A worker that knows nothing of us but the module computes, and the second call is a hit."""
    setup_tasks.ledger.open(name)

    assert f"{name} 1" == setup_tasks.setup_held(name)(timeout=LONG_S)
    assert "hit" == setup_tasks.setup_held(name).source


def test_a_killed_worker_is_replaced(celery_setup: CeleryTestSetup, setup_tasks: ModuleType, name: str) -> None:
    """SIGKILL of all its processes: the value comes from the next worker, without the broker's redelivery."""
    result = setup_tasks.setup_held(name)
    setup_tasks.ledger.wait_runs(name)
    celery_setup.worker.kill()
    setup_tasks.ledger.open(name)
    celery_setup.worker.restart()

    assert f"{name} 2" == result(timeout=LONG_S)


def test_a_frozen_worker_may_come_back(celery_setup: CeleryTestSetup, setup_tasks: ModuleType, name: str) -> None:
    """Paused past its lease, the only worker comes back to a flight that was sent again, and the waiter gets a value."""
    result = setup_tasks.setup_held(name)
    setup_tasks.ledger.wait_runs(name)
    celery_setup.worker.container._container.pause()
    setup_tasks.ledger.open(name)
    with pytest.raises(NotReady, match="not there yet"):
        result(timeout=4)
    celery_setup.worker.container._container.unpause()

    assert result(timeout=LONG_S) in (f"{name} 1", f"{name} 2")
    assert setup_tasks.ledger.runs(name) <= 2


def kill_child(celery_setup: CeleryTestSetup, setup_tasks: ModuleType, name: str) -> None:
    """SIGKILL the process that runs a body, as the kernel does when memory is short."""
    setup_tasks.ledger.wait_runs(name)
    (pid,) = setup_tasks.ledger.pids(name)
    code, said = celery_setup.worker.container.exec_run(f"python -c 'import os; os.kill({pid}, 9)'")
    assert code == 0, said


def test_a_killed_child_is_told(celery_setup: CeleryTestSetup, setup_tasks: ModuleType, name: str) -> None:
    """Its main process tells those who wait: nobody waits for the lease, of 30 s."""
    result = setup_tasks.setup_long_held(name)
    kill_child(celery_setup, setup_tasks, name)

    with pytest.raises(ComputationLost, match="SIGKILL"):
        result(timeout=SOON_S)


def test_a_killed_child_is_replaced(celery_setup: CeleryTestSetup, setup_tasks: ModuleType, name: str) -> None:
    """Where Celery delivers the message again, the flight waits for it."""
    result = setup_tasks.setup_redelivered(name)
    kill_child(celery_setup, setup_tasks, name)
    setup_tasks.ledger.open(name)

    assert f"{name} 2" == result(timeout=SOON_S)


@pytest.mark.parametrize(
    ("function", "error"),
    [
        ("setup_limited", TimeLimitExceeded),
        ("setup_softly_limited", SoftTimeLimitExceeded),
        ("setup_rejected", ComputationLost),
        ("setup_ignored", ComputationLost),
    ],
)
def test_an_end_of_celerys_own_is_told(
    setup_tasks: ModuleType, name: str, function: str, error: type[Exception]
) -> None:
    """Time limits, Reject and Ignore: the reason, within seconds, after one run."""
    result = getattr(setup_tasks, function)(name)
    setup_tasks.ledger.wait_runs(name)
    if error is ComputationLost:
        setup_tasks.ledger.open(name)

    with pytest.raises(error):
        result(timeout=SOON_S)
    assert 1 == setup_tasks.ledger.runs(name)


def test_a_revoked_run_is_told(celery_setup: CeleryTestSetup, setup_tasks: ModuleType, name: str) -> None:
    """`app.control.revoke(id, terminate=True)`, with the id of the task."""
    result = setup_tasks.setup_long_held(name)
    setup_tasks.ledger.wait_runs(name)
    celery_setup.app.control.revoke(result.task_id, terminate=True)

    with pytest.raises(Revoked):
        result(timeout=SOON_S)


def test_a_worker_that_is_stopped_ends_what_it_computes(
    celery_setup: CeleryTestSetup, setup_tasks: ModuleType, name: str
) -> None:
    """A deploy: SIGTERM to the main process, and the body is finished and published."""
    result = setup_tasks.setup_long_held(name)
    setup_tasks.ledger.wait_runs(name)
    celery_setup.worker.kill("SIGTERM")
    setup_tasks.ledger.open(name)

    assert f"{name} 1" == result(timeout=SOON_S)


def test_a_call_inside_of_a_call_ends(setup_tasks: ModuleType, name: str) -> None:
    """Both are computed, once each, and both are stored."""
    result = setup_tasks.setup_nested(name)
    setup_tasks.ledger.open(name)

    assert f"{name} 1" == result(timeout=SOON_S)
    assert "hit" == setup_tasks.setup_held(name).source


def test_a_broker_restarts_under_a_running_body(
    celery_setup: CeleryTestSetup, setup_tasks: ModuleType, name: str
) -> None:
    """The body goes on and its value arrives by the cache."""
    result = setup_tasks.setup_held(name)
    setup_tasks.ledger.wait_runs(name)
    celery_setup.broker.restart()
    setup_tasks.ledger.open(name)

    assert f"{name} 1" == result(timeout=LONG_S)


def test_a_dead_broker_is_said(celery_setup: CeleryTestSetup, setup_tasks: ModuleType, name: str) -> None:
    """A call that cannot be sent says so, and leaves no flight behind."""
    celery_setup.broker.kill()
    with pytest.raises(DispatchFailed, match="did not take the task"):
        setup_tasks.setup_held(name)

    assert setup_tasks.setup_held.join(name) is None
