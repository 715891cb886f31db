"""This is where a coroutine carries out protocol steps; each event loop has connections of its own."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import Any, TypeVar

from redis.exceptions import ConnectionError as RedisConnectionError

from taskcache.drivers import hubs
from taskcache.drivers.commands import unlinks
from taskcache.drivers.keeper import Keeper
from taskcache.drivers.lengths import is_long
from taskcache.drivers.line import Line
from taskcache.drivers.link import Link
from taskcache.drivers.pending import Pending
from taskcache.drivers.topology import FAILURES, Server
from taskcache.launcher import Launcher
from taskcache.protocol.flight import Ending, Errand
from taskcache.protocol.steps import Call, Calls, Launch, Step, Steps, Wait

T = TypeVar("T")


class AsyncServer:
    """The same server as seen from event loops."""

    def __init__(self, server: Server, *, own_line: bool) -> None:
        self._server = server
        self._own_line = own_line and not server.is_cluster
        self._links: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Link] = weakref.WeakKeyDictionary()
        # The line that was asked last: nearly always there is one loop, and this is ten times quicker than the dictionary.
        self._latest: Callable[[], Line | None] = lambda: None

    async def call(self, call: Call) -> Any:
        """Run one command or script; raises NoServer when no good answer came."""
        return (await self.calls((call,)))[0]

    async def calls(self, calls: Sequence[Call]) -> list[Any]:
        """Run several in one round trip; raises NoServer when any of them failed."""
        link = self._links.get(asyncio.get_running_loop())
        if link is None:
            self._forget_closed()
            loop = asyncio.get_running_loop()
            link = self._links[loop] = Link(self._server, self._own_line, self._links)
        try:
            return await link.calls(calls)
        except FAILURES as error:
            raise await self._explained(error, calls) from error
        except OSError as error:
            raise await self._explained(RedisConnectionError(str(error)), calls) from error
        finally:
            self._server.wrote(calls)

    async def _explained(self, error: Any, calls: Sequence[Call]) -> Exception:
        # In a thread where the server may have to be asked.
        explain = partial(self._server.explain, error, calls)
        return await in_thread(explain) if is_long(calls) else explain()

    def _forget_closed(self) -> None:
        """Give up the links of loops that were closed without a last turn (`loop.close()` alone)."""
        # Their references are listed in one step: another thread's loop may be entered meanwhile.
        for refer in self._links.keyrefs():
            loop = refer()
            if loop is not None and loop.is_closed():
                link = self._links.pop(loop, None)
                if link is not None and link.line is not None:
                    link.line.drop()

    def ask(self, packed: bytes) -> asyncio.Future[Any] | None:
        """The shortest way: the reply to a packed read on this loop's line; None when the long way has to be gone."""
        line = self._line()
        return line.send(packed) if line is not None and line.is_open else None

    def _line(self) -> Line | None:
        line, loop = self._latest(), asyncio.get_running_loop()
        if line is None or line.loop is not loop:
            link = self._links.get(loop)
            line = None if link is None else link.line
            if line is not None:
                self._latest = weakref.ref(line)
        return line

    async def store_many(self, entries: Sequence[tuple[bytes, bytes]], ttl_ms: int) -> bool:
        """`Station.store_many` from a coroutine; also False while this loop has no line."""
        line, done = self._line(), None
        if line is None:
            return False
        try:
            while done is None:
                # Made before the first is sent: what is raised meanwhile must not leave others of this line in a transaction.
                commands = [*chain.from_iterable(self._server.stores.commands(entries, ttl_ms))]
                sent = line.send_all(commands)
                done = self._server.stores.are_done(await asyncio.gather(*sent, return_exceptions=True))
            return done
        finally:
            self._server.wrote([Call("SET", tuple(key for key, _ in entries))])

    async def unlink(self, keys: Sequence[bytes]) -> int:
        """Remove keys; how many were there."""
        return sum(await self.calls(unlinks(keys, self._server.is_cluster)))

    async def scan(self, pattern: bytes, count: int = 1000) -> AsyncGenerator[list[bytes], None]:
        """Yield pages of keys that match; a key may come twice."""
        # The pages are walked by a thread: this is housekeeping, and clusters are walked node by node there already.
        pages = self._server.scan(pattern, count)
        while page := await in_thread(lambda: next(pages, None)):
            yield page

    async def close(self) -> None:
        """Close this loop's connections."""
        link = self._links.get(asyncio.get_running_loop())
        if link is not None:
            await link.end()


async def run(
    steps: Steps[T],
    server: AsyncServer,
    *,
    wait: Callable[[Wait], Awaitable[Ending]] | None = None,
    launch: Callable[[Launch], Awaitable[None]] | None = None,
) -> T:
    """
    Carry out all steps and return what they return.

    Cancellation is thrown into the steps too, so that a lease is given back by a coroutine that is cancelled.
    """
    try:
        step = next(steps)
        while True:
            try:
                reply = await _answer(step, server, wait, launch)
            except BaseException as error:  # noqa: BLE001 - thrown into the steps, which raise it again
                step = steps.throw(error)
            else:
                step = steps.send(reply)
    except StopIteration as done:
        value: T = done.value
        return value


async def run_until_wait(
    steps: Steps[T], server: AsyncServer, *, launch: Callable[[Launch], Awaitable[None]]
) -> tuple[Wait, None] | tuple[None, T]:
    """Carry out steps up to their first wait, which is given back unanswered, or to their end."""
    try:
        step = next(steps)
        while not isinstance(step, Wait):
            try:
                reply = await _answer(step, server, None, launch)
            except BaseException as error:  # noqa: BLE001 - thrown into the steps, which raise it again
                step = steps.throw(error)
            else:
                step = steps.send(reply)
    except StopIteration as done:
        value: T = done.value
        return None, value
    return step, None


async def _answer(
    step: Step,
    server: AsyncServer,
    wait: Callable[[Wait], Awaitable[Ending]] | None,
    launch: Callable[[Launch], Awaitable[None]] | None,
) -> Any:
    if isinstance(step, Call):
        return await server.call(step)
    if isinstance(step, Calls):
        return await server.calls(step.calls)
    if isinstance(step, Wait) and wait is not None:
        return await wait(step)
    if isinstance(step, Launch) and launch is not None:
        return await launch(step)
    raise TypeError(f"these steps cannot ask for {step!r} here")


async def follow(keeper: Keeper, errand: Errand, wait: Wait, launcher: Launcher | None = None) -> Ending:
    """Wait for the end of a flight without a thread: the process's one listener wakes this coroutine's loop."""
    loop = asyncio.get_running_loop()
    arrived: asyncio.Future[Ending] = loop.create_future()

    def heard(ending: Ending | BaseException) -> None:
        tell(loop, lambda found: _resolve(arrived, found), ending)

    keeper.follow(errand, wait, launcher, heard, lambda sighting: None)
    try:
        return await arrived
    except GeneratorExit:
        # Dropped with its loop, by the collector: that may have come in the middle of the keeper's own work.
        raise
    except BaseException:
        keeper.unfollow(wait.token, heard)
        raise


def _resolve(arrived: asyncio.Future[Ending], ending: Ending | BaseException) -> None:
    if arrived.done():
        return
    if isinstance(ending, BaseException):
        arrived.set_exception(ending)
    else:
        arrived.set_result(ending)


async def arrival(pending: Pending, seconds: float | None) -> None:
    """Wait for a landing on this loop; whoever cancels this leaves the others alone."""
    loop = asyncio.get_running_loop()
    arrived: asyncio.Future[None] = loop.create_future()

    def done(_: Pending) -> None:
        tell(loop, _wake, arrived)

    pending.when_done(done)
    try:
        if seconds is None:
            await arrived
        else:
            await asyncio.wait([arrived], timeout=seconds)
    finally:
        pending.discard(done)


def tell(loop: asyncio.AbstractEventLoop, call: Callable[[T], None], what: T) -> None:
    """Call this from another thread in the turn of a loop."""
    with suppress(RuntimeError):  # closed with those who waited in it
        loop.call_soon_threadsafe(call, what)


def _wake(arrived: asyncio.Future[None]) -> None:
    if not arrived.done():
        arrived.set_result(None)


async def in_thread(function: Callable[[], T]) -> T:
    """Run something that blocks without blocking the loop; context variables go along."""
    return await asyncio.to_thread(_without_stop, function)


def _without_stop(function: Callable[[], T]) -> T:
    """No future takes a StopIteration, and who awaits one that never comes waits for ever: as in a generator (PEP 479)."""
    try:
        return function()
    except StopIteration as error:
        raise RuntimeError(f"{getattr(function, '__qualname__', function)} raised StopIteration") from error


class Event:
    """
    What coroutines of one loop wait for, as threads wait for theirs.

    asyncio's own has a coroutine for each wait, and one that is dropped before its first step warns.
    """

    def __init__(self) -> None:
        self._is_set: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def set(self) -> None:
        """Let all go on who wait, now or later; raises RuntimeError when their loop is closed."""
        if not self._is_set.done():
            self._is_set.set_result(None)

    async def wait(self, seconds: float | None = None) -> None:
        """Wait until it is set, at most that long; who is cancelled meanwhile leaves the others alone."""
        await asyncio.wait((self._is_set,), timeout=seconds)


def loop_here() -> asyncio.AbstractEventLoop | None:
    """The event loop that runs in this thread, if there is one."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def while_this_loop_is_open() -> Callable[[], bool]:
    """What tells, from any thread, whether the loop that runs here can still go on."""
    loop = asyncio.get_running_loop()
    return lambda: not loop.is_closed()


# What goes on by itself, by its loop: a loop alone remembers its tasks weakly.
_detached: dict[asyncio.AbstractEventLoop, set[asyncio.Task[Any]]] = {}


async def detached(coroutine: Coroutine[Any, Any, T], ended: Callable[[], None] | None = None) -> T:
    """
    Await a coroutine in a task of its own, which goes on when the one who awaits it is cancelled.

    `ended` is called when that task is over, also where it was cancelled before it began.
    """
    loop = asyncio.get_running_loop()
    if loop not in _detached:
        for other in list(_detached):
            if other.is_closed():
                # What it has left will never go on.
                _detached.pop(other, None)
        _detached[loop] = set()
    task = loop.create_task(coroutine)
    _detached[loop].add(task)
    task.add_done_callback(_forget)
    if ended is not None:
        task.add_done_callback(lambda _: ended())
    return await asyncio.shield(task)


def _forget(task: asyncio.Task[Any]) -> None:
    loop = task.get_loop()
    tasks = _detached.get(loop, set())
    tasks.discard(task)
    if not tasks:
        _detached.pop(loop, None)
    if not task.cancelled():
        task.exception()  # looked at: nobody may be left to look


def run_to_end(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine from synchronous code, beside a loop that runs in this thread if there is one."""
    if hubs.are_used():
        # Greenlets share one thread, and a thread runs one loop.
        return hubs.run_apart(lambda: asyncio.run(coroutine))
    if loop_here() is None:
        return asyncio.run(coroutine)
    context = contextvars.copy_context()
    with ThreadPoolExecutor(1) as one:
        return one.submit(context.run, asyncio.run, coroutine).result()


def mark_coroutine_function(function: Any) -> None:
    """Make `inspect` and asyncio see that calling this object gives a coroutine."""
    if hasattr(inspect, "markcoroutinefunction"):
        inspect.markcoroutinefunction(function)
    else:
        function._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]  # Python 3.10, 3.11
        # There `inspect` believes only what has the parts of a function.
        for part in ("__code__", "__defaults__", "__kwdefaults__"):
            if hasattr(function.__wrapped__, part):
                setattr(function, part, getattr(function.__wrapped__, part))
