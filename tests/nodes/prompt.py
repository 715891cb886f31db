"""This is where a test gets a Python prompt in a process of its own, to type into, to fork and to kill."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from types import TracebackType
from typing import Any

import psutil

from tests.nodes.process import is_alive

_PROGRAM = """
import json, os, signal, subprocess, sys

def stay_in_child():
    child = os.fork()
    while not child:
        signal.pause()
    return child

def in_child(expression):
    reads, writes = os.pipe()
    child = os.fork()
    if not child:
        os.write(writes, json.dumps(eval(expression)).encode())
        os._exit(0)
    os.close(writes)
    with open(reads) as answer:
        return json.load(answer)

def run(statement):
    exec(statement, globals())

answers = os.fdopen(int(sys.argv[1]), "w")
for line in sys.stdin:
    print(json.dumps(eval(line)), file=answers, flush=True)
"""


class Prompt:
    """A Python process that evaluates what it is asked; its end of input is a normal exit."""

    def __init__(self, statement: str = "pass") -> None:
        reads, writes = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, str(writes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[writes],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(entry or os.getcwd() for entry in sys.path)},
        )
        os.close(writes)
        self._answers = os.fdopen(reads)
        self.say(f"run({statement!r})")
        self._is_greeted = False

    def ask(self, expression: str) -> Any:
        """Evaluate an expression there; what it gives must be known to JSON."""
        self.say(expression)
        return self.answer()

    def say(self, expression: str) -> None:
        """Type an expression and do not wait for its answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{expression}\n".encode())
        self.process.stdin.flush()

    def answer(self) -> Any:
        """Read the answer to the oldest expression that has none yet."""
        if not self._is_greeted:  # not waited for at the start, so that many prompts start at the same time
            self._is_greeted = True
            self.answer()
        line = self._answers.readline()
        assert line, f"the prompt died: {self.process.communicate()[1].decode()}"
        return json.loads(line)

    def exit(self) -> tuple[str, str]:
        """End as a user does, with the end of input; returns what it wrote to stdout and stderr."""
        self._answers.close()
        out, err = self.process.communicate(timeout=10)
        return out.decode(), err.decode()

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._answers.close()
        self.process.kill()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
        self.process.wait()

    def __enter__(self) -> Prompt:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.returncode is None:
            self.kill()


def is_running(pid: int) -> bool:
    """Whether the process lives; one that is dead and not reaped does not."""
    try:
        return is_alive(psutil.Process(pid))
    except psutil.NoSuchProcess:
        return False
