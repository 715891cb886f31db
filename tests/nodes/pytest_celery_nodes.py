"""This is where pytest-celery's `celery_setup` runs on processes of this machine instead of Docker containers."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import redis
from pytest_celery import CeleryTestWorker, CeleryWorkerContainer, RedisContainer

from tests.nodes.process import SessionProcess
from tests.nodes.server import ValkeyNode, free_port
from tests.nodes.waiting import wait_until
from tests.nodes.workers import REPOSITORY


class ProcessContainer:
    """
    What docker-py calls a container, made of one session of processes.

    pytest-celery reaches Docker only through the object that its containers wrap. Replacing that object leaves its
    nodes, clusters and fixtures as they are, and a test cannot tell the difference.
    """

    def __init__(self, name: str, command: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> None:
        self.id = uuid.uuid4().hex
        self.name = f"{name}-{self.id[:6]}"
        self.command = [word.replace("{id}", self.id[:12]) for word in command]
        self.cwd = cwd
        self.env = {**os.environ, **env}
        self.log_path = cwd / f"{self.name}.log"
        self.labels: dict[str, str] = {}
        # Without networks and published ports, docker-tools' own check for readiness asks for nothing more.
        self.attrs: dict[str, Any] = {
            "Config": {"Hostname": "127.0.0.1", "Env": [f"{key}={value}" for key, value in self.env.items()]},
            "NetworkSettings": {"Networks": {}, "Ports": {}},
            "HostConfig": {"PortBindings": {}},
        }
        self.session: SessionProcess
        self._is_paused = False
        self.start()

    @property
    def status(self) -> str:
        """Give Docker's word for how it is: running, paused or exited."""
        if not self.session.is_running:
            return "exited"
        return "paused" if self._is_paused else "running"

    def start(self) -> None:
        """Start the program; its log goes on in the same file."""
        self.session = SessionProcess(self.command, cwd=self.cwd, env=self.env, log_path=self.log_path)
        self._is_paused = False

    def reload(self) -> None:
        """Do nothing: what Docker caches here, we look up."""

    def kill(self, signal_name: str | int | None = None) -> None:
        """Send a signal as Docker does: SIGKILL ends the whole container, any other goes to its first process."""
        name = signal_name or "SIGKILL"
        number = signal.Signals[name] if isinstance(name, str) else signal.Signals(name)
        if number == signal.SIGKILL:
            self.session.kill()
        else:
            self.session.send(number)

    def stop(self, timeout: float = 10) -> None:
        """End the program warmly, and what is left of it at once."""
        try:
            self.session.terminate(timeout)
        except AssertionError:
            # Docker kills what does not stop in time and says nothing.
            return

    def restart(self, timeout: float = 10) -> None:
        """Stop and start."""
        self.stop(timeout)
        self.start()

    def pause(self) -> None:
        """Freeze all processes."""
        self.session.pause()
        self._is_paused = True

    def unpause(self) -> None:
        """Let them go on."""
        self.session.resume()
        self._is_paused = False

    def logs(self, **_: object) -> bytes:
        """Read all that was printed, over all restarts."""
        return self.log_path.read_bytes()

    def exec_run(self, cmd: str | list[str], **_: object) -> tuple[int, bytes]:
        """Run a program beside the first one, in its folder and environment."""
        words = shlex.split(cmd) if isinstance(cmd, str) else list(cmd)
        if words[0] == "python":
            words[0] = sys.executable
        ran = subprocess.run(words, cwd=self.cwd, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return ran.returncode, ran.stdout

    def remove(self) -> None:
        """End it for good."""
        self.session.kill()


class _ReadyByLog:
    """
    Wait for the ready message of this start only, many times a second.

    Docker's log goes on over restarts, so pytest-celery finds the message of the start before and returns too early.
    """

    _container: ProcessContainer
    ready_prompt: str

    def _wait_ready(self, timeout: float = 30) -> bool:
        session = self._container.session
        wait_until(
            lambda: self.ready_prompt in session.log() or not session.is_running,
            f"{self._container.name} to say {self.ready_prompt!r}",
            timeout,
        )
        return session.is_running


class ValkeyContainer(_ReadyByLog, RedisContainer):
    """pytest-celery's Redis, as a Valkey process on a port of its own."""

    _port: int

    @classmethod
    def launch(cls, folder: Path) -> ValkeyContainer:
        """Start it in `folder`."""
        port = free_port()
        options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
        # The first word of the command is Docker's name of the program.
        command = [str(ValkeyNode.binary()), *cls.command()[1:], *options]
        container = cls(ProcessContainer("valkey", command, cwd=folder, env={}))
        container._port = port
        return container

    @property
    def port(self) -> int:
        """The port as tests reach it: there is no other here."""
        return self._port

    @property
    def url(self) -> str:
        """The address as workers reach it: they live on the same loopback as the test."""
        return f"redis://127.0.0.1:{self.port}/{self.vhost}"

    @property
    def host_url(self) -> str:
        """The address as tests reach it."""
        return self.url

    def empty(self) -> None:
        """Make it running and empty, whatever the last test did to it."""
        if self.status == "paused":
            self._container.unpause()
        if self.status != "running":
            self._container.start()
            self._wait_ready()
        with redis.Redis(port=self.port) as client:
            client.flushall()


class WorkerContainer(_ReadyByLog, CeleryWorkerContainer):
    """pytest-celery's worker, as processes that run this interpreter with the code of this repository."""

    @classmethod
    def command(cls, *args: str, **options: Any) -> list[str]:
        """Give the worker's command line; `{id}` becomes what Docker would have made its host name."""
        words = super().command("--without-mingle", "--without-gossip", *args, **options)
        words[words.index("-n") + 1] = f"{cls.worker_name()}@{{id}}"
        return [sys.executable, "-m", *words]

    @classmethod
    def launch(
        cls, folder: Path, *, content: Mapping[str, bytes], env: Mapping[str, str], command: Sequence[str]
    ) -> WorkerContainer:
        """Write the worker's files to `folder` and start it there."""
        for name, text in content.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text)
        path_env = {"PYTHONPATH": os.pathsep.join([str(folder), str(REPOSITORY)])}
        return cls(ProcessContainer("worker", command, cwd=folder, env={**env, **path_env}))


class ProcessWorker(CeleryTestWorker):
    """pytest-celery's worker node, which sees its own processes only."""

    def get_running_processes_info(
        self, columns: list[str] | None = None, filters: dict[str, str] | None = None
    ) -> list[dict[str, Any]]:
        """List the processes of this worker: in a container there are no others, on this machine there are."""
        wanted = [*columns, "pid"] if columns else None
        members = {process.pid for process in self.container._container.session.members()}
        found: list[dict[str, Any]] = super().get_running_processes_info(wanted, filters)
        return [process for process in found if process["pid"] in members]
