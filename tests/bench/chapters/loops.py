"""This is where coroutines are measured: one hit after the other, and a thousand at once on one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any

import redis.asyncio

from tests.bench.floor import RawProtocol, pack
from tests.bench.functions import named_async, ours
from tests.bench.goals import Outcome, beside, budget
from tests.bench.ground import CACHE_DB, SMALL, Ground, pickled
from tests.bench.measure import coroutine, rotate
from tests.bench.peers import ASYNC_PEERS

Asked = Callable[[int], Awaitable[Any]]


def loops(ground: Ground) -> Iterator[Outcome]:
    """All variants on one event loop, each with its own connections."""
    loop = asyncio.new_event_loop()
    try:
        yield from _measured(ground, loop)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def _measured(ground: Ground, loop: asyncio.AbstractEventLoop) -> Iterator[Outcome]:
    asked: dict[str, Asked] = {}
    closers: list[Callable[[], Awaitable[object]]] = []
    cache = ours(ground)
    call: Any = cache.cached(name="loops", version=1)(named_async("loops", SMALL))
    asked["taskcache"] = lambda number: call(number, "hello")
    closers.append(cache.aio.close)
    # The client as its README makes it, for one coroutine; a pool that waits for many, as its documentation tells those
    # who would get MaxConnectionsError from the default one.
    client: Any = redis.asyncio.Redis.from_url(ground.url())
    pool = redis.asyncio.BlockingConnectionPool.from_url(ground.url(), max_connections=50, timeout=None)
    pooled: Any = redis.asyncio.Redis.from_pool(pool)
    closers += [client.aclose, pooled.aclose]
    for peer in ASYNC_PEERS:
        with suppress(ImportError):
            decorated = peer.decorate(ground, named_async("loops", SMALL))
            asked[peer.text] = lambda number, decorated=decorated: decorated(number, "hello")  # type: ignore[misc]
            closers.append(lambda peer=peer, decorated=decorated: peer.close(decorated))  # type: ignore[misc]
    loop.run_until_complete(_filled(client, list(asked.values()), ground.scale.many))
    floor = loop.run_until_complete(RawProtocol.open(ground.server.port, CACHE_DB))
    closers.append(floor.close)
    asked["floor"] = lambda number: floor.ask(pack(b"MGET", [b"raw:%d" % number, b"raw:0"]))
    asked["redis.asyncio"] = lambda number: client.get(b"raw:%d" % number)
    asked["redis.asyncio, pool of 50"] = lambda number: pooled.get(b"raw:%d" % number)
    try:
        yield from _one_by_one(ground, loop, asked)
        yield from _all_at_once(ground, loop, asked)
    finally:
        for close in closers:
            loop.run_until_complete(_awaited(close))
        cache.close()


async def _filled(client: Any, asked: list[Asked], many: int) -> None:
    """Store what will be read, fifty at a time; the second call proves that it is a hit."""
    await client.mset({b"raw:%d" % number: pickled(SMALL) for number in range(many)})
    for ask in asked:
        for first in range(0, many, 50):
            values = await asyncio.gather(*(ask(number) for number in range(first, first + 50)))
            assert [SMALL] * 50 == values
        assert SMALL == await ask(0)


def _one_by_one(ground: Ground, loop: asyncio.AbstractEventLoop, asked: dict[str, Asked]) -> Iterator[Outcome]:
    def one(ask: Asked) -> Callable[[], Awaitable[Any]]:
        return lambda: ask(42)

    variants = {name: coroutine(loop, one(ask)) for name, ask in asked.items() if name != "redis.asyncio, pool of 50"}
    times = rotate(variants, ground.scale.rounds, ground.scale.batch_s)
    floor = times.ratio("floor", "redis.asyncio")
    yield budget("async.hit", times.ratio("taskcache", "redis.asyncio"), seconds=times.medians(), floor=floor)
    for peer in ASYNC_PEERS:
        if peer.text in times.of:
            yield beside(f"async hit of {peer.text} / redis.asyncio GET", times.ratio(peer.text, "redis.asyncio"))


def _all_at_once(ground: Ground, loop: asyncio.AbstractEventLoop, asked: dict[str, Asked]) -> Iterator[Outcome]:
    def many(ask: Asked) -> Callable[[], Awaitable[Any]]:
        return lambda: asyncio.gather(*(ask(number) for number in range(ground.scale.many)))

    # The default client would raise MaxConnectionsError here.
    variants = {name: coroutine(loop, many(ask)) for name, ask in asked.items() if name != "redis.asyncio"}
    times = rotate(variants, max(2, ground.scale.rounds // 5), ground.scale.batch_s)
    base = "redis.asyncio, pool of 50"
    seconds = {name: median / ground.scale.many for name, median in times.medians().items()}
    floor = times.speedup("floor", base)
    yield budget("async.many", times.speedup("taskcache", base), seconds=seconds, floor=floor)
    for peer in ASYNC_PEERS:
        if peer.text in times.of:
            yield beside(f"1000 coroutines, hits/s of {peer.text} / pool of 50", times.speedup(peer.text, base))


async def _awaited(close: Callable[[], Awaitable[object]]) -> None:
    await close()
