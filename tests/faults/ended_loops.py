"""
This is where a process of its own runs five loops one after the other, and says how many links they have left.

    python -m tests.faults.ended_loops URL NAME TRANSPORT

Among other tests something that looks at them may hold what they have left: a traceback, a log record.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from typing import Any

from taskcache import Cache
from taskcache.drivers.asyncio import Link
from tests.nodes.waiting import wait_until


def links() -> list[Link]:
    gc.collect()
    return [each for each in gc.get_objects() if type(each) is Link]


def main() -> None:
    url, name, transport = sys.argv[1:]
    options: dict[str, Any] = {"transport": transport}
    cache = Cache(url, name=name, **options)

    async def ask() -> object:
        return await cache.aio.get("key")

    print([asyncio.run(ask()) for _ in range(5)])
    # A thread that a loop used may hold its last work for a moment.
    wait_until(lambda: not links(), "the links of ended loops to be gone", 20)
    print("none is left")


if __name__ == "__main__":
    main()
