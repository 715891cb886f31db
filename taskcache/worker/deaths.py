"""This is where a worker's main process is told of a pool's process that died, so that it looks at its pool at once."""

from __future__ import annotations

import os
import weakref
from typing import Any, Final

# The event loop of each pool. Celery's own word for it is empty once a broker was lost, and stays so.
_hubs: Final[weakref.WeakKeyDictionary[Any, Any]] = weakref.WeakKeyDictionary()
# The file descriptors by which processes of pools are watched, by their ids.
_watched: Final[dict[int, int]] = {}


def heard_by(consumer: Any) -> None:
    """
    Have this worker's pool look for its dead when one of them is seen.

    Asked when a worker begins, and again when it is back at its broker: Celery empties its event loop when it loses one.
    """
    # Without an event loop a thread of Celery's looks every second.
    if consumer.pool is not None and consumer.hub is not None:
        _hubs[consumer.pool] = consumer.hub
        for pid in list(_watched):
            _listen(consumer.hub, pid)


def watch(pid: int) -> None:
    """
    Watch a process that has begun a task of ours, until it ends.

    Celery listens to a pipe that closes a moment before its process can be waited for. When it looks in that moment it
    sees nobody dead, and looks again five seconds later. A pidfd speaks once there is somebody to wait for.
    """
    # Where there are no pidfds, Celery's own five seconds hold.
    if pid == os.getpid() or not _hubs or not hasattr(os, "pidfd_open"):
        return
    try:
        if pid not in _watched:
            _watched[pid] = os.pidfd_open(pid)
    except OSError:
        return  # it is dead already, or a container forbids the call
    for hub in list(_hubs.values()):
        _listen(hub, pid)


def _listen(hub: Any, pid: int) -> None:
    if _watched[pid] not in hub.readers:
        hub.add_reader(_watched[pid], _gone, pid)


def _gone(pid: int) -> None:
    watched = _watched.pop(pid)
    for hub in list(_hubs.values()):
        hub.remove(watched)
    os.close(watched)
    for pool, hub in list(_hubs.items()):
        # After what else is to be read now: the dead one's last word may be that it has begun.
        hub.call_soon(pool.maintain_pool)
