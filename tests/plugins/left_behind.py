"""This is where we notice what a test leaves behind: keys without a TTL, caches that listen, and processes."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator

import psutil
import pytest

from tests.nodes import guard
from tests.nodes.process import is_alive
from tests.nodes.server import ValkeyNode, tracking_clients
from tests.nodes.waiting import wait_until

_COMPANION = re.compile(rb":(flight|retired:[^:]+|outcome:[^:]+)$")
_ENTRY_OR_STAMP = re.compile(rb"^[^{}~:]+(:|~(fn|tag):)")

# Inherited by every process that a test starts, however deep, and also when its parent is gone.
_MARK = "TASKCACHE_TEST_RUN"


def pytest_configure(config: pytest.Config) -> None:
    """Declare our markers."""
    config.addinivalue_line(
        "markers", "keeps_forever: entries of this test, and their stamps, may live for ever (FOREVER, primitives)"
    )


@pytest.fixture
def leaves_no_key_without_ttl(request: pytest.FixtureRequest, valkey: ValkeyNode) -> Iterator[None]:
    """Give an empty database, and fail the test that leaves a key there which nothing would ever remove, or a listener."""
    valkey.empty()
    yield
    with valkey.client() as client:
        wait_until(lambda: not tracking_clients(client), "its near caches to be closed: use `with Cache(...)`")
    eternal = valkey.keys_without_ttl()
    if request.node.get_closest_marker("keeps_forever"):
        eternal = [key for key in eternal if _COMPANION.search(key) or not _ENTRY_OR_STAMP.match(key)]
    assert [] == eternal, "keys without a TTL; mark the test `keeps_forever` if entries are meant to stay"


@pytest.fixture(scope="session", autouse=True)
def _no_process_survives(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """End the run with an error when a process that a test started still lives; its fixture forgot it."""
    run = uuid.uuid4().hex
    os.environ[_MARK] = run
    folder = str(tmp_path_factory.getbasetemp())
    yield
    guard.close()
    del os.environ[_MARK]
    try:
        # A server or worker that was told to end may need a moment.
        wait_until(lambda: not _survivors(run, folder), "the processes of the tests to end", timeout=5)
    except AssertionError:
        survivors = _survivors(run, folder)
        described = [f"{process.pid}: {' '.join(process.cmdline())}" for process in survivors]
        for process in survivors:
            process.kill()
        pytest.fail("processes were left behind (and are killed now):\n" + "\n".join(described))


def _survivors(run: str, folder: str) -> list[psutil.Process]:
    """Find our children, and those without a parent that inherited this run's mark or live in its folder."""
    # A fork without exec shows its parent's old environment, so the mark alone does not find it.
    found = {process.pid: process for process in psutil.Process().children(recursive=True)}
    for process in psutil.process_iter():
        try:
            # A program may be started with an environment of its own choice; its folder still tells.
            if process.environ().get(_MARK) == run or process.cwd().startswith(f"{folder}{os.sep}"):
                found[process.pid] = process
        except psutil.Error:
            continue
    return [process for process in found.values() if is_alive(process) and not _is_harmless(process)]


def _is_harmless(process: psutil.Process) -> bool:
    try:
        # The standard library keeps its resource tracker and fork server until the interpreter ends.
        spawned = " ".join(process.cmdline())
        return "multiprocessing.resource_tracker" in spawned or "multiprocessing.forkserver" in spawned
    except psutil.NoSuchProcess:
        return True
