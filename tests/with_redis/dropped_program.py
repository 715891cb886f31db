"""
This is where a process of its own uses caches until every thread of theirs runs, drops them, and tells what is left.

    python -m tests.with_redis.dropped_program URL NAME

In a process of other tests the threads of others would be in the way.
"""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from taskcache import Cache
from taskcache.drivers import keeper, renewer
from tests.nodes.waiting import wait_until
from tests.with_redis.gate import Gate, wait_for_followers

# As long as a thread has nothing to do it stays for this long.
keeper.IDLE_S = renewer.IDLE_S = 0.2


def ours() -> Iterator[str]:
    """The threads that caches have started."""
    return (thread.name for thread in threading.enumerate() if thread.name.startswith("taskcache"))


def use(url: str, name: str) -> list[Any]:
    """Compute under a lease, wait for a colleague, keep near; what may live no longer than the cache."""
    cache, gate = Cache(url, name=name, default_timeout=60), Gate()
    f = cache.cached(name="held")(lambda: gate.pass_first())
    near = cache.cached(name="near", near=True)(lambda: [1])
    with ThreadPoolExecutor(3) as executor:
        both = [executor.submit(f) for _ in range(2)]
        gate.wait_reached()
        wait_for_followers(cache, 1)
        assert [1] == near() == near()
        running = sorted({*ours()})
        gate.open()
        assert [1, 1] == [each.result(30) for each in both]
    print("running:", *running)
    return [weakref.ref(each) for each in (cache, cache.station, cache.station.keeper)]


def main() -> None:
    """Drop two caches one after the other, not closed."""
    for name in ("first", "second"):
        kept = use(sys.argv[1], f"{sys.argv[2]}-{name}")

        def is_gone(kept: list[Any] = kept) -> bool:
            gc.collect()
            return not [*ours()] and all(each() is None for each in kept)

        try:
            wait_until(is_gone, "the threads to end", 20)
        except AssertionError:
            print("left:", *ours(), *(each() for each in kept))
            return
    print("nothing left")


if __name__ == "__main__":
    main()
