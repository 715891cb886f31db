"""This is where tests that need a server and no worker get their cache."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery

from taskcache import Cache
from taskcache.calls import alone
from taskcache.embedded import release
from tests.nodes.server import free_port
from tests.nodes.waiting import wait_until
from tests.with_redis.gate import Counter, Gate, threads
from tests.with_redis.outage import Run

VARIABLES = ("EMBEDDED", "SERVER", "URL")


@pytest.fixture
def cache(redis_url: str, cache_name: str) -> Iterator[Cache]:
    """An empty cache of this test's own, whose entries live for a minute."""
    with Cache(redis_url, name=cache_name, default_timeout=60) as cache:
        yield cache


@pytest.fixture
def gate() -> Iterator[Gate]:
    """A place inside of a computation where it stops until the test lets it go on."""
    gate = Gate()
    yield gate
    gate.open()


@pytest.fixture
def no_fleet(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of a plain login, whatever runs the tests."""
    for name in (*(f"TASKCACHE_{name}" for name in VARIABLES), "KUBERNETES_SERVICE_HOST", "SERVER_SOFTWARE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_fleet: None) -> Iterator[Path]:
    """A runtime directory of this test's own, which must be gone after it."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    yield tmp_path / "taskcache"
    release()
    wait_until(lambda: not (tmp_path / "taskcache").exists(), "the runtime directory to be removed")


@pytest.fixture
def counter() -> Counter:
    """What a function under test calls, to be counted."""
    return Counter()


@pytest.fixture
def away(cache_name: str) -> Cache:
    """A cache whose server does not run."""
    return Cache(f"redis://127.0.0.1:{free_port()}/0", name=cache_name, app=Celery("away", set_as_current=False))


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits to begin waits until the one before has ended, however long a busy machine takes to bring the others."""
    monkeypatch.setattr(alone, "GATHER_S", 60)


@pytest.fixture
def run() -> Iterator[Run]:
    """What calls a function in a thread of its own, and gives its future."""
    with threads(40) as submit:
        yield submit
