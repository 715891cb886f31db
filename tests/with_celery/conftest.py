"""This is where pytest-celery's fixtures come in: on processes here, on Docker with TASKCACHE_TEST_NODES=docker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_celery import *  # noqa: F403 # its fixtures; the plugin itself is off (see pyproject.toml)
from pytest_celery import CeleryBackendCluster, CeleryBrokerCluster, CeleryTestBroker, RedisTestBackend

from tests.nodes import NODES_ARE_DOCKER
from tests.nodes.pytest_celery_nodes import ProcessWorker, ValkeyContainer, WorkerContainer

if not NODES_ARE_DOCKER:

    @pytest.fixture(scope="session")
    def valkey_container(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyContainer]:
        """One server as broker and result backend for all tests that use `celery_setup`."""
        container = ValkeyContainer.launch(tmp_path_factory.mktemp("valkey"))
        assert container.ready()
        yield container
        container._container.remove()

    @pytest.fixture
    def celery_broker_cluster(valkey_container: ValkeyContainer) -> Iterator[CeleryBrokerCluster]:
        """The broker; a test may kill it, the next one finds it alive and empty."""
        valkey_container.empty()
        cluster = CeleryBrokerCluster(CeleryTestBroker(valkey_container))
        yield cluster
        cluster.teardown()

    @pytest.fixture
    def celery_backend_cluster(celery_broker_cluster: CeleryBrokerCluster) -> Iterator[CeleryBackendCluster]:
        """The result backend, on the broker's server."""
        cluster = CeleryBackendCluster(RedisTestBackend(celery_broker_cluster[0].container))
        yield cluster
        cluster.teardown()

    @pytest.fixture
    def default_worker_container_cls() -> type[WorkerContainer]:
        """The class whose command line and environment a worker has."""
        return WorkerContainer

    @pytest.fixture
    def default_worker_cls() -> type[ProcessWorker]:
        """The class of `celery_setup.worker`."""
        return ProcessWorker

    @pytest.fixture
    def default_worker_container(
        tmp_path: Path,
        default_worker_container_cls: type[WorkerContainer],
        default_worker_initial_content: dict[str, Any],
        default_worker_env: dict[str, str],
        default_worker_command: list[str],
    ) -> Iterator[WorkerContainer]:
        """A worker for one test, with the tasks of `default_worker_tasks`."""
        container = default_worker_container_cls.launch(
            tmp_path, content=default_worker_initial_content, env=default_worker_env, command=default_worker_command
        )
        assert container.ready(), container.logs()
        yield container
        container._container.remove()
