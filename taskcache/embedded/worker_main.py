"""This is where a local worker begins: it takes over its owner's sys.path, ties itself to the owner and runs Celery.

Run by path, `python worker_main.py PIPE CELERY_ARGUMENTS...`, with only the standard library until sys.path is set.
sys.path comes through the pipe and not in PYTHONPATH, which every program that a task starts would inherit too.
"""

from __future__ import annotations

import io
import json
import os
import sys
import warnings


def main() -> None:
    pipe = int(sys.argv[1])
    os.set_inheritable(pipe, False)
    # Not named `celery`: inside an ordinary worker a private server is refused, but this one shares its owner's.
    sys.argv = [sys.argv[0], *sys.argv[2:]]
    # Also drops the directory of this file, whose modules are not to be imported by their short names.
    sys.path[:] = json.loads(_first_line(pipe))

    from taskcache.embedded import leash

    leash.tie(pipe)
    # By lines and not unbuffered, not even where PYTHONUNBUFFERED=1 asks for it: print() would write a text and its
    # newline apart, and the lines of two threads run into each other.
    for stream in (sys.stdout, sys.stderr):
        assert isinstance(stream, io.TextIOWrapper)
        stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True, write_through=False)
    # Right in production, noise in somebody's notebook: this worker has the rights of the process that started it.
    warnings.filterwarnings("ignore", message="You're running the worker with superuser privileges")

    from celery.__main__ import main as celery

    celery()


def _first_line(pipe: int) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        # Byte by byte: the leash reads the pipe after us. Nothing at all means that the owner is dead already.
        byte = os.read(pipe, 1)
        if not byte:
            sys.exit(1)
        line += byte
    return line


if __name__ == "__main__":
    main()
