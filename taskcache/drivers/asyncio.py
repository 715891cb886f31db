"""This is where a coroutine carries out protocol steps; each event loop has connections of its own."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from redis.exceptions import NoScriptError, RedisError

from taskcache.drivers.keeper import Keeper
from taskcache.drivers.topology import Server, as_command
from taskcache.drivers.twin import async_client
from taskcache.launcher import Launcher
from taskcache.protocol.flight import Ending, Errand
from taskcache.protocol.scripts import SCRIPTS
from taskcache.protocol.steps import Call, Launch, Step, Steps, Wait

T = TypeVar("T")


class AsyncServer:
    """The same server as seen from event loops."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = weakref.WeakKeyDictionary()
        self._keepers: set[AsyncGenerator[None, None]] = set()

    async def call(self, call: Call) -> Any:
        """Run one command or script; raises NoServer when no good answer came."""
        client = self._clients.get(asyncio.get_running_loop()) or await self._open()
        try:
            if self._server.is_cluster and call.name == "MGET":
                return [await client.execute_command("GET", key) for key in call.keys]
            command, options = as_command(call)
            try:
                return await client.execute_command(*command, **options)
            except NoScriptError:
                await client.script_load(SCRIPTS[call.name].text)
                return await client.execute_command(*command, **options)
        except RedisError as error:
            raise self._server.explain(error) from error

    async def calls(self, calls: Sequence[Call]) -> list[Any]:
        """Run several in one round trip; raises NoServer when any of them failed."""
        client = self._clients.get(asyncio.get_running_loop()) or await self._open()
        if self._server.is_cluster or len(calls) < 2:
            return [await self.call(call) for call in calls]
        try:
            async with client.pipeline(transaction=False) as pipeline:
                for call in calls:
                    command, options = as_command(call)
                    pipeline.execute_command(*command, **options)
                replies = await pipeline.execute(raise_on_error=False)
        except RedisError as error:
            raise self._server.explain(error) from error
        return [
            await self.call(call) if isinstance(reply, Exception) else reply
            for call, reply in zip(calls, replies, strict=True)
        ]

    async def scan(self, pattern: bytes, count: int = 1000) -> AsyncGenerator[list[bytes], None]:
        """Yield pages of keys that match; a key may come twice."""
        client = self._clients.get(asyncio.get_running_loop()) or await self._open()
        page: list[bytes] = []
        async for key in client.scan_iter(match=pattern, count=count):
            page.append(key)
            if len(page) >= count:
                yield page
                page = []
        if page:
            yield page

    async def _open(self) -> Any:
        loop = asyncio.get_running_loop()
        client = self._clients[loop] = async_client(self._server.client)
        # The loop closes its asynchronous generators when it ends (asyncio.run does): the one hook it offers a library.
        keeper = self._close_with_loop(client)
        self._keepers.add(keeper)
        await keeper.__anext__()
        return client

    async def _close_with_loop(self, client: Any) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            self._clients.pop(asyncio.get_running_loop(), None)
            await client.aclose()

    async def close(self) -> None:
        """Close this loop's connections."""
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()


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
        loop.call_soon_threadsafe(_resolve, arrived, ending)

    keeper.follow(errand, wait, launcher, heard, lambda sighting: None)
    try:
        return await arrived
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


async def in_thread(function: Callable[[], T]) -> T:
    """Run something that blocks without blocking the loop; context variables go along."""
    return await asyncio.to_thread(function)


_detached: set[asyncio.Task[Any]] = set()


async def detached(coroutine: Coroutine[Any, Any, T]) -> T:
    """Await a coroutine in a task of its own, which goes on when the one who awaits it is cancelled."""
    task = asyncio.get_running_loop().create_task(coroutine)
    _detached.add(task)
    task.add_done_callback(_forget)
    return await asyncio.shield(task)


def _forget(task: asyncio.Task[Any]) -> None:
    _detached.discard(task)
    if not task.cancelled():
        task.exception()  # looked at: nobody may be left to look


def run_to_end(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine from synchronous code, beside a loop that runs in this thread if there is one."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
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
