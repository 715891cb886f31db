"""This is where an application reaches its cache in the way that its environment says; its broker is another server."""

from __future__ import annotations

import json
import os
from typing import Any

import redis
from celery import Celery
from redis.sentinel import Sentinel

from taskcache import Cache
from tests.with_celery.apps.ledger import Ledger

SECRET = "a secret of these tests and long enough"


class Reached:
    """The parts of the application, for a caller in a test as for a worker."""

    def __init__(self, way: dict[str, Any]) -> None:
        self.app: Any = Celery("reached", broker=way["broker"], set_as_current=False)
        self.app.conf.update(
            task_default_queue=way["queue"], broker_connection_retry_on_startup=True, worker_prefetch_multiplier=1
        )
        self.ledger = ledger = Ledger(way["ledger"])
        self.cache = Cache(_database(way), name=way["name"], app=self.app, secret=SECRET)

        @self.cache.cache_async(timeout=60, name="reached.held", tags=("held",))
        def held(name: str) -> str:
            run = ledger.enter(name)
            ledger.hold(f"{name}:gate")
            return f"{name} {run}"

        self.held = held


def _database(way: dict[str, Any]) -> Any:
    if way["kind"] == "cluster":
        return redis.RedisCluster.from_url(way["url"])
    if way["kind"] == "sentinel":
        sentinel: Any = Sentinel([tuple(address) for address in way["addresses"]])  # type: ignore[no-untyped-call]
        return sentinel.master_for(way["service"])
    return way["url"]


if "REACHED" in os.environ:  # in a worker
    reached = Reached(json.loads(os.environ["REACHED"]))
    app = reached.app
