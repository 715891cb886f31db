"""This is where results of a greenlet are waited for in another thread, whose greenlets have a loop of their own."""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import json  # noqa: E402 - after patching
import sys  # noqa: E402

import gevent  # noqa: E402

from taskcache import as_completed, gather  # noqa: E402
from tests.with_celery.apps import shop  # noqa: E402

LONG = 30


def main(name: str) -> None:
    """Begin here, and wait there."""
    pool = gevent.get_hub().threadpool
    held = shop.gated(f"{name}-one")
    one = pool.spawn(lambda: held(timeout=LONG))
    several = [shop.gated(f"{name}-{number}") for number in range(3)]
    completed = pool.spawn(lambda: [result() for result in as_completed(several, timeout=LONG)])
    gathered = pool.spawn(lambda: gather(several)(timeout=LONG))
    told = shop.told(name)
    steps = pool.spawn(lambda: [progress.done for progress in told.updates(timeout=LONG)])
    # Without a timeout nothing but the message wakes who waits.
    endless = pool.spawn(lambda: [result() for result in as_completed([told])])
    parts = {"one": one, "completed": completed, "gathered": gathered, "steps": steps, "endless": endless}
    print(json.dumps({word: part.get(timeout=2 * LONG) for word, part in parts.items()}))


if __name__ == "__main__":
    main(sys.argv[1])
