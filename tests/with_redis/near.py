"""This is where tests look at what a process keeps near."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import redis

from taskcache import Cache
from taskcache.near.cache import Near
from tests.nodes.waiting import wait_until


def near_of(cache: Cache) -> Near:
    """What this process keeps near of `cache`, with its tracking connection up."""
    near = cache.station.near(cache.settings)
    assert near is not None
    wait_until(lambda: near.turn() or None, "the server to report changes", timeout=30)
    return near


def is_near(cache: Cache, key: str) -> bool:
    """Whether a call with this key would be answered from here."""
    near = near_of(cache)
    return near.find(cache.make_key(key).encode()) is not None


def bring_near(cache: Cache, fn: Any, *args: Any) -> Any:
    """Call until the value is kept here, and give it."""
    near_of(cache)

    def called_and_kept() -> bool:
        fn(*args)
        return is_near(cache, fn.key_for(*args))

    wait_until(called_and_kept, "the value to be near", timeout=30)
    # The second of these is answered by the compiled front, where there is one.
    assert fn(*args) == fn(*args)
    return fn(*args)


def reads(client: redis.Redis) -> int:
    """How many times the server was asked for entries."""
    stats = client.info("commandstats")
    return int(stats.get("cmdstat_mget", {"calls": 0})["calls"])


def reads_of(client: redis.Redis, body: Callable[[], object]) -> int:
    """How many times `body` asks the server for entries."""
    before = reads(client)
    body()
    return reads(client) - before
