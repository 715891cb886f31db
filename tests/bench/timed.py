"""This is where the worker of `tests.bench.timeline` is: that of the benchmark, which writes down when it did what."""

from __future__ import annotations

import functools
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from taskcache.calls.computing import Attempt
from taskcache.drivers.wire import Wire
from tests.bench.app import app

__all__ = ["app", "marked"]

Marks = dict[str, float]


def marked(owner: Any, name: str, marks: Marks, before: str = "", after: str = "") -> None:
    """Have a method note when it begins and when it is over."""
    method: Callable[..., Any] = getattr(owner, name)

    @functools.wraps(method)
    def timed(*args: Any, **kwargs: Any) -> Any:
        if before:
            marks[before] = time.monotonic()
        result = method(*args, **kwargs)
        if after:
            marks[after] = time.monotonic()
        return result

    setattr(owner, name, timed)


def _mark_worker(folder: Path) -> None:
    marks: Marks = {}
    seal, commands = Attempt.seal, Wire.commands

    def sealed(self: Attempt, value: Any) -> Any:
        marks.clear()
        marks["seals"] = time.monotonic()
        result = seal(self, value)
        marks.update(body=value, sealed=time.monotonic())
        return result

    def sent(self: Wire, packed: bytes, count: int) -> list[Any]:
        if "sealed" not in marks:
            return commands(self, packed, count)
        # Its own: another thread may seal the next before this one has its replies.
        own = {**marks, "sends": time.monotonic()}
        marks.clear()
        replies = commands(self, packed, count)
        # One file for each process: those of a pool write at the same time.
        with (folder / str(os.getpid())).open("a") as file:
            file.write(json.dumps(own) + "\n")
        return replies

    Attempt.seal, Wire.commands = sealed, sent  # type: ignore[method-assign]  # only in this process


if "BENCH_TIMELINE" in os.environ:
    _mark_worker(Path(os.environ["BENCH_TIMELINE"]))
