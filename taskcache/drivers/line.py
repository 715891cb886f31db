"""This is where coroutines of one event loop share a connection: what they ask together is written together.

redis-py makes the connection, with its credentials and TLS; then its stream is taken out and this protocol is put in.
Commands are written at once while nothing is on its way, and in one piece per turn of the loop otherwise; replies come in
the order of the commands (measured in docs/benchmarks.md).
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import hiredis
from redis._parsers.base import BaseParser
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse
from redis.exceptions import TimeoutError as RedisTimeoutError

from taskcache.drivers.clients import REPLY_TIMEOUT_S

_NOTHING: Final = object()


class Line(asyncio.Protocol):
    """One connection. Every future that waits on it ends: with its reply, or with the error that broke the connection."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(
            notEnoughData=_NOTHING,
            protocolError=InvalidResponse,
            replyError=BaseParser.parse_error,
        )
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._unsent: list[bytes] = []
        # When the server spoke last, or was asked something after it had answered all.
        self._since = 0.0
        self._deadline: asyncio.TimerHandle | None = None
        self.is_open = True
        self._transport: Any = connection._writer.transport
        self._transport.set_protocol(self)
        self._transport.resume_reading()

    def send(self, packed: bytes) -> asyncio.Future[Any]:
        """Write a packed command; the future gets its reply."""
        reply: asyncio.Future[Any] = self.loop.create_future()
        if not self.is_open:
            reply.set_exception(RedisConnectionError("the connection was closed"))
            return reply
        try:
            if not self._waiting:
                self._since = self.loop.time()
                self._transport.write(packed)
            else:
                if not self._unsent:
                    self.loop.call_soon(self._flush)
                self._unsent.append(packed)
            self._waiting.append(reply)
            if self._deadline is None:
                self._deadline = self.loop.call_later(REPLY_TIMEOUT_S, self._look)
        except BaseException:
            # A signal's handler may raise anywhere; with one reply more or less, each would be given to the one before.
            self._break(RedisConnectionError("a command was interrupted"))
            raise
        return reply

    def send_all(self, commands: Sequence[bytes]) -> list[asyncio.Future[Any]]:
        """Send the commands of a transaction, with nobody else's between them; interrupted, it takes the line with it."""
        replies: list[asyncio.Future[Any]] = []
        try:
            for command in commands:
                replies.append(self.send(command))
            return replies
        except BaseException:
            for reply in replies:
                reply.cancel()  # nobody will look at it
            self._break(RedisConnectionError("a transaction was interrupted"))
            raise

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        if self.is_open:
            self._transport.write(b"".join(unsent))

    # -- one timer for all: the server is given up when it says nothing for a while --------------------

    def _look(self) -> None:
        self._deadline = None
        if not self._waiting:
            return
        left_s = self._since + REPLY_TIMEOUT_S - self.loop.time()
        if left_s <= 0:
            self._break(RedisTimeoutError(f"no reply within {REPLY_TIMEOUT_S:g} s"))
        else:
            self._deadline = self.loop.call_later(left_s, self._look)

    # -- what the transport says -----------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        # Not only what is complete: a large value may take longer than a server may be silent.
        self._since = self.loop.time()
        self._reader.feed(data)
        while True:
            try:
                reply = self._reader.gets()
            except InvalidResponse as error:
                self._break(error)
                return
            if reply is _NOTHING:
                return
            if isinstance(reply, hiredis.PushNotification):
                continue
            future = self._waiting.popleft()
            # A coroutine that was cancelled has left its future behind; the reply is still its.
            if future.done():
                continue
            if isinstance(reply, Exception):
                future.set_exception(reply)
            else:
                future.set_result(reply)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._break(RedisConnectionError(str(exc or "the server closed the connection")))

    def _break(self, error: Exception) -> None:
        self.is_open = False
        waiting, self._waiting = self._waiting, deque()
        self._unsent.clear()
        for future in waiting:
            if not future.done():
                future.set_exception(error)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        self._transport.abort()
        # It would take itself for open otherwise, and warn when it goes.
        self._connection._reader = self._connection._writer = None

    async def close(self) -> None:
        """Close the connection; whoever still waits is told."""
        self._break(RedisConnectionError("the connection was closed"))
        # The transport closes at the next turn of the loop.
        await asyncio.sleep(0)

    def drop(self) -> None:
        """Have the server close the connection, of a loop that is closed itself: its transport needs a turn of it to close."""
        self.is_open = False
        # It may be over already, and uvloop leaves it to its collector.
        with suppress(OSError, TypeError, AttributeError):
            self._transport.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        self._connection._reader = self._connection._writer = None


async def open_line(pool: Any) -> Line:
    """Have redis-py connect and introduce itself, and take the line over."""
    connection = pool.make_connection()
    await connection.connect()
    return Line(connection)
