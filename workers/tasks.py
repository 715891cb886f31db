"""This is where the workers' functions are: those of the demo, and two by which a deployment can be tried."""

from __future__ import annotations

import os
import platform
import time
from typing import Final

from taskcache import Cache, current, progress
from taskcache.cli.demo.measure import Measure
from taskcache.cli.demo.measure import measure as measure_module
from workers import settings
from workers.celery import app

# How often a waiting body looks whether it is still wanted.
LOOK_S: Final = 0.1

cache = Cache(settings.cache_url, app=app)


@cache.cache_async(timeout=3600)
def measure(path: str, digest: str) -> Measure:
    """Measure a Python module that the worker can read; the demo's slow function (prefork: it computes)."""
    return measure_module(path, digest)


# A few seconds, so that it tells who answers now and a dashboard that asks all the time costs nothing.
@cache.cache_async(timeout=5)
def who() -> dict[str, str]:
    """Say who answers: the way to see that calls reach a worker and values come back."""
    return {"host": platform.node(), "pid": str(os.getpid()), "python": platform.python_version()}


@cache.cache_async(timeout=60, queue="io")
def wait(seconds: float, name: str = "") -> float:
    """Wait, and tell how far it is; stands for what waits for others (threads: it computes nothing)."""
    began = time.monotonic()
    while (waited := time.monotonic() - began) < seconds and not current().is_cancelled:
        progress(waited, seconds, name)
        time.sleep(min(LOOK_S, seconds - waited))
    return waited
