"""This is where the demo and its workers meet: one Celery app, one cache, one function, and a tally of what really ran."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Final

from celery import Celery

from taskcache.cache import Cache
from taskcache.cli.demo.measure import Measure, measure
from taskcache.decorators import AsyncFunction
from taskcache.drivers.topology import Server
from taskcache.protocol.steps import Call

WORKER: Final = "taskcache.cli.demo.worker"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a meeting is; it travels to the workers in their environment."""

    # Names the cache and the queue: two demos at once do not meet.
    name: str
    url: str
    broker_url: str
    secret: str

    def as_environment(self) -> dict[str, str]:
        """The variables of a worker."""
        return {
            "TASKCACHE_DEMO": self.name,
            "TASKCACHE_URL": self.url,
            "TASKCACHE_SECRET": self.secret,
            "CELERY_BROKER_URL": self.broker_url,
        }

    @classmethod
    def of_worker(cls) -> Place:
        """What the demo told this worker."""
        told = os.environ
        return cls(told["TASKCACHE_DEMO"], told["TASKCACHE_URL"], told["CELERY_BROKER_URL"], told["TASKCACHE_SECRET"])


@dataclass(frozen=True, slots=True)
class Tally:
    """Counters on the server, written by the workers: what ran is counted where it runs, not concluded."""

    # Not the cache that is emptied between two phases.
    cache: Cache

    def add(self, what: str, node: str) -> None:
        """Count one; lasting, so read differences."""
        self.cache.incr(f"{what}:{node}")

    def read(self, what: str, *nodes: str) -> int:
        """What these workers counted together."""
        return sum(self.cache.get_many([f"{what}:{node}" for node in nodes]).values())

    def computing(self, node: str) -> int:
        """How many computations this worker has begun and not ended."""
        return self.read("began", node) - self.read("ended", node)


@dataclass(frozen=True, slots=True)
class Meeting:
    """What both ends have."""

    place: Place
    app: Any
    cache: Cache
    tally: Tally
    measure: AsyncFunction[[str, str], Measure]

    def leave(self) -> None:
        """Close, and remove all that is ours: another process may go on using this server."""
        self.cache.close()
        self.tally.cache.close()
        name = self.place.name.encode()
        for url in (self.place.url, self.place.broker_url):
            server = Server(url)
            # What belongs to the cache, to its stamps, to the tally and to the broker; then flights and outcomes.
            for pattern in (name + b"[:~.]*", b"{" + name + b":*"):
                for page in server.scan(pattern):
                    server.calls([Call("UNLINK", (key,)) for key in page])
            server.close()


def meet(place: Place, node: str = "") -> Meeting:
    """Set up one end; `node` is the worker's name, empty in the demo itself."""
    app = _make_app(place)
    # A short lease, so that a killed worker is succeeded sooner than the usual 5 s: the demo is for people who watch.
    cache = Cache(place.url, place.name, debug=False, app=app, secret=place.secret, lease=2)
    # Unsigned, as counters are.
    tally = Tally(Cache(place.url, f"{place.name}.tally", debug=False, app=app))

    @cache.cache_async(name=f"{WORKER}.measure", version=1, timeout=3600)
    def measured(path: str, digest: str) -> Measure:
        tally.add("began", node)
        found = measure(path, digest)
        tally.add("ended", node)
        return found

    return Meeting(place, app, cache, tally, measured)


def _make_app(place: Place) -> Any:
    app = Celery("taskcache-demo", broker=place.broker_url, set_as_current=False, fixups=[])
    app.conf.update(
        task_default_queue=place.name,
        # Also what a killed worker had not acknowledged is then found and removed.
        broker_transport_options={"global_keyprefix": f"{place.name}:"},
        # As workers/settings.py has it, where it is said why.
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        broker_connection_retry_on_startup=True,
        worker_hijack_root_logger=False,
        worker_enable_remote_control=False,
    )
    return app
