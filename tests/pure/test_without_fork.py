"""This is where taskcache is imported by a Python that cannot fork, as on Windows."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import os, sys

del os.fork, os.register_at_fork
for name in ("fcntl", "grp", "pwd", "resource", "termios"):
    sys.modules[name] = None

import taskcache
import taskcache.worker

@taskcache.Cache("redis://localhost:1/0", debug=True).cached()
def f(number):
    return number + 1

print(f(1))
"""


def test_it_is_imported_and_decorates() -> None:
    """Nothing at the top of a module needs what only POSIX has."""
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60)

    assert ("2\n", "") == (ran.stdout, ran.stderr)
