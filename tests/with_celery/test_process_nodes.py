"""This is where we check that `celery_setup` works here as its documentation says, without Docker."""

from __future__ import annotations

from pytest_celery import CeleryTestSetup, ping


def test_a_worker_answers(celery_setup: CeleryTestSetup) -> None:
    """The standard setup has a broker, a backend, and a worker that answers a task and a control command."""
    assert celery_setup.ready(ping=True, control=True, docker=True)
    assert "pong" == ping.s().apply_async().get(timeout=20)
    assert celery_setup.worker.hostname() in celery_setup.worker.logs()


def test_a_killed_worker_can_be_restarted(celery_setup: CeleryTestSetup) -> None:
    """A worker is killed as a container is, with all its processes, and comes back."""
    worker = celery_setup.worker
    processes = worker.get_running_processes_info(["pid", "name"])
    worker.kill()

    assert 1 < len(processes)
    assert "exited" == worker.container.status
    worker.restart()
    assert "pong" == ping.s().apply_async().get(timeout=20)


def test_a_worker_outlives_its_broker(celery_setup: CeleryTestSetup) -> None:
    """A worker reconnects to a broker that was restarted."""
    celery_setup.broker.restart()

    assert "pong" == ping.s().apply_async().get(timeout=20)
