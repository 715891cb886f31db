"""This is where we check that servers do not outlive a test process that was killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil

from tests.nodes.process import is_alive
from tests.nodes.waiting import wait_until
from tests.nodes.workers import REPOSITORY

PROGRAM = """
import sys
from tests.nodes.server import ValkeyNode
print(ValkeyNode().start().pid, flush=True)
sys.stdin.read()
"""


def test_a_killed_test_process_takes_its_servers_with_it(tmp_path: Path) -> None:
    """After SIGKILL of the process that started a server, nobody is left to stop it, and it ends all the same."""
    command = [sys.executable, "-c", PROGRAM]
    # Nobody is left to remove the server's folder either, so it lies where pytest does.
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, cwd=REPOSITORY, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        server = psutil.Process(int(run.stdout.readline()))
        assert is_alive(server)
        run.kill()

        wait_until(lambda: not is_alive(server), "the server to end")
