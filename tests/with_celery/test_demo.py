"""This is where we run `taskcache demo` as a user does, interrupt it, and kill it."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import redis

from tests.nodes.process import SessionProcess, is_alive
from tests.nodes.prompt import Prompt
from tests.nodes.waiting import wait_until

PROGRAM = "import sys; from taskcache.cli import main; sys.exit(main(sys.argv[1:]))"
# Two workers boot and compute for some seconds, on a machine that does other things as well.
PATIENCE_S = 100.0

Start = Callable[[], SessionProcess]


def workers_of(demo: SessionProcess) -> list[psutil.Process]:
    """List the living worker processes of a demo; each has a session of its own, and the demo's number in its words."""
    found = []
    for process in psutil.process_iter():
        try:
            if f"demo-{demo.pid}" in process.cmdline() and is_alive(process):
                found.append(process)
        except psutil.Error:
            continue
    return found


def wait_for_words(demo: SessionProcess, words: str) -> None:
    """Wait until the demo has printed this."""
    wait_until(lambda: words in demo.log() or not demo.is_running, repr(words), PATIENCE_S)
    assert words in demo.log(), demo.log()


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """Where the demo keeps its temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    return folder


@pytest.fixture
def start_demo(tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Start demos with a private server of their own, in an environment that is set up for something else."""
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    monkeypatch.setenv("TMPDIR", str(temporary))
    # Set up for a deployment: the demo must not touch it.
    for name in ("TASKCACHE_URL", "CELERY_BROKER_URL", "CELERY_RESULT_BACKEND", "BROKER_URL"):
        monkeypatch.setenv(name, "redis://127.0.0.1:1/0")
    monkeypatch.setenv("TASKCACHE_DEBUG", "1")
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    monkeypatch.delenv("TASKCACHE_EMBEDDED", raising=False)
    demos: list[SessionProcess] = []

    def start() -> SessionProcess:
        command = [sys.executable, "-c", PROGRAM, "demo", "--quick"]
        demos.append(SessionProcess(command, cwd=tmp_path, env=os.environ, log_path=tmp_path / "log"))
        return demos[-1]

    yield start
    for demo in demos:
        demo.kill()
        for worker in workers_of(demo):
            worker.kill()


@pytest.fixture
def neighbour(start_demo: Start) -> Iterator[Prompt]:
    """Start another process of this user, which keeps the private server alive when the demo has left it."""
    prompt = Prompt("from taskcache.embedded import acquire; server = acquire()")
    yield prompt
    prompt.exit()


@pytest.mark.timeout(180)
def test_the_demo_counts_right_and_leaves_nothing(start_demo: Start, temporary: Path, neighbour: Prompt) -> None:
    """Cold, again, one changed, a worker killed: exit status 0 says that each count was right."""
    urls = neighbour.ask("[server.url, server.broker_url]")
    demo = start_demo()
    wait_until(lambda: not demo.is_running, "the demo to end", PATIENCE_S)
    told = demo.log()

    assert 0 == demo.exit_code, told
    assert re.search(r"cold +100 +100 +0 +0\.0% +[\d.]+ +1\.0 x", told)
    assert re.search(r"again +100 +0 +100 +100\.0% +[\d.]+ +[\d.,]+ x", told)
    assert re.search(r"one changed +100 +1 +99 +99\.0%", told)
    assert re.search(r"worker killed +100 +10[01] +0 +0\.0%", told)
    assert "Every count is right." in told
    # Nor a control code, nor a warning of Celery's: it is a file.
    assert [] == re.findall(r"\x1b|\r|WARNING|Traceback", told)
    assert [] == workers_of(demo)
    assert [] == list(temporary.iterdir())
    for url in urls:
        with redis.Redis.from_url(url) as client:
            assert [] == client.keys()


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_demo_leaves_nothing(
    start_demo: Start, temporary: Path, number: signal.Signals, status: int
) -> None:
    """Ctrl-C while the workers compute ends them, and removes the copy."""
    demo = start_demo()
    wait_for_words(demo, "1. Cold")
    assert workers_of(demo)
    # Python drops what a handler raises while a weak reference is being called back: who is not heard presses again.
    for _ in range(5):
        demo.send(number)
        with suppress(AssertionError):
            wait_until(lambda: not demo.is_running, "the demo to end", 4)
            break

    assert status == demo.exit_code, demo.log()
    assert [] == workers_of(demo)
    assert [] == list(temporary.iterdir())
    assert "Traceback" not in demo.log() or "Exception ignored in: <function _get_module_lock" in demo.log()


@pytest.mark.timeout(180)
def test_the_workers_end_with_a_killed_demo(start_demo: Start) -> None:
    """SIGKILL leaves the demo no time to clean up; its workers notice by themselves."""
    demo = start_demo()
    wait_for_words(demo, "1. Cold")
    demo.send(signal.SIGKILL)

    wait_until(lambda: not workers_of(demo), "the workers to end", 20)
