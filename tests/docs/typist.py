"""This is where somebody types at a plain Python prompt, one line after the other, and reads what it says."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

# Signs that no output holds, in the place of `>>> ` and `... `: what a worker prints may come at any moment.
_READY, _MORE = "\x02", "\x03"
_SAY_SO = f"import sys; sys.ps1, sys.ps2 = {_READY!r}, {_MORE!r}; del sys"


class Typist:
    """`python -i` in a folder; what it prints is read as a person does, who waits for what is to come."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-i", "-q", "-u"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=dict(environment),
        )
        self._said = ""
        self._line(_SAY_SO)
        self._prompt()
        self._said = ""

    def type(self, lines: Sequence[str], until: Callable[[str], bool], timeout: float) -> str:
        """Type a statement, wait until what it says is `until`, or for `timeout` seconds, and give what it said."""
        for line in lines:
            self._line(line)
            prompt = self._prompt()
        if prompt == _MORE:  # the empty line that ends a block
            self._line("")
            self._prompt()
        self._read_until(lambda: until(self._said), timeout)
        said, self._said = self._said, ""
        return said

    def leave(self) -> str:
        """End the input, as Ctrl-D does; gives what was said since."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._read_until(lambda: False, 30)
            status = self._process.wait(10)
        finally:
            self.end()
        assert status == 0, f"the prompt ended with {status}"
        return self._said.replace(_READY, "")

    def end(self) -> None:
        """Kill the prompt if it is still there."""
        self._process.kill()
        self._process.wait(10)
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()

    def _line(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())
        self._process.stdin.flush()

    def _prompt(self) -> str:
        self._read_until(lambda: _READY in self._said or _MORE in self._said, 60)
        for prompt in (_READY, _MORE):
            if prompt in self._said:
                self._said = self._said.replace(prompt, "", 1)
                return prompt
        raise AssertionError(f"no prompt came back; it said:\n{self._said}")

    def _read_until(self, is_enough: Callable[[], bool], timeout: float) -> None:
        assert self._process.stdout is not None
        end = time.monotonic() + timeout
        while not is_enough() and (left := end - time.monotonic()) > 0:
            if select.select([self._process.stdout], [], [], left)[0]:
                chunk = os.read(self._process.stdout.fileno(), 65536)
                if not chunk:
                    return
                self._said += chunk.decode(errors="replace")
