"""This is where we make sure that no node outlives the test process, however that process ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys

# The guard lives on the reading end of a pipe. When the test process is gone, even by SIGKILL, the pipe closes and the
# guard ends every session still on its list. PR_SET_PDEATHSIG would need preexec_fn (unsafe beside threads) and Linux.
_PROGRAM = """
import os, signal, sys
alive = set()
for line in sys.stdin:
    (alive.add if line[0] == "+" else alive.discard)(int(line[1:]))
for leader in alive:
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        pass
"""

_guard: subprocess.Popen[str] | None = None


def watch(leader: int) -> None:
    """End the session led by process `leader` when this process ends first."""
    _tell(f"+{leader}\n")


def unwatch(leader: int) -> None:
    """Forget `leader`: its session has ended, and its number may be given to somebody else."""
    _tell(f"-{leader}\n")


def guard_pid() -> int | None:
    """Give the guard's own process id, for those who look for left-over processes."""
    return _guard.pid if _guard else None


def close() -> None:
    """End the guard; what it still watches is killed."""
    global _guard
    if _guard is not None:
        guard, _guard = _guard, None
        guard.communicate(timeout=10)


def end_session(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL every process of the session that `process` leads and reap the leader."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)
    unwatch(process.pid)


def _tell(line: str) -> None:
    global _guard
    if _guard is None:
        command = [sys.executable, "-I", "-S", "-c", _PROGRAM]
        _guard = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, start_new_session=True)
    assert _guard.stdin is not None
    _guard.stdin.write(line)
    _guard.stdin.flush()
