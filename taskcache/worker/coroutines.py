"""This is where a worker runs the body of an `async def`, in whichever pool it is."""

from __future__ import annotations

import contextvars
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

from taskcache.drivers import asyncio as driver

T = TypeVar("T")


def run_to_end(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on a loop of its own; under gevent in a real thread, since greenlets share one thread's loop."""
    monkey: Any = sys.modules.get("gevent.monkey")
    if monkey is None or not monkey.is_module_patched("threading"):
        return driver.run_to_end(coroutine)
    import gevent

    context = contextvars.copy_context()
    value: T = gevent.get_hub().threadpool.apply(context.run, (driver.run_to_end, coroutine))
    return value
