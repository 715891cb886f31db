"""This is where we start the few threads a process needs, under gevent as real ones where it matters."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any


def start(target: Callable[[], None], name: str) -> None:
    """Run `target` beside the program; a greenlet where gevent has patched threading."""
    threading.Thread(target=target, name=name, daemon=True).start()


def start_native(target: Callable[[], None], name: str) -> None:
    """Run `target` on an operating system thread even under gevent, so that a greenlet that never yields cannot stop it."""
    monkey: Any = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("threading"):
        monkey.get_original("_thread", "start_new_thread")(target, ())
    else:
        start(target, name)
