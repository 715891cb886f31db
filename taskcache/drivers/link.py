"""This is where an event loop has its side of a server: a line of its own, or redis-py's client where it has to be that."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, MutableMapping, Sequence
from contextlib import asynccontextmanager
from copy import copy
from typing import Any, Final

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError

from taskcache.drivers.commands import as_command, joined, loading, node_of, packed, parted
from taskcache.drivers.line import Line, open_line
from taskcache.drivers.topology import FAILURES, Server
from taskcache.drivers.twin import async_client, close_client, connections_of
from taskcache.protocol.scripts import SCRIPTS
from taskcache.protocol.steps import Call

# Coroutines that ask for more than a hit at the same time. What they do with their replies is done without a pause: ten
# thousand that went on together would keep the loop from everybody else for a second.
AT_ONCE: Final = 250


class Link:
    """What one event loop has for a server: a line of our own, or redis-py's client where it has to be that."""

    def __init__(self, server: Server, own_line: bool, links: MutableMapping[Any, Link]) -> None:
        self._server = server
        # Of all loops, by loop. The loop takes its own out at its end: a link refers to its loop, so neither would ever go.
        self._links = links
        # When it last could not be opened, and why; those who waited for that need not try it again.
        self._failed: tuple[float, Exception] | None = None
        self._client = async_client(server.client)
        self.line: Line | None = None
        self._own_line = own_line
        self._opening = asyncio.Lock()
        # A line carries what many ask; each of those who ask redis-py has a connection to itself.
        self._turns = asyncio.Semaphore(AT_ONCE if own_line else connections_of(server.client))
        self._closer: AsyncGenerator[None, None] | None = None

    async def calls(self, calls: Sequence[Call]) -> list[Any]:
        began = time.monotonic()
        async with self._turns:
            self._heed(began)
            return await self._exchanged(calls)

    def _heed(self, began: float) -> None:
        """Raise what opening failed with since `began`: each of a hundred callers would wait for a timeout of its own."""
        if self._failed is not None and began <= self._failed[0]:
            raise copy(self._failed[1])

    @asynccontextmanager
    async def _opens(self) -> AsyncIterator[None]:
        """Let one caller at a time open what all of them wait for."""
        began = time.monotonic()
        async with self._opening:
            self._heed(began)
            try:
                yield
            except (*FAILURES, OSError) as error:
                self._failed = time.monotonic(), copy(error)
                raise
            self._failed = None

    async def _exchanged(self, calls: Sequence[Call]) -> list[Any]:
        await self._tie()
        if self._server.is_cluster:
            return await self._by_cluster(calls)
        if not self._own_line:
            return [await self._by_client(call) for call in calls]
        line = self.line
        if line is None or not line.is_open:
            line = await self._open()
        replies = [line.send(packed(call)) for call in calls]
        try:
            return [await self._answer(call, reply) for call, reply in zip(calls, replies, strict=True)]
        except BaseException:
            # Nobody will look at the others, and asyncio logs an error that nobody has looked at.
            for reply in replies:
                if not reply.cancel() and not reply.cancelled():
                    reply.exception()
            raise

    async def _tie(self) -> None:
        """Have what is open closed at the end of the loop, or before it by who asks the loop's link to."""
        if self._closer is None:
            # The loop closes its asynchronous generators when it ends (asyncio.run does): the one hook it has for us.
            self._closer = self._close_with_loop()
            await self._closer.__anext__()
            self._links.setdefault(asyncio.get_running_loop(), self)

    async def _answer(self, call: Call, reply: asyncio.Future[Any]) -> Any:
        # A server that restarted closes the line first, and then knows no script: each is cured once, in either order.
        for _ in range(2):
            try:
                return await reply
            except NoScriptError:
                line = await self._open()
                await line.send(packed(loading(call)))
            except RedisConnectionError:
                # Also where it closed an idle connection: once more, unless the command must not run twice.
                if call.name == "INCRBY":
                    raise
                line = await self._open()
            reply = line.send(packed(call))
        return await reply

    async def _open(self) -> Line:
        async with self._opens():
            if self.line is None or not self.line.is_open:
                self.line = await open_line(self._client.connection_pool)
                # Again: `close` may have come meanwhile, or between a question and its answer.
                await self._tie()
        return self.line

    async def _by_client(self, call: Call) -> Any:
        command, options = as_command(call)
        try:
            try:
                return await self._client.execute_command(*command, **options)
            except NoScriptError:
                await self._client.script_load(SCRIPTS[call.name].text)
                return await self._client.execute_command(*command, **options)
        except AttributeError as error:
            # asyncio of Python 3.13.0 writes to a connection that the server has just closed.
            raise _lost(error) from error

    async def _by_cluster(self, calls: Sequence[Call]) -> list[Any]:
        """One pipeline, which goes to each node once."""
        async with self._opens():
            # redis-py 8.1 loses connections when a cluster's first commands are many at once. Later it returns at once.
            await self._client.initialize()
        pipeline = self._client.pipeline()
        for call in parted(calls):
            command, options = as_command(call)
            pipeline.execute_command(*command, **options, **node_of(self._client, call))
        try:
            replies = joined(calls, await pipeline.execute(raise_on_error=False))
            return [
                await self._by_client(call) if isinstance(reply, NoScriptError) else _checked(reply)
                for call, reply in zip(calls, replies, strict=True)
            ]
        except AttributeError as error:
            # It uses connections that another of its tasks has closed, when the cluster changes its shape.
            raise _lost(error) from error

    async def _close_with_loop(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            self._closer = None
            self._links.pop(asyncio.get_running_loop(), None)
            line, self.line = self.line, None
            if line is not None:
                await line.close()
            await close_client(self._client)

    async def end(self) -> None:
        """Close what is open, before the loop ends."""
        if self._closer is not None:
            await self._closer.aclose()


def _lost(error: AttributeError) -> RedisConnectionError:
    return RedisConnectionError(f"redis-py lost a connection: {error}")


def _checked(reply: Any) -> Any:
    if isinstance(reply, Exception):
        raise reply
    return reply
