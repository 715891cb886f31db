"""This is where the commands of a cache are awaitable: `cache.aio`, on connections of the running event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, overload

from taskcache.calls import awaiting, following
from taskcache.calls.current import check_tags
from taskcache.calls.primitives import (
    added,
    check_keys,
    entry_pattern,
    invalidated,
    is_entry,
    removals,
    replacements,
    text_of,
)
from taskcache.drivers import asyncio as driver
from taskcache.protocol.stamps import bump, stamp_pattern, tag_stamp

if TYPE_CHECKING:
    from taskcache.cache import Cache
    from taskcache.drivers.station import Station
    from taskcache.result import Result
    from taskcache.settings import Lifetime

T = TypeVar("T")


class AsyncCache:
    """The awaitable twin of a cache's commands; names, arguments and results are the same."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    async def station(self) -> Station:
        """This process's side of the server; finding it the first time may start one, which is not the loop's work."""
        cache = self._cache
        return cache.station if cache.is_open else await driver.in_thread(lambda: cache.station)

    async def get(self, key: str, default: Any = None) -> Any:
        """The value of `key`, or `default`."""
        return (await self.get_many((key,))).get(key, default)

    async def get_many(self, keys: Sequence[str]) -> dict[str, Any]:
        """The values that are there, by key; one round trip."""
        cache = self._cache
        wanted = check_keys(keys)
        if cache.debug or not wanted:
            return {}
        station = await self.station()
        found: dict[str, Any] = await driver.run(cache.plain.get_many(wanted), station.loops)
        cache.count(hits=len(found), misses=len({*wanted}) - len(found))
        return found

    async def set(self, key: str, value: Any, timeout: Lifetime | None = None) -> bool:
        """Store `value` for `timeout` seconds."""
        return await self.set_many({key: value}, timeout)

    async def set_many(
        self, data: Mapping[str, Any] | None = None, /, timeout: Lifetime | None = None, **more: Any
    ) -> bool:
        """Store several values."""
        cache = self._cache
        values = {**(data or {}), **more}
        check_keys(list(values))
        ttl_ms = cache.ttl_ms(timeout)
        if not cache.debug and values:
            entries, loops = cache.plain.seal(values, ttl_ms), (await self.station()).loops
            if not (ttl_ms and await loops.store_many(entries, ttl_ms)):
                await loops.calls(replacements(entries, ttl_ms))
            cache.count(writes=len(values))
        return True

    @overload
    async def get_or_set(
        self, key: str, value: Callable[[], Coroutine[Any, Any, T]], timeout: Lifetime | None = None
    ) -> T: ...
    @overload
    async def get_or_set(self, key: str, value: Callable[[], T], timeout: Lifetime | None = None) -> T: ...
    @overload
    async def get_or_set(self, key: str, value: T, timeout: Lifetime | None = None) -> T: ...
    async def get_or_set(self, key: str, value: Any, timeout: Lifetime | None = None) -> Any:
        """The value of `key`; when there is none, `value`, or what it returns or awaits, computed once for all."""
        check_keys((key,))
        return await awaiting.aget_or_set(self._cache, key, value, self._cache.ttl_ms(timeout))

    async def delete(self, key: str) -> int:
        """Remove `key`; 1 when it was there."""
        cache = self._cache
        check_keys((key,))
        if cache.debug:
            return 0
        station = await self.station()
        gone: int = await driver.run(invalidated(cache.name, key), station.loops)
        return gone

    async def delete_many(self, keys: Sequence[str]) -> int:
        """Remove several keys; how many were there."""
        cache = self._cache
        wanted = check_keys(keys)
        if cache.debug or not wanted:
            return 0
        station = await self.station()
        return sum(await station.loops.calls(removals(cache.name, wanted)))

    async def incr(self, key: str, delta: int = 1) -> int:
        """Add to a counter, which begins at 0."""
        cache = self._cache
        addition = added(cache.name, key, delta)
        if cache.debug:
            return delta
        station = await self.station()
        reply: int = await station.loops.call(addition)
        return reply

    async def keys(self, strip_prefix: bool = False) -> AsyncIterator[str]:
        """The keys of all entries."""
        cache = self._cache
        if cache.debug:
            return
        station = await self.station()
        seen: set[bytes] = set()
        async for page in station.loops.scan(entry_pattern(cache.name)):
            for redis_key in page:
                if is_entry(redis_key) and redis_key not in seen:
                    seen.add(redis_key)
                    text = text_of(redis_key)
                    yield cache.unmake_key(text) if strip_prefix else text

    async def flush(self) -> int:
        """Invalidate everything in this cache and remove it; how many entries there were."""
        cache = self._cache
        if cache.debug:
            return 0
        loops, gone = (await self.station()).loops, 0
        async for page in loops.scan(stamp_pattern(cache.name)):
            await loops.unlink(page)
        async for page in loops.scan(entry_pattern(cache.name)):
            gone += await loops.unlink([key for key in page if is_entry(key)])
        return gone

    async def invalidate(self, *tags: str) -> None:
        """Invalidate everything that carries one of these tags."""
        cache, named = self._cache, check_tags(tags)
        if not cache.debug and named:
            station = await self.station()
            await driver.run(bump([tag_stamp(cache.name, tag) for tag in named]), station.loops)

    async def result(self, result_id: str) -> Result[Any]:
        """The result that another process knows by this id; starts nothing."""
        following.read_id(result_id)
        return await driver.in_thread(lambda: self._cache.result(result_id))

    async def close(self) -> None:
        """Close this loop's connections."""
        if self._cache.is_open:
            await (await self.station()).loops.close()
