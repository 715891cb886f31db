"""This is where these tests get an application whose worker is attacked, on a server with nobody else."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from types import ModuleType

import pytest

from tests.nodes.server import ValkeyNode
from tests.nodes.workers import WorkerNode
from tests.security.vault import SECRET

APP = "tests.security.app"


@pytest.fixture(scope="session")
def attacked_server() -> Iterator[ValkeyNode]:
    """Cache (0), broker (1) and ledger (2) of the attacked application."""
    with ValkeyNode() as node:
        yield node


@pytest.fixture(scope="session")
def app(attacked_server: ValkeyNode) -> Iterator[ModuleType]:
    """The application as this process has it: a caller that knows the secret."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(attacked_server).items():
            patch.setenv(name, value)
        yield importlib.import_module(APP)


@pytest.fixture(scope="session")
def victim(app: ModuleType) -> Iterator[WorkerNode]:
    """Its worker: one main process with eight threads, so that whatever crashes, crashes it."""
    with WorkerNode(APP, pool="threads", concurrency=8) as worker:
        yield worker
    app.cache.close()
    app.app.close()


def environment(server: ValkeyNode) -> dict[str, str]:
    """What the application reads, on one server."""
    return {
        "ATTACKED_CACHE": server.url(0),
        "ATTACKED_BROKER": server.celery_url(1),
        "ATTACKED_LEDGER": server.url(2),
        "ATTACKED_SECRET": os.environ.get("ATTACKED_SECRET", SECRET),
    }
