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
from tests.bench import bare
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


def _mark_worker(folder: Path, seals: tuple[Any, str], sends: tuple[Any, str]) -> None:
    """Write down when the value of a body was sealed, and when that was sent."""
    marks: Marks = {}
    seal, send = getattr(*seals), getattr(*sends)

    def sealed(*args: Any) -> Any:
        marks.clear()
        marks["seals"] = time.monotonic()
        result = seal(*args)
        # Its last argument is the value, which is the moment when the body ended.
        marks.update(body=args[-1], sealed=time.monotonic())
        return result

    def sent(*args: Any) -> Any:
        if "sealed" not in marks:
            return send(*args)
        # Its own: another thread may seal the next before this one has its replies.
        own = {**marks, "sends": time.monotonic()}
        marks.clear()
        result = send(*args)
        # One file for each process: those of a pool write at the same time.
        with (folder / str(os.getpid())).open("a") as file:
            file.write(json.dumps(own) + "\n")
        return result

    setattr(*seals, sealed)
    setattr(*sends, sent)


if "BENCH_TIMELINE" in os.environ:
    _mark_worker(Path(os.environ["BENCH_TIMELINE"]), seals=(Attempt, "seal"), sends=(Wire, "commands"))
    _mark_worker(Path(os.environ["BENCH_TIMELINE"]), seals=(bare, "sealed"), sends=(bare, "publish"))
