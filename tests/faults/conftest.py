"""This is where these tests get their stage, shared by all of them, and pytest-celery's `celery_setup` on processes."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from types import ModuleType

import pytest
from pytest_celery import *  # noqa: F403 # its fixtures; the plugin itself is off (see pyproject.toml)
from pytest_celery import CeleryTestSetup

from tests.conftest import CACHE_DB
from tests.faults.stage import Stage
from tests.nodes import NODES_ARE_DOCKER
from tests.nodes.server import ValkeyNode

if not NODES_ARE_DOCKER:
    from tests.with_celery.conftest import (  # noqa: F401 # fixtures
        celery_backend_cluster,
        celery_broker_cluster,
        default_worker_cls,
        default_worker_container,
        default_worker_container_cls,
        valkey_container,
    )

LEDGER_DB = 5


@pytest.fixture(scope="session")
def stage() -> Iterator[Stage]:
    """Servers, workers and a network that scenarios may hurt."""
    with Stage() as stage:
        yield stage


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
    setup_module.cache.app = celery_setup.app
    yield setup_module
    setup_module.cache.app = None
