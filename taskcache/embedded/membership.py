"""This is where a process becomes a user of the private server: it joins the one that runs, or starts it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

from taskcache.embedded import supervisor
from taskcache.embedded.address import EmbeddedServer
from taskcache.embedded.binary import ServerBinary, find_server
from taskcache.embedded.state import PREFIX, State, homes, is_same, read_state, start_lock, try_lock
from taskcache.errors import NoServer
from taskcache.events import logger


@dataclass(frozen=True, slots=True)
class _Membership:
    """The lock that makes us a user of a server; a forked child shares it, and holds it for as long as it lives."""

    lock: int
    password: str
    server: EmbeddedServer

    def is_alive(self) -> bool:
        return _answers(self.server.port, self.password)

    def end(self) -> None:
        os.close(self.lock)  # never LOCK_UN: that would end the membership of our forked children too


_held: _Membership | None = None
# Held while we join or start, and by fork(): no child may inherit a start that is half done.
_lock = threading.RLock()


def join_or_start() -> EmbeddedServer:
    """Return the server this process uses; joins or starts one when it uses none, or when that one has died."""
    global _held
    started: ServerBinary | None = None
    with _lock:
        if _held is not None and _held.is_alive():
            return _held.server
        leave()
        while _held is None:
            with start_lock() as runtime:
                members = (_join(home) for home in homes(runtime))
                _held = next((member for member in members if member is not None), None)
                if _held is None:
                    started = find_server()
                    _held = _start(started, runtime)
        server = _held.server
    if started is not None:
        logger.warning(
            "no server is configured: started a private one for this user on this machine only (%s %s on port %d). "
            "It ends with the last process that uses it and keeps nothing. "
            "Set TASKCACHE_URL=redis://host:6379/0 to share values with other machines and users.",
            started.path.name,
            started.version,
            server.port,
        )
    return server


def leave() -> None:
    """Stop being a user. Not needed at exit: the kernel does it for every process, however it ends."""
    global _held
    with _lock:
        if _held is not None:
            _held.end()
            _held = None


def _join(home: Path) -> _Membership | None:
    """Become a user of the server that has this home, unless it is ending; removes what a dead one has left."""
    try:
        lock = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    state, is_supervised = read_state(home)
    if state is None or not is_supervised:
        _reap(home, lock, state)
    elif try_lock(lock, fcntl.LOCK_SH) and is_same(lock, home) and _answers(state.port, state.password):
        return _member(lock, state)
    os.close(lock)
    return None


def _reap(home: Path, lock: int, state: State | None) -> None:
    """End an orphaned server and remove its home; called under the start lock, so nobody else is starting there."""
    if state is not None:
        # Asked for by its password, not killed by its number, which may belong to anybody by now.
        with contextlib.suppress(OSError):
            supervisor.ask(state.port, state.password, "SHUTDOWN", "NOSAVE")
    elif not try_lock(lock, fcntl.LOCK_EX):
        return  # its starter died, its supervisor has not noticed yet, or ours is not the version that wrote the state
    shutil.rmtree(home, ignore_errors=True)


def _start(binary: ServerBinary, runtime: Path) -> _Membership | None:
    """Start a supervisor and wait until its server answers; we are its first user before it begins.

    Returns None when the guard of a dead server removed the empty runtime directory after we had locked it.
    """
    if not sys.executable:
        raise NoServer("this Python does not know its own program (sys.executable), so it cannot start a supervisor")
    try:
        home = Path(tempfile.mkdtemp(prefix=PREFIX, dir=runtime))
    except FileNotFoundError:
        return None
    lock = os.open(home, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(lock, fcntl.LOCK_SH)
    try:
        with subprocess.Popen(
            [sys.executable, "-I", "-S", supervisor.__file__, os.fspath(binary.path), os.fspath(home)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            cwd="/",  # it may outlive us, and must not keep our directory from being unmounted
            start_new_session=True,  # nor be reached by the Ctrl-C meant for us
        ) as starting:
            assert starting.stdout is not None
            said = starting.stdout.read()
        state, _ = read_state(home)
        if said != b"ready" or state is None:
            raise NoServer(f"{binary.path} was started and did not come up: {said.decode(errors='replace')}")
    except BaseException:
        os.close(lock)  # and with its last user the supervisor ends, if there is one
        shutil.rmtree(home, ignore_errors=True)
        raise
    return _member(lock, state)


def _member(lock: int, state: State) -> _Membership:
    address = f"redis://:{state.password}@{supervisor.HOST}:{state.port}"
    server = EmbeddedServer(
        url=f"{address}/0",
        broker_url=f"{address}/1",
        secret=state.secret.encode(),
        pid=state.server_pid,
        supervisor_pid=state.supervisor_pid,
        port=state.port,
    )
    return _Membership(lock, state.password, server)


def _answers(port: int, password: str) -> bool:
    try:
        supervisor.ask(port, password, "PING")
    except TimeoutError:
        return True  # busy or stopped, which is not dead
    except OSError:
        return False
    return True


def _renew_lock_in_child() -> None:
    global _lock
    _lock = threading.RLock()


def _before_fork() -> None:
    _lock.acquire()


def _after_fork_in_parent() -> None:
    _lock.release()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_renew_lock_in_child)
