"""This is where a private server lives: a small process that starts it, waits for its last user, and cleans up.

Run by path as a program of its own, and so with nothing but the standard library: a join-or-start must not cost the
import of a cache. `python -I -S supervisor.py BINARY HOME`; it says `ready`, or what went wrong, on its output.

Who is a user is left to the kernel. Each user process holds a shared flock on the directory HOME, and the supervisor
waits for an exclusive one: it gets it when the last user has gone, by exit or by SIGKILL, on Linux and on macOS.
A forked child shares its parent's lock and so counts for as long as it lives; a program started by exec does not,
since Python opens files close-on-exec.

Who cleans up after whom:
    the last user goes          the supervisor gets the lock, ends the server, removes HOME and ends
    the server is killed        the supervisor was waiting for it too; the same
    the supervisor is killed    the guard, a shell that reads a pipe from it, ends the server and removes HOME
    the guard is killed         nothing happens; the supervisor still cleans up
    all of them are killed      the next process that looks for a server ends the orphan (membership.py)
PR_SET_PDEATHSIG would do part of this on Linux alone; the guard does it everywhere, and survives `pkill -9 python`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import IO

HOST = "127.0.0.1"
STATE_FILE = "state.json"
LOG_FILE = "server.log"

# Between asking the kernel for a free port and the server's bind somebody else may take it; losing ten such races in
# a row means something else is wrong.
PORT_TRIES = 10
# A server is up in 25 ms; a machine that swaps may need seconds.
START_PATIENCE_SECONDS = 10.0
POLL_SECONDS = 0.002

# Values share this memory with the broker's messages, hence no eviction: it would drop queued tasks without a word.
# A cache that is full refuses the write instead, which a caller survives. `save ""`: nothing outlives the last user.
CONFIG = """\
bind {host}
port {port}
requirepass {password}
save ""
appendonly no
maxmemory 256mb
maxmemory-policy noeviction
loglevel warning
"""

# Lines from the supervisor are pids to end (the latest counts) or `done`; end of file without `done` is its death.
GUARD = """\
while read -r word; do
  [ "$word" = done ] && exit
  pid=$word
done
[ -n "$pid" ] && kill -9 "$pid" 2>/dev/null
rm -rf -- "$1"
rmdir -- "$2" 2>/dev/null
"""


class StartFailed(Exception):
    """The server could not be started; the message is what it said."""


def ask(port: int, password: str, *words: str, timeout: float = 1.0) -> bytes:
    """Send one command and return the first line of the reply; raises OSError where no server of ours answers."""
    with socket.create_connection((HOST, port), timeout) as connection:
        connection.sendall(f"AUTH {password}\r\n{' '.join(words)}\r\n".encode())
        with connection.makefile("rb") as replies:
            if replies.readline() != b"+OK\r\n":
                raise ConnectionRefusedError("another server has this port now")
            return replies.readline().strip()


class Guard:
    """A shell that outlives the supervisor just long enough to end the server and remove its directory."""

    def __init__(self, home: str) -> None:
        self._shell = subprocess.Popen(
            ["/bin/sh", "-c", GUARD, "taskcache-guard", home, os.path.dirname(home)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
            bufsize=0,
        )

    def tell(self, word: object) -> None:
        assert self._shell.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the guard was killed; we clean up without it
            self._shell.stdin.write(f"{word}\n".encode())

    def dismiss(self) -> None:
        self.tell("done")
        self._shell.communicate()


def start_server(binary: str, home: str, guard: Guard) -> tuple[subprocess.Popen[bytes], int, str]:
    """Start the server on a free port of the loopback; returns it with its port and password once it answers."""
    log_path = os.path.join(home, LOG_FILE)
    for _ in range(PORT_TRIES):
        port, password = free_port(), os.urandom(24).hex()
        with open(log_path, "wb") as log:
            server = subprocess.Popen([binary, "-"], stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=home)
        guard.tell(server.pid)
        config = CONFIG.format(host=HOST, port=port, password=password)
        is_ready = False
        try:
            # Through a pipe, so that the password is on no command line and in no file of the server.
            assert server.stdin is not None
            with contextlib.suppress(BrokenPipeError), server.stdin:
                server.stdin.write(config.encode())
            is_ready = is_up(server, port, password)
        finally:
            if not is_ready:  # also when we are told to end just now: nobody would find it again
                server.kill()
                server.wait()
        if is_ready:
            return server, port, password
        with open(log_path, errors="replace") as log_text:
            said = log_text.read()[-800:].strip()
        if "already in use" not in said:
            raise StartFailed(said or f"{binary} ended or stayed silent, and wrote nothing")
    raise StartFailed(f"{PORT_TRIES} free ports were taken by others before the server could bind one")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def is_up(server: subprocess.Popen[bytes], port: int, password: str) -> bool:
    deadline = time.monotonic() + START_PATIENCE_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            # Not the whole second: who took our port may accept the connection and stay silent.
            return ask(port, password, "PING", timeout=0.25) == b"+PONG"
        time.sleep(POLL_SECONDS)
    return False


def write_state(home: str, state: dict[str, object]) -> IO[str]:
    """Write the state file, 0600 and complete when it appears; its lock, held by the open file, says that we live."""
    draft = os.path.join(home, STATE_FILE + ".draft")
    file = open(  # noqa: SIM115 - held open, and so locked, until this process ends
        draft, "x", opener=lambda path, flags: os.open(path, flags, 0o600)
    )
    fcntl.flock(file, fcntl.LOCK_EX)
    json.dump(state, file)
    file.flush()
    os.rename(draft, os.path.join(home, STATE_FILE))
    return file


def serve(binary: str, home: str, report: IO[str]) -> None:
    """Run the server until its last user is gone or until it dies, then leave nothing behind."""
    guard, server = Guard(home), None
    try:
        server, port, password = start_server(binary, home, guard)
        state = {
            "supervisor_pid": os.getpid(),
            "server_pid": server.pid,
            "port": port,
            "password": password,
            "secret": os.urandom(32).hex(),
        }
        locked = write_state(home, state)  # noqa: F841 - held to the end of this process
        users = os.open(home, os.O_RDONLY)
        tell_starter(report, "ready")
        threading.Thread(target=end_with_last_user, args=(users, server), daemon=True).start()
        server.wait()
    finally:
        if server is not None:
            server.kill()
            server.wait()
        shutil.rmtree(home, ignore_errors=True)
        # Not empty: another server is starting or running there.
        with contextlib.suppress(OSError):
            os.rmdir(os.path.dirname(home))
        guard.dismiss()


def end_with_last_user(users: int, server: subprocess.Popen[bytes]) -> None:
    fcntl.flock(users, fcntl.LOCK_EX)
    server.kill()  # not SIGTERM: there is nothing to save, and it would only be heard at the server's next tick


def tell_starter(report: IO[str], word: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # it may be dead, or know already
        report.write(word)
        report.close()


def main(arguments: Sequence[str]) -> None:
    binary, home = arguments
    # Twice forked, we are no child of the process that happened to start us: it neither gets a SIGCHLD it does not
    # know, nor keeps a zombie of us, nor waits for us when it waits for all its children.
    if os.fork():
        os._exit(0)
    for unwanted in (signal.SIGINT, signal.SIGHUP):
        signal.signal(unwanted, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    report = os.fdopen(os.dup(1), "w")
    silence = os.open(os.devnull, os.O_RDWR)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    try:
        serve(binary, home, report)
    except (StartFailed, OSError) as error:
        tell_starter(report, str(error))
    os._exit(0)  # the thread that waits for users is of no use any more


if __name__ == "__main__":
    main(sys.argv[1:])
