"""This is where a call is answered from a coroutine: what calling.py does, without blocking the event loop."""

from __future__ import annotations

import inspect
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from taskcache.calls import nearby
from taskcache.calls.calling import (
    Arguments,
    Callee,
    PlainCallee,
    Reads,
    attempting,
    forgiving,
    is_own_ancestor,
    landed,
    lead,
    note_degraded,
    told,
)
from taskcache.calls.computing import new_owner
from taskcache.calls.current import computing
from taskcache.calls.invocation import Invocation
from taskcache.drivers import asyncio as driver
from taskcache.drivers import blocking
from taskcache.drivers.station import Station
from taskcache.errors import NoServer
from taskcache.protocol.flight import Ending, Errand, Extra, Landing, Lead, judged, obtain
from taskcache.protocol.steps import Call, Steps, Wait

if TYPE_CHECKING:
    from taskcache.cache import Cache
    from taskcache.function import Function


async def acall(
    function: Function[Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any], first: Reads | None = None
) -> Any:
    """Answer a call of a `cached` function from a coroutine; a plain function is computed in a thread."""
    if function.cache.debug:
        return await body(function, (args, kwargs))
    await opened(function.cache)
    return await aanswer(function, function.invocation(args, kwargs), args, kwargs, first)


async def opened(cache: Cache) -> None:
    """Find the server before something asks the codec to: to start one is not the loop's work."""
    if not cache.is_open:
        await cache.aio.station()


async def aanswer(
    function: Callee,
    invocation: Invocation,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    first: Reads | None = None,
) -> Any:
    """Answer a call whose key is known, from a coroutine."""
    cache = function.cache
    began = time.perf_counter()
    if is_own_ancestor(invocation):
        return await body(function, (args, kwargs))
    try:
        station = await cache.aio.station()
        landing, first = await alook(station, invocation, first)
        if landing is not None:
            function.stats_counted.hit(time.perf_counter() - began)
            return landed(landing)
        errand = invocation.errand(station, new_owner())
        with station.watched():
            if function.origin.is_coroutine:
                await driver.in_thread(station.keeper.inbox)
                ended = await driver.run(
                    obtain(errand, first), station.loops, wait=lambda wait: driver.follow(station.keeper, errand, wait)
                )
            else:
                ended = await _in_threads(function, station, invocation, errand, first, (args, kwargs))
    except NoServer as error:
        note_degraded(function, error)
        return await cache.alone.acall(invocation, lambda: body(function, (args, kwargs)))
    if isinstance(ended, Landing):
        count = function.stats_counted.miss if ended.source == "inline" else function.stats_counted.hit
        count(time.perf_counter() - began)
        return landed(ended)
    # Whoever cancels this call does not cancel it for the others: the computation is a task of its own.
    try:
        return await driver.detached(_alead(function, station, invocation, ended, errand.owner, (args, kwargs)))
    finally:
        function.stats_counted.miss(time.perf_counter() - began)


async def _in_threads(
    function: Callee,
    station: Station,
    invocation: Invocation,
    errand: Errand,
    first: Reads,
    arguments: Arguments,
) -> Landing:
    """
    Answer a call of a plain function: who is elected has a thread to compute in, and who waits needs none.

    A leader that waited for a thread would hold its lease behind bodies that follow it.
    """
    steps, ending = obtain(errand, first), None
    while True:
        wait, landing = await driver.in_thread(
            partial(_to_wait, function, station, invocation, errand, steps, ending, arguments)
        )
        if wait is None:
            assert landing is not None
            return landing
        ending = await driver.follow(station.keeper, errand, wait)


def _to_wait(
    function: Callee,
    station: Station,
    invocation: Invocation,
    errand: Errand,
    steps: Steps[Landing | Lead],
    ending: Ending,
    arguments: Arguments,
) -> tuple[Wait | None, Landing | None]:
    """Carry a call on from how its last wait ended to its next wait or its end; what it leads is computed here."""
    wait, ended = blocking.run_until_wait(steps, station.server, ending=ending)
    if not isinstance(ended, Lead):
        return wait, ended
    try:
        value = lead(function, station, invocation, ended, errand.owner, lambda: arguments).value
        return None, Landing(value, None, 0, "inline")
    except Exception as error:  # noqa: BLE001 - the function's own: raised by the one who asked
        return None, Landing.failed(error, "inline")


async def aget_or_set(cache: Cache, key: str, value: Any, ttl_ms: int) -> Any:
    """`get_or_set` from a coroutine; `value` may be a value, a function, or an `async def`."""

    async def compute() -> Any:
        if not callable(value):
            return value
        made = value() if inspect.iscoroutinefunction(value) else await driver.in_thread(value)
        # Awaited where it belongs, on this loop: `lambda: fetch(city)` gives a coroutine too.
        return await made if inspect.isawaitable(made) else made

    if cache.debug:
        return await compute()
    await opened(cache)
    callee = PlainCallee(cache, compute)
    callee.origin.is_coroutine = True
    return await aanswer(callee, Invocation.of(cache.settings, cache.codec, key, "", (), ttl_ms), (), {})


async def alook(station: Station, invocation: Invocation, first: Reads | None = None) -> tuple[Landing | None, Reads]:
    """`look` from a coroutine."""
    if first is not None:
        return await _usable(station, invocation, first), first
    with nearby.around(station, invocation) as near:
        if near.landing is not None:
            return near.landing, ()
        station.check()
        with station.watched():
            read: Reads = await station.loops.call(Call("MGET", (invocation.redis_key, *invocation.stamps)))
        landing = await _usable(station, invocation, read)
        near.keep(read[0], landing)
    return landing, read


async def _usable(station: Station, invocation: Invocation, first: Reads) -> Landing | None:
    landing = invocation.usable(first[0], first[1:])
    if isinstance(landing, Extra):
        landing = await driver.run(judged(invocation.errand(station, ""), first[0], first[1:]), station.loops)
    return landing


async def _alead(
    function: Callee,
    station: Station,
    invocation: Invocation,
    began: Lead,
    owner: str,
    arguments: Arguments,
) -> Any:
    # A loop that is closed with this task in it never comes to drop the lease.
    is_wanted = driver.while_this_loop_is_open()
    with attempting(function, station, invocation, began, owner, is_wanted=is_wanted) as attempt:
        try:
            with computing(attempt.computation):
                value = await body(function, arguments)
            sealed = attempt.seal(value)
        except BaseException as error:
            if not is_wanted():
                raise  # dropped with its loop: there is none to say it on, and whoever waits takes over
            function.stats_counted.failed += 1
            with suppress(NoServer):
                await driver.run(attempt.fail(told(error)), station.loops)
            raise
        function.stats_counted.computed += 1
        with forgiving(function):
            if not attempt.is_overtaken:
                await driver.run(attempt.publish(sealed), station.loops)
    return value


async def body(function: Callee, arguments: Arguments) -> Any:
    args, kwargs = arguments
    if function.origin.is_coroutine:
        return await function.origin.body(*args, **kwargs)
    return await driver.in_thread(lambda: function.origin.body(*args, **kwargs))
