"""
This is where a process of its own runs loops one after the other, and says how many links they have left.

    python -m tests.faults.ended_loops URL NAME TRANSPORT ENDING

Caches of one address share what they have of a server, so that another test's loop would be seen here, too. `ENDING` is
`run`, by `asyncio.run`, or `close`, by `loop.close()` alone, which gives nobody a last turn.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import warnings
from collections.abc import Callable, Coroutine
from typing import Any

from taskcache import Cache
from taskcache.drivers.link import Link
from tests.nodes.waiting import wait_until


def links() -> list[Link]:
    gc.collect()
    return [each for each in gc.get_objects() if type(each) is Link]


def closed(coroutine: Coroutine[Any, Any, object]) -> object:
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(coroutine)
    finally:
        loop.close()


def main() -> None:
    url, name, transport, ending = sys.argv[1:]
    run: Callable[[Coroutine[Any, Any, object]], object] = asyncio.run if ending == "run" else closed
    options: dict[str, Any] = {"transport": transport}
    cache = Cache(f"{url}?client_name={name}", name=name, **options)

    async def ask() -> object:
        return await cache.aio.get("key")

    # asyncio's own word about loops that are closed while their connections are open.
    warnings.simplefilter("error" if ending == "run" else "ignore", ResourceWarning)
    print([run(ask()) for _ in range(5)])
    asyncio.run(ask())
    # A thread that a loop used may hold its last work for a moment.
    wait_until(lambda: not links(), "the links of ended loops to be gone", 20)
    wait_until(lambda: connections(cache, name) == 1, "the server to have closed their connections", 20)
    print("none is left")


def connections(cache: Cache, name: str) -> int:
    """How many connections of this process the server has."""
    gc.collect()
    return sum(each["name"] == name for each in cache.station.server.client.client_list())


if __name__ == "__main__":
    main()
