"""This is where a worker's main process keeps the leases of its running tasks, whatever its pool's children do."""

from __future__ import annotations

import os
from typing import Any

from taskcache.drivers.renewer import Renewer
from taskcache.drivers.topology import Server

_renewers: dict[tuple[int, int], Renewer] = {}


def renewer_of(function: Any) -> Renewer:
    """The renewer of the server that a function's values go to: one operating system thread for all its tasks."""
    station = function.cache.station
    key = (os.getpid(), id(station))
    found = _renewers.get(key)
    if found is None:
        # A client of its own: under gevent this thread is a real one and must not share sockets with greenlets.
        found = _renewers[key] = Renewer(
            lambda: Server(station.server.copy_client()), function.cache.settings.lease_ms, native=True
        )
    return found
