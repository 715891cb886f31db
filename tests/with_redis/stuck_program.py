"""This is where a leader comes from that never ends by itself, to be killed in the middle."""

from __future__ import annotations

import os
import sys
import threading

import redis

from taskcache import Cache
from taskcache.decorators import CachedFunction


def stuck_in(cache: Cache, counters: redis.Redis, *, forever: bool) -> CachedFunction[[int], int]:
    """Make the function that every process of a test knows by the same name."""

    @cache.cached(name="stuck", version=1)
    def stuck(number: int) -> int:
        counters.incr("stuck:began")
        counters.expire("stuck:began", 600)
        if forever:
            threading.Event().wait()
        return os.getpid()

    return stuck


if __name__ == "__main__":
    stuck_in(Cache(sys.argv[1], name=sys.argv[2], default_timeout=60), redis.Redis.from_url(sys.argv[1]), forever=True)(
        7
    )
