"""This is where the verbs of a decorated function are awaitable: `fn.aio`, from a coroutine, without blocking its loop."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from taskcache import events
from taskcache.batching import BoundCall
from taskcache.calls import awaiting, calling
from taskcache.calls.hits import Missed
from taskcache.calls.primitives import Entry, invalidated, looked_up, stored
from taskcache.drivers import asyncio as driver
from taskcache.drivers.pending import Landed, Pending
from taskcache.errors import NoServer
from taskcache.protocol.flight import Landing, obtain
from taskcache.protocol.stamps import bump
from taskcache.result import Result

if TYPE_CHECKING:
    from taskcache.calls.invocation import Invocation
    from taskcache.decorators import AsyncFunction, CachedFunction
    from taskcache.function import Function
    from taskcache.mapping import Batch

P = ParamSpec("P")
R = TypeVar("R")


class Verbs(Generic[P, R]):
    """The verbs that both kinds of function have."""

    def __init__(self, function: Function[P, R]) -> None:
        self.function = function

    async def peek(self, /, *args: P.args, **kwargs: P.kwargs) -> Entry[R] | None:
        """The stored entry of this call, or None; computes and starts nothing."""
        function = self.function
        if function.cache.debug:
            return None
        station = await function.cache.aio.station()
        entry: Entry[R] | None = await driver.run(looked_up(function.invocation(args, kwargs)), station.loops)
        return entry

    async def put(self, value: R, /, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Store `value` as the result of this call."""
        function = self.function
        if not function.cache.debug:
            station = await function.cache.aio.station()
            invocation = function.invocation(args, kwargs)
            await driver.run(stored(invocation, value, function.lifetime_of(value)), station.loops)
        return True

    async def bust(self, /, *args: P.args, **kwargs: P.kwargs) -> int:
        """Invalidate this call; 1 when an entry was there."""
        function = self.function
        if function.cache.debug:
            return 0
        key = function.make_key(args, kwargs)
        events.emit(events.Event("busted", function.name, key))
        station = await function.cache.aio.station()
        gone: int = await driver.run(invalidated(function.cache.settings.name, key), station.loops)
        return gone

    async def bust_all(self) -> None:
        """Invalidate every call of this function."""
        function = self.function
        if not function.cache.debug:
            events.emit(events.Event("busted", function.name))
            station = await function.cache.aio.station()
            await driver.run(bump((function.stamp,)), station.loops)

    async def warm(
        self, calls: Iterable[tuple[Any, ...] | BoundCall], force: bool = False, *, chunk: int | None = None
    ) -> Batch[R]:
        """Have these calls computed if they are not stored; what it gives can be awaited, as what `fn.map` gives."""
        return await driver.in_thread(lambda: self.function.warm(calls, force, chunk=chunk))

    async def uncached(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function itself; a plain one in a thread."""
        value: R = await awaiting.body(self.function, (args, kwargs))
        return value


class AwaitableCached(Verbs[P, R]):
    """`fn.aio` of a `cached` function."""

    function: CachedFunction[P, R]

    async def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> Any:
        """The value; a plain function is computed in a thread when it has to be."""
        return await self.function.acall(args, kwargs)

    async def refresh(self, /, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Compute this call anew and store it."""
        await self.bust(*args, **kwargs)
        return await self(*args, **kwargs)

    async def join(self, /, *args: P.args, **kwargs: P.kwargs) -> Result[R] | None:
        """The computation of this call that is under way somewhere, or None."""
        function = self.function
        return await driver.in_thread(lambda: Result.of_flight(function, function.invocation(args, kwargs)))


class AwaitableAsync(Verbs[P, R]):
    """`fn.aio` of a `cache_async` function: `result = await fn.aio(x)`, then `await result`."""

    function: AsyncFunction[P, R]

    async def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> Result[R]:
        """Begin the call as the function itself does, with every round trip awaited."""
        function = self.function
        first: calling.Reads | None = None
        if function.short_way is not None:
            digest, found = await function.short_way.alook(*args, **kwargs)
            hit: Result[R] | None = function.stored(digest, found)
            if hit is not None:
                return hit
            first = found.first if isinstance(found, Missed) else None
        if function.cache.debug:
            return await driver.in_thread(lambda: function.inline(args, kwargs))
        await awaiting.opened(function.cache)
        invocation = function.invocation(args, kwargs)
        if calling.is_own_ancestor(invocation):
            return await driver.in_thread(lambda: function.inline(args, kwargs, invocation))
        try:
            station = await function.cache.aio.station()
            landing, first = await awaiting.alook(station, invocation, first)
            function.find_hits()
            if landing is not None:
                function.stats_counted.hits += 1
                return Result(function, invocation, Landed(landing))
            launcher = function.launcher(args, kwargs, invocation)
            await driver.in_thread(station.keeper.inbox)
            errand = invocation.errand(station, "")
            pending = Pending(obtain(errand, first), errand, launcher)
            with station.watched():
                wait, ended = await driver.run_until_wait(
                    pending.steps,
                    station.loops,
                    launch=lambda step: driver.in_thread(lambda: launcher.launch(step.token)),
                )
        except NoServer as error:
            calling.note_degraded(function, error)
            return await self._without_cache(args, kwargs, invocation)
        result: Result[R] = function.begun(station, invocation, pending, wait, ended)
        return result

    async def _without_cache(self, args: tuple[Any, ...], kwargs: dict[str, Any], invocation: Invocation) -> Result[R]:
        function = self.function
        compute = partial(driver.in_thread, partial(calling.run, function, (args, kwargs)))
        try:
            landing = Landing(await function.cache.alone.acall(invocation, compute), None, 0, "inline")
        except Exception as error:  # noqa: BLE001 - delivered by the result, as a worker's error would be
            landing = Landing.failed(error, "inline")
        return Result(function, invocation, Landed(landing))

    async def refresh(self, /, *args: P.args, **kwargs: P.kwargs) -> Result[R]:
        """Have this call computed anew."""
        await self.bust(*args, **kwargs)
        return await self(*args, **kwargs)

    async def join(self, /, *args: P.args, **kwargs: P.kwargs) -> Result[R] | None:
        """The computation of this call that is under way somewhere, or None."""
        function = self.function
        return await driver.in_thread(lambda: Result.of_flight(function, function.invocation(args, kwargs)))
