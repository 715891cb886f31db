"""This is where we see one private server per user start, be shared, and end with its last user."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest
import redis

from taskcache import Cache
from taskcache.embedded import EmbeddedServer, acquire, release, supervisor
from taskcache.embedded.state import read_state, runtime_directory
from taskcache.errors import NoServer
from tests.nodes.prompt import Prompt, is_running
from tests.nodes.waiting import wait_until

JOIN = "from taskcache.embedded import acquire, release"
ACQUIRE = "(lambda server: [server.pid, server.supervisor_pid, server.url])(acquire())"
VARIABLES = ("EMBEDDED", "SERVER", "URL")


def state_file(runtime: Path) -> Path:
    (path,) = runtime.glob("server-*/state.json")
    return path


def ping(server: EmbeddedServer) -> bool:
    with redis.Redis.from_url(server.url) as client:
        return bool(client.ping())


def fake_server(path: Path, version: str, otherwise: str = "exit 1") -> Path:
    path.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo "Redis server v={version} sha=0" && exit\n{otherwise}\n')
    path.chmod(0o755)
    return path


# Starting


def test_a_server_starts_and_says_so(runtime: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The process that starts a server says in one warning that it is private and how to configure another."""
    server = acquire()

    (record,) = [record for record in caplog.records if record.name == "taskcache"]
    assert logging.WARNING == record.levelno
    assert "private" in record.getMessage()
    assert "TASKCACHE_URL" in record.getMessage()
    assert ping(server)


def test_acquiring_again_gives_the_same_server(runtime: Path) -> None:
    """A process has one server, however often it asks."""
    assert acquire() == acquire()


def test_joining_is_silent_and_shares_values_and_secret(runtime: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A second process joins the server of the first without a word, sees its values and has its signing secret."""
    with Prompt(JOIN) as other:
        other.ask('run(\'import redis; redis.Redis.from_url(acquire().url).set("greeting", "hello", ex=60)\')')
        server = acquire()
        with redis.Redis.from_url(server.url) as client:
            greeting = client.get("greeting")

        assert b"hello" == greeting
        assert other.ask("acquire().secret.decode()") == server.secret.decode()
        assert 32 <= len(server.secret)
        assert [] == caplog.records


def test_eight_processes_at_once_start_one_server(runtime: Path) -> None:
    """Of eight processes that acquire at the same time one starts a server and seven join it."""
    prompts = [Prompt(JOIN) for _ in range(8)]
    for prompt in prompts:
        prompt.say("acquire().pid")
    pids = {prompt.answer() for prompt in prompts}
    warnings = [prompt.exit()[1].count("started a private") for prompt in prompts]

    assert 1 == len(pids)
    assert 1 == sum(warnings)


def test_the_broker_has_a_database_of_its_own(runtime: Path) -> None:
    """Flushing the cache's database leaves the broker's messages alone."""
    server = acquire()
    with redis.Redis.from_url(server.url) as cache, redis.Redis.from_url(server.broker_url) as broker:
        broker.rpush("queue", "message")
        cache.flushdb()

        assert 1 == broker.llen("queue")


def test_nothing_is_evicted_or_saved(runtime: Path) -> None:
    """The server refuses writes when it is full, since eviction would drop tasks, and never writes to disk."""
    with redis.Redis.from_url(acquire().url, decode_responses=True) as client:
        config = client.config_get("maxmemory", "maxmemory-policy", "save", "appendonly", "bind")

    expected = {"maxmemory": str(256 * 2**20), "maxmemory-policy": "noeviction", "save": "", "appendonly": "no"}
    assert {**expected, "bind": "127.0.0.1"} == config


# Nobody else gets in


def test_only_the_user_can_read_the_state(runtime: Path) -> None:
    """The directories are 0700 and the state file, which has the password, is 0600, whatever the umask says."""
    umask = os.umask(0)
    try:
        acquire()
    finally:
        os.umask(umask)
    state = state_file(runtime)

    modes = [oct(path.stat().st_mode & 0o777) for path in (runtime, state.parent, state)]
    assert ["0o700", "0o700", "0o600"] == modes


def test_the_password_is_on_no_command_line(runtime: Path) -> None:
    """No process of the machine shows the password or the secret in its arguments; without them nobody gets in."""
    server = acquire()
    state = json.loads(state_file(runtime).read_text())
    lines = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]

    assert not [line for line in lines if state["password"] in line or state["secret"] in line]
    assert state["password"] not in repr(server)
    with socket.create_connection((supervisor.HOST, server.port)) as stranger:
        stranger.sendall(b"PING\r\n")
        assert stranger.recv(100).startswith(b"-NOAUTH")


def test_a_runtime_directory_that_is_a_link_is_refused(runtime: Path, tmp_path: Path) -> None:
    """A symlink where the runtime directory belongs may lead anywhere, and is refused."""
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    runtime.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(NoServer, match="not a directory of ours"):
        acquire()
    runtime.unlink()


def test_a_runtime_directory_open_to_others_is_refused(runtime: Path) -> None:
    """A runtime directory that others may enter is refused, and the message says how to close it."""
    runtime.mkdir()
    runtime.chmod(0o755)

    with pytest.raises(NoServer, match="chmod 700"):
        acquire()
    runtime.rmdir()


def test_a_session_directory_of_another_user_is_not_used(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under sudo XDG_RUNTIME_DIR may be another user's; then the directory for temporary files is used."""
    stranger = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: stranger)

    assert Path(tempfile.gettempdir(), f"taskcache-{stranger}") == runtime_directory()


# Ending


def test_it_ends_with_its_last_user(runtime: Path) -> None:
    """A server outlives the process that started it, and ends when the last one has exited."""
    with Prompt(JOIN) as starter, Prompt(JOIN) as joiner:
        server, supervisor_pid, _ = starter.ask(ACQUIRE)
        assert [server, supervisor_pid] == joiner.ask(ACQUIRE)[:2]
        starter.exit()
        assert is_running(server)
        joiner.exit()

        wait_until(lambda: not is_running(server), "the server to end")
        wait_until(lambda: not is_running(supervisor_pid), "the supervisor to end")


def test_it_ends_with_a_user_that_is_killed(runtime: Path) -> None:
    """SIGKILL of the last user ends the server as an exit does."""
    with Prompt(JOIN) as user:
        server, supervisor_pid, _ = user.ask(ACQUIRE)
        user.kill()

        wait_until(lambda: not is_running(server), "the server to end")
        wait_until(lambda: not is_running(supervisor_pid), "the supervisor to end")


def test_a_killed_supervisor_leaves_no_orphan(runtime: Path) -> None:
    """SIGKILL of the supervisor ends the server and its directory, and its users can start another."""
    first = acquire()
    os.kill(first.supervisor_pid, signal.SIGKILL)
    wait_until(lambda: not is_running(first.pid), "the server to end")
    second = acquire()

    assert second.pid != first.pid
    assert ping(second)


def test_a_supervisor_that_is_told_to_end_cleans_up(runtime: Path) -> None:
    """SIGTERM, as at the shutdown of a machine, ends the server and leaves nothing behind."""
    server = acquire()
    os.kill(server.supervisor_pid, signal.SIGTERM)

    wait_until(lambda: not is_running(server.pid), "the server to end")
    wait_until(lambda: not runtime.exists(), "the runtime directory to be removed")


def test_an_orphan_is_ended_by_the_next_user(runtime: Path) -> None:
    """When the supervisor and its guard are both killed, whoever acquires next ends the server they left."""
    with Prompt(JOIN) as user:
        orphan, supervisor_pid, _ = user.ask(ACQUIRE)
        for process in psutil.Process(supervisor_pid).children():
            if process.pid != orphan:
                process.kill()
        os.kill(supervisor_pid, signal.SIGKILL)
        home = state_file(runtime).parent
        wait_until(lambda: not read_state(home)[1], "the supervisor's lock to be released")
        assert is_running(orphan)
        server = acquire()

        assert server.pid != orphan
        wait_until(lambda: not is_running(orphan), "the orphan to end")


def test_a_killed_guard_changes_nothing(runtime: Path) -> None:
    """Without its guard the supervisor still ends with its last user and cleans up (the fixture looks)."""
    server = acquire()
    for process in psutil.Process(server.supervisor_pid).children():
        if process.pid != server.pid:
            process.kill()
    release()

    wait_until(lambda: not is_running(server.pid), "the server to end")


def test_after_a_killed_server_another_one_starts(runtime: Path) -> None:
    """SIGKILL of the server ends its supervisor, and the same users get a new one by asking again."""
    with Prompt(JOIN) as other:
        first = acquire()
        assert first.pid == other.ask("acquire().pid")
        os.kill(first.pid, signal.SIGKILL)
        wait_until(lambda: not is_running(first.pid), "the server to end")
        second = acquire()

        assert second.pid != first.pid
        assert second.pid == other.ask("acquire().pid")
        wait_until(lambda: not is_running(first.supervisor_pid), "its supervisor to end")


def test_a_forked_child_is_a_user(runtime: Path) -> None:
    """A forked child keeps the server when its parent dies, uses the same one, and ends it when it was the last."""
    with Prompt(JOIN) as parent:
        server, _, _ = parent.ask(ACQUIRE)
        assert server == parent.ask("in_child('acquire().pid')")
        child = parent.ask("stay_in_child()")
        parent.kill()
        with Prompt(JOIN) as other:
            still_there = other.ask("acquire().pid")
        os.kill(child, signal.SIGKILL)

        assert server == still_there
        wait_until(lambda: not is_running(server), "the server to end")


def test_a_program_started_by_a_user_is_no_user(runtime: Path) -> None:
    """A long-running program that a user has started, open files and all, does not keep the server."""
    with Prompt(JOIN) as user:
        server, _, _ = user.ask(ACQUIRE)
        program = user.ask("subprocess.Popen(['sleep', '60'], close_fds=False).pid")
        user.kill()
        try:
            wait_until(lambda: not is_running(server), "the server to end")
            assert is_running(program)
        finally:
            os.kill(program, signal.SIGKILL)


def test_the_starter_gets_no_child_and_no_zombie(runtime: Path) -> None:
    """Neither server nor supervisor is a child of the process that started it, running or dead."""
    with Prompt(JOIN) as user:
        user.ask(ACQUIRE)

        assert [] == psutil.Process(user.process.pid).children(recursive=True)


def test_the_supervisor_needs_only_the_standard_library() -> None:
    """Run by path and isolated, the supervisor imports nothing of ours, so that a start stays fast."""
    program = f"import runpy, sys; runpy.run_path({supervisor.__file__!r}); print('taskcache' in sys.modules)"
    said = subprocess.run([psutil.Process().exe(), "-I", "-S", "-c", program], capture_output=True, text=True)

    assert "False\n" == said.stdout


def test_a_private_server_needs_cloudpickle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it no server is started, and the error says what to install."""
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    monkeypatch.delenv("TASKCACHE_URL", raising=False)
    monkeypatch.delenv("REDIS_URL", raising=False)

    with pytest.raises(NoServer, match=r"pip install 'taskcache\[embedded\]'"):
        Cache(name="without cloudpickle").get("key")
