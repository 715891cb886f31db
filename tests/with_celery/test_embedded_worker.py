"""This is where we see a process get a local worker of its own, whose prints it shows and which ends with it."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from celery import Celery

from taskcache.embedded import acquire, release, worker
from taskcache.embedded.worker import LocalWorker, complete, ensure_worker, stop_worker
from taskcache.errors import DispatchFailed
from tests.nodes.prompt import Prompt, is_running
from tests.nodes.waiting import wait_until

ARGV = ["-A", "tiny_app", "worker", "-Q", "tiny"]
# Of other owners: their tasks must not be taken by the worker of this process.
THEIRS = ["-A", "tiny_app", "worker", "-Q", "theirs"]

# The worker joins the private server that its owner uses; a task speaks through prints and files.
TINY_APP = """
import json, os, pathlib, subprocess, sys, threading, time
from celery import Celery
from taskcache.embedded import acquire

app = Celery("tiny", broker=acquire().broker_url)
app.conf.task_ignore_result = True
app.conf.broker_connection_retry_on_startup = True
together = threading.Barrier(2)

@app.task(name="say")
def say(text):
    print(text)

@app.task(name="look")
def look(file):
    seen = {"cwd": os.getcwd(), "path": sys.path, "PYTHONPATH": os.environ.get("PYTHONPATH"), "pid": os.getpid()}
    pathlib.Path(file).write_text(json.dumps(seen))

@app.task(name="meet")
def meet():
    together.wait(20)
    print("met")

@app.task(name="hold")
def hold(file, seconds):
    sleeper = subprocess.Popen(["sleep", str(seconds)])
    draft = pathlib.Path(file + ".draft")
    draft.write_text(str(sleeper.pid))
    draft.rename(file)
    sleeper.wait()
    print("held to the end", end="")
"""

OWN = f"from taskcache.embedded.worker import ensure_worker, stop_worker; ARGV = {THEIRS!r}"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with the tiny app in which this process works, with a private server of the module's own."""
    place = tmp_path_factory.mktemp("owner")
    (place / "tiny_app.py").write_text(TINY_APP)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime")))
        patch.delenv("TASKCACHE_EMBEDDED", raising=False)
        patch.chdir(place)
        patch.syspath_prepend(str(place))
        acquire()
        yield place
        stop_worker()
        release()


@pytest.fixture(scope="module")
def app(place: Path) -> Iterator[Celery]:
    """A client of the tiny app, which does not know its tasks."""
    with Celery("client", broker=acquire().broker_url, set_as_current=False) as app:
        yield app


@pytest.fixture
def local(place: Path) -> LocalWorker:
    """This process's worker."""
    return ensure_worker(ARGV)


def send(app: Celery, name: str, *arguments: object, queue: str = "tiny") -> None:
    app.send_task(name, arguments, ignore_result=True, queue=queue)


def sleeper_of(file: Path) -> int:
    wait_until(file.exists, "the task to start", timeout=20)
    return int(file.read_text())


# What is shown


def test_prints_of_a_task_appear_in_the_owners_stdout(
    local: LocalWorker, app: Celery, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a task prints is written, as it is and nothing else, to the `sys.stdout` of the owner."""
    send(app, "say", "grüße\nfrom the worker")
    shown = ""

    def is_shown() -> bool:
        nonlocal shown
        shown += capsys.readouterr().out
        return shown.endswith("worker\n")

    wait_until(is_shown, "the print", timeout=20)
    assert "grüße\nfrom the worker\n" == shown


def test_a_replaced_stdout_is_used_from_the_next_line(
    local: LocalWorker, app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines go to what is `sys.stdout` at that moment, as notebooks need; a broken one does no harm."""
    monkeypatch.setattr(sys, "stdout", None)
    send(app, "say", "into nothing")
    page = io.StringIO()
    monkeypatch.setattr(sys, "stdout", page)
    send(app, "say", "on the page")
    wait_until(lambda: "on the page\n" in page.getvalue(), "the print", timeout=20)

    assert local.exit_status is None


def test_the_worker_has_its_owners_directory_and_path(local: LocalWorker, app: Celery, place: Path) -> None:
    """A task works in the owner's directory, finds the owner's modules, and does not pass them on to programs."""
    (place / "seen").unlink(missing_ok=True)
    send(app, "look", str(place / "seen"))
    wait_until(lambda: (place / "seen").exists() and (place / "seen").read_text(), "the task", timeout=20)
    seen = json.loads((place / "seen").read_text())

    assert os.getcwd() == seen["cwd"]
    assert [entry for entry in sys.path if entry] == [entry for entry in seen["path"] if entry in sys.path]
    assert os.environ.get("PYTHONPATH") == seen["PYTHONPATH"]
    assert local.pid == seen["pid"]


def test_two_tasks_run_at_the_same_time(local: LocalWorker, app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    """There are always two threads, so that a function may wait for another one, and their lines do not mix."""
    page = io.StringIO()
    monkeypatch.setattr(sys, "stdout", page)
    send(app, "meet")
    send(app, "meet")

    wait_until(lambda: 2 == page.getvalue().count("met\n"), "both tasks to meet", timeout=20)


def test_there_is_one_worker_per_process(local: LocalWorker) -> None:
    """Asking again gives the running worker."""
    assert local is ensure_worker(ARGV)


def test_another_order_replaces_the_worker(local: LocalWorker) -> None:
    """When the server has changed, and with it the environment of the worker, the old worker is of no use."""
    another = psutil.Process(ensure_worker(ARGV, environment={"TASKCACHE_URL": "redis://another:1/0"}).pid)

    assert local.exit_status is not None
    # The kernel shows it a moment after the start.
    wait_until(lambda: "redis://another:1/0" == another.environ().get("TASKCACHE_URL"), "the worker's environment")
    stop_worker()


def test_a_variable_that_is_set_later_is_none_of_the_workers(local: LocalWorker) -> None:
    """It was started without it, and goes on: a worker that is replaced is ended in the middle of what it does."""
    stop_worker()
    with_none = ensure_worker(ARGV, environment={"TINY": "1"})

    assert with_none is ensure_worker(ARGV, environment={"TINY": "1", "CELERY_CONFIG_MODULE": None})
    stop_worker()


SETTINGS_PROGRAM = """
from taskcache import Cache

cache = Cache(default_timeout=20, lease=30, debug=False)

@cache.cached
def helper(number):
    return number

@cache.cache_async(timeout=60)
def look():
    cache.set("by the worker", 1)
    helper(7)
    redis = cache.station.server.client
    (flight,) = [key for key in redis.scan_iter("*:flight") if b"look" in key]
    keys = flight, cache.make_key("by the worker"), cache.make_key(helper.key_for(7))
    return [redis.pttl(key) for key in keys]

print(*look()(timeout=30))
"""


def test_a_cache_is_there_as_its_owner_has_made_it(place: Path, tmp_path: Path) -> None:
    """Its lease and lifetimes, and whether it stores, whatever the environment says."""
    program = tmp_path / "settings_program.py"
    program.write_text(SETTINGS_PROGRAM)
    ran = subprocess.run(
        [sys.executable, str(program)],
        env={**os.environ, "TASKCACHE_DEBUG": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert 0 == ran.returncode, ran.stderr
    lease_ms, *lifetimes_ms = map(int, ran.stdout.split())

    assert 20_000 < lease_ms <= 30_000
    assert all(0 < lifetime_ms <= 20_000 for lifetime_ms in lifetimes_ms)


# Its life and end


def test_stop_lets_a_running_task_finish(
    local: LocalWorker, app: Celery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task that ends within the grace period is finished and its last words are shown; no process stays."""
    page = io.StringIO()
    monkeypatch.setattr(sys, "stdout", page)
    send(app, "hold", str(tmp_path / "started"), 0.3)
    sleeper = sleeper_of(tmp_path / "started")
    stop_worker()

    assert page.getvalue().endswith("held to the end")
    assert not psutil.pid_exists(local.pid)
    assert not is_running(sleeper)


def test_stop_ends_a_worker_that_does_not_hear(local: LocalWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stopped worker cannot see that it is to end, and is killed when the grace period is over."""
    monkeypatch.setattr(worker, "GRACE_SECONDS", 0)
    os.kill(local.pid, signal.SIGSTOP)
    stop_worker()

    assert not psutil.pid_exists(local.pid)


def test_a_worker_that_died_is_replaced(
    local: LocalWorker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """After SIGKILL of the worker the next dispatch starts another, but not one after the other in a hurry."""
    os.killpg(local.pid, signal.SIGKILL)
    wait_until(lambda: local.exit_status is not None, "the worker to die")
    monkeypatch.setattr(worker, "RESTART_SECONDS", 1000)
    assert local is ensure_worker(ARGV)
    monkeypatch.setattr(worker, "RESTART_SECONDS", 0)
    another = ensure_worker(ARGV)

    assert another.pid != local.pid
    assert "the local worker ended with status -9; starting another" in caplog.messages
    stop_worker()


def test_a_worker_that_cannot_start_says_why(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever waits for a worker that ends at once gets an error, and its output is shown."""
    stop_worker()
    with pytest.raises(DispatchFailed, match="ended with status 2"):
        ensure_worker(["-A", "no_such_module", "worker"], ready=lambda: False)
    stop_worker()

    assert "no_such_module" in capsys.readouterr().out


def test_a_worker_ends_when_its_owner_is_killed(place: Path, app: Celery, tmp_path: Path) -> None:
    """SIGKILL of the owner ends a busy worker after the grace period, and the programs its tasks have started."""
    with Prompt(OWN) as owner:
        pid = owner.ask("ensure_worker(ARGV).pid")
        send(app, "hold", str(tmp_path / "started"), 60, queue="theirs")
        sleeper = sleeper_of(tmp_path / "started")
        owner.kill()

        wait_until(lambda: not is_running(pid), "the worker to end")
        wait_until(lambda: not is_running(sleeper), "the program of the task to end")


def test_a_worker_ends_when_its_owner_is_killed_while_it_boots(place: Path) -> None:
    """The leash holds from the beginning: a worker whose owner is killed at once never comes up."""
    with Prompt(OWN) as owner:
        pid = owner.ask("ensure_worker(ARGV).pid")
        owner.kill()

        wait_until(lambda: not is_running(pid), "the worker to end")


def test_a_worker_ends_when_its_owner_exits(place: Path) -> None:
    """A normal exit of the owner ends the worker before the owner is gone."""
    with Prompt(OWN) as owner:
        pid = owner.ask("ensure_worker(ARGV).pid")
        owner.exit()

        assert not is_running(pid)


def test_a_forked_child_has_a_worker_of_its_own(place: Path) -> None:
    """A forked child neither keeps its parent's worker alive nor uses it, and warns of nothing."""
    with Prompt(OWN) as owner:
        pid = owner.ask("ensure_worker(ARGV).pid")
        childs_worker = owner.ask("in_child('ensure_worker(ARGV).pid')")
        child = owner.ask("stay_in_child()")
        owner.kill()
        try:
            wait_until(lambda: not is_running(pid), "the worker to end")
            wait_until(lambda: not is_running(childs_worker), "the worker of the child that ended to end")
            assert is_running(child)
        finally:
            os.kill(child, signal.SIGKILL)
        assert childs_worker != pid


def test_a_forked_child_that_exits_leaves_the_worker_alone(place: Path) -> None:
    """The exit of a forked child, with all its cleaning up, neither stops its parent's worker nor warns."""
    program = (
        "import os, sys; from taskcache.embedded.worker import ensure_worker\n"
        f"local = ensure_worker({THEIRS!r})\n"
        "child = os.fork()\n"
        "if not child: sys.exit()\n"
        "assert 0 == os.waitpid(child, 0)[1]\n"
        "assert local.exit_status is None\n"
    )
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    said = subprocess.run(
        # Python warns of any fork beside threads since 3.12; here that is what is tried.
        [sys.executable, "-W", "always", "-W", "ignore:This process:DeprecationWarning", "-c", program],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        timeout=30,
    )

    assert (0, "") == (said.returncode, said.stderr)


# What it is told


def test_options_that_are_given_win() -> None:
    """Defaults come right after the command, so that what the caller gives comes later and is taken."""
    words = complete(["-A", "worker", "worker", "-c", "1"])

    assert ["--quiet", "-A", "worker", "worker", "-n"] == words[:5]
    assert words.index("-c") < words.index("1") - 1
    assert "worker_redirect_stdouts=false" == words[-1]
