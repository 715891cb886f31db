"""This is where a worker's main process is told of a pool's process that died, so that it looks at its pool at once."""

from __future__ import annotations

import os
import weakref
from typing import Any, Final

from kombu.asynchronous import get_event_loop

_pools: Final[weakref.WeakSet[Any]] = weakref.WeakSet()
# The file descriptors by which processes of pools are watched, by their ids.
_watched: Final[dict[int, int]] = {}


def heard_by(pool: Any) -> None:
    """Have this pool look for its dead when one of them is seen."""
    if pool is not None:
        _pools.add(pool)


def watch(pid: int) -> None:
    """
    Watch a process that has begun a task of ours, until it ends.

    Celery listens to a pipe that closes a moment before its process can be waited for. When it looks in that moment it
    sees nobody dead, and looks again five seconds later. A pidfd speaks once there is somebody to wait for.
    """
    hub = get_event_loop()
    # Without a hub a thread of Celery's looks every second; where there are no pidfds, its own five seconds hold.
    if hub is None or not _pools or pid == os.getpid() or not hasattr(os, "pidfd_open"):
        return
    if _watched.get(pid) in hub.readers:
        return
    try:
        if pid not in _watched:
            _watched[pid] = os.pidfd_open(pid)
        # Once more after a broker was lost: Celery empties its hub then.
        hub.add_reader(_watched[pid], _gone, hub, pid)
    except OSError:
        pass  # it is dead already, or a container forbids the call


def _gone(hub: Any, pid: int) -> None:
    watched = _watched.pop(pid)
    hub.remove(watched)
    os.close(watched)
    for pool in list(_pools):
        pool.maintain_pool()
