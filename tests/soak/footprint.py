"""This is where we count what the processes of a worker hold: threads, open files and connections."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import psutil

if TYPE_CHECKING:
    from tests.nodes.workers import WorkerNode


class Footprint(NamedTuple):
    """The most that any one process of a worker holds; files include sockets and pipes."""

    threads: int
    files: int

    @classmethod
    def of(cls, worker: WorkerNode) -> Footprint:
        """Look at the main process and at every child."""
        threads, files = 0, 0
        for process in [psutil.Process(worker.pid), *worker.pool_processes()]:
            # A child may be replaced while we look.
            with suppress(psutil.NoSuchProcess):
                threads, files = max(threads, process.num_threads()), max(files, process.num_fds())
        return cls(threads, files)
