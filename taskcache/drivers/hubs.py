"""This is where we tell the hubs of gevent apart: a socket, a lock and an event loop belong to one real thread."""

from __future__ import annotations

import contextvars
import sys
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def are_used() -> bool:
    """True where gevent has patched threads."""
    monkey: Any = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


def is_apart() -> bool:
    """True on a real thread beside the one whose hub runs the program: nothing made over there may be used here."""
    if not are_used():
        return False
    import gevent

    return not gevent.get_hub().main_hub


def run_apart(function: Callable[[], T]) -> T:
    """Run something on a real thread with a hub that ends with it; other greenlets go on meanwhile."""
    import gevent

    value: T = gevent.get_hub().threadpool.apply(contextvars.copy_context().run, (_with_own_hub, function))
    return value


def _with_own_hub(function: Callable[[], T]) -> T:
    import gevent

    hub = gevent.get_hub()
    try:
        return function()
    finally:
        # With it go the greenlets and connections that the function's calls have started here.
        hub.destroy(destroy_loop=True)
