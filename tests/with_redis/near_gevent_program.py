"""This is where the near cache runs among greenlets; it prints what it saw."""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import json  # noqa: E402 - after patching
import sys  # noqa: E402
import time  # noqa: E402

import gevent  # noqa: E402
import redis  # noqa: E402

from taskcache import Cache  # noqa: E402
from tests.nodes.server import tracking_clients  # noqa: E402
from tests.with_redis.near import bring_near  # noqa: E402


def main(url: str, name: str) -> None:
    """Read from greenlets while another one writes through the server alone."""
    runs = iter(range(10_000))
    with Cache(url, name=name, default_timeout=60) as cache, redis.Redis.from_url(url) as client:

        @cache.cached(near=True)
        def price(number: int) -> int:
            return next(runs)

        first = bring_near(cache, price, 7)
        key = cache.make_key(price.key_for(7))
        tracked = len(tracking_clients(client))

        def see_another() -> float:
            began = time.monotonic()
            while price(7) == first:
                if time.monotonic() - began > 20:
                    raise AssertionError("the change was never seen")
                # Spinning, and giving way now and then, as greenlets do that have work.
                gevent.sleep(0)
            return time.monotonic() - began

        readers = [gevent.spawn(see_another) for _ in range(5)]
        gevent.sleep(0)
        client.delete(key)
        took = [reader.get(timeout=30) for reader in readers]

        spun, second = time.monotonic(), bring_near(cache, price, 7)
        client.delete(key)
        # Without ever giving way: no other greenlet runs, and the change is seen all the same.
        while price(7) == second:
            assert time.monotonic() - spun < 20
    print(json.dumps({"tracked": tracked, "took": took}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
