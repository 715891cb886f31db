"""This is where a user's processes find their private server: a directory that nobody else may enter.

    <runtime>/                  0700; flock exclusive: somebody looks for a server or starts one
    <runtime>/server-XXXXXXXX/  0700; flock shared: one of its users; exclusive: its last user is gone
        state.json              0600; flock exclusive: its supervisor lives
        server.log              what the server said

Locks, not pids: a lock ends with its process, and no other process ever inherits its number. Each server has a
directory of its own, so that removing one can never remove what the next one has just written.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from taskcache.embedded.supervisor import STATE_FILE
from taskcache.errors import NoServer
from taskcache.settings import read_environment

PREFIX: Final = "server-"
# A start takes about 0.1 s under this lock; only a stopped process holds it for longer.
_LOCK_PATIENCE_SECONDS: Final = 15.0
_LOCK_POLL_SECONDS: Final = 0.003


@dataclass(frozen=True, slots=True)
class State:
    """What the supervisor wrote about its server."""

    supervisor_pid: int
    server_pid: int
    port: int
    password: str = field(repr=False)
    secret: str = field(repr=False)


def runtime_directory() -> Path:
    """Name this user's runtime directory; it may not exist."""
    session = read_environment().runtime_dir
    # Under `sudo` and `su` the variable may still name the directory of somebody else.
    with contextlib.suppress(OSError):
        if session is not None and os.stat(session).st_uid == os.getuid():
            return Path(session, "taskcache")
    return Path(tempfile.gettempdir(), f"taskcache-{os.getuid()}")


@contextlib.contextmanager
def start_lock() -> Iterator[Path]:
    """Make the runtime directory and hold its lock: only one process at a time looks for a server or starts one."""
    runtime = runtime_directory()
    deadline = time.monotonic() + _LOCK_PATIENCE_SECONDS
    while True:
        try:
            with contextlib.suppress(FileExistsError):
                runtime.mkdir(mode=0o700)
        except OSError as error:
            raise NoServer(
                f"{runtime} cannot be made ({error.strerror}); set TMPDIR to a directory of yours"
            ) from error
        try:
            directory = os.open(runtime, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except FileNotFoundError:
            continue  # the last user of a server removed it just now
        except OSError as error:
            raise NoServer(f"{runtime} is not a directory of ours ({error.strerror}); remove it") from error
        try:
            _refuse_foreign(runtime, os.fstat(directory))
            if try_lock(directory, fcntl.LOCK_EX) and is_same(directory, runtime):
                try:
                    yield runtime
                finally:
                    with contextlib.suppress(OSError):  # not empty: a server lives there, as it should
                        runtime.rmdir()
                return
        finally:
            # Said, not left to close(): a child forked meanwhile by other means than Python's holds the lock as well.
            fcntl.flock(directory, fcntl.LOCK_UN)
            os.close(directory)
        if time.monotonic() > deadline:
            raise NoServer(f"another process has been starting a private server in {runtime} for too long; end it")
        time.sleep(_LOCK_POLL_SECONDS)


def homes(runtime: Path) -> list[Path]:
    """List the directories of servers, living and dead."""
    with contextlib.suppress(FileNotFoundError):
        return sorted(home for home in runtime.iterdir() if home.name.startswith(PREFIX))
    return []


def _refuse_foreign(path: Path, status: os.stat_result) -> None:
    if status.st_uid != os.getuid():
        raise NoServer(f"{path} belongs to another user, who could read and replace what we cache; have it removed")
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise NoServer(f"{path} is open to other users; run `chmod 700 {path}`")


def try_lock(file: int, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_same(directory: int, path: Path) -> bool:
    """Say whether the path still names the open directory, or was removed or replaced before we had its lock."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(directory), os.stat(path, follow_symlinks=False))
    return False


def read_state(home: Path) -> tuple[State | None, bool]:
    """Read a server's state file; the second part says whether its supervisor lives. None: nothing (complete) there."""
    try:
        with open(home / STATE_FILE) as file:
            state = State(**json.load(file))
            return state, not try_lock(file.fileno(), fcntl.LOCK_SH)
    except (OSError, ValueError, TypeError):  # ValueError, TypeError: written by a version of ours with other fields
        return None, False
