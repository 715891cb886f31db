"""This is where these tests get their stage, shared by all of them, and pytest-celery's `celery_setup` on processes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pytest_celery import *  # noqa: F403 # its fixtures; the plugin itself is off (see pyproject.toml)

from tests.faults.stage import Stage
from tests.nodes import NODES_ARE_DOCKER

if not NODES_ARE_DOCKER:
    from tests.with_celery.conftest import (  # noqa: F401 # fixtures
        celery_backend_cluster,
        celery_broker_cluster,
        default_worker_cls,
        default_worker_container,
        default_worker_container_cls,
        valkey_container,
    )


@pytest.fixture(scope="session")
def stage() -> Iterator[Stage]:
    """Servers, workers and a network that scenarios may hurt."""
    with Stage() as stage:
        yield stage
