"""
This is where these tests get their workers: those of the application `shop`, and pytest-celery's `celery_setup`.

pytest-celery's nodes are processes here, and Docker containers with TASKCACHE_TEST_NODES=docker.
"""

from __future__ import annotations

import importlib
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pytest_celery import *  # noqa: F403 # its fixtures; the plugin itself is off (see pyproject.toml)
from pytest_celery import CeleryBackendCluster, CeleryBrokerCluster, CeleryTestBroker, RedisTestBackend

from taskcache import Result
from tests.conftest import CACHE_DB
from tests.nodes import NODES_ARE_DOCKER
from tests.nodes.pytest_celery_nodes import ProcessWorker, ValkeyContainer, WorkerContainer
from tests.nodes.server import ValkeyNode
from tests.nodes.workers import Pool, WorkerNode
from tests.with_celery.apps import SHOP

LEDGER_DB = 5

SECRET = "a secret of these tests and long enough"


@pytest.fixture(scope="session")
def _shop(valkey: ValkeyNode, lasting_broker_url: str, lasting_backend_url: str) -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHOP_CACHE", valkey.url(CACHE_DB))
        patch.setenv("SHOP_BROKER", lasting_broker_url)
        patch.setenv("SHOP_BACKEND", lasting_backend_url)
        patch.setenv("SHOP_LEDGER", valkey.url(LEDGER_DB))
        patch.setenv("SHOP_SECRET", SECRET)
        yield importlib.import_module(SHOP)


@pytest.fixture
def shop(_shop: ModuleType, redis_url: str) -> ModuleType:
    """The application `shop` as this process has it, a caller; its cache is empty, and afterwards all keys have a TTL."""
    return _shop


@pytest.fixture
def bulk(shop: ModuleType) -> ModuleType:
    """The functions of `shop` that are called many at a time."""
    return importlib.import_module("tests.with_celery.apps.bulk")


@pytest.fixture
def name(_shop: ModuleType, request: pytest.FixtureRequest) -> Iterator[str]:
    """A name nobody else uses, for runs and a gate in the ledger; the gate is opened after the test."""
    name = f"{request.node.name.partition('[')[0]}-{uuid.uuid4().hex[:8]}"
    yield name
    _shop.ledger.open(name)


@pytest.fixture(scope="session")
def worker(_shop: ModuleType) -> Iterator[WorkerNode]:
    """A worker with eight threads, shared by the tests whose subject is not the pool: do not hurt it."""
    with WorkerNode(SHOP, pool="threads", concurrency=8) as worker:
        yield worker


@pytest.fixture
def held(shop: ModuleType, worker: WorkerNode, name: str) -> Result[str]:
    """The result of a body that runs and is held up until the gate `name` is opened."""
    result: Result[str] = shop.gated(name)
    shop.ledger.wait_runs(name)
    return result


@pytest.fixture
def start_shop(_shop: ModuleType, request: pytest.FixtureRequest) -> Iterator[Callable[..., tuple[WorkerNode, str]]]:
    """Start a worker of `shop` on a queue of its own: `worker, queue = start_shop(pool="threads", env=...)`."""
    with ExitStack() as stack:

        def start(*, pool: Pool = "threads", queue: str = "", env: dict[str, str] | None = None, **options: Any) -> Any:
            queue = queue or f"own-{uuid.uuid4().hex[:8]}"
            node = WorkerNode(SHOP, pool=pool, env={"SHOP_QUEUE": queue, **(env or {})}, **options)
            return stack.enter_context(node), queue

        yield start


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
