"""This is where a hit crosses the wire: one MGET on a connection of redis-py's own making, written and read by hand.

redis-py spends three quarters of a GET in its pool, its retries and its callbacks (docs/benchmarks.md). Here a connection
is borrowed from a private pool with the client's own settings, kept in a deque that costs 0.1 µs to use, and given back
every second, so that rotated credentials and maintenance reach it. Scripts and batches go the same way. Whatever is
unusual is left to redis-py: all that is sent here may be done twice, so the connection is dropped and it is asked again.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

import hiredis
from redis._parsers.base import BaseParser
from redis.backoff import NoBackoff
from redis.connection import BlockingConnectionPool, ConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, MaxConnectionsError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from taskcache.drivers.clients import close_idle
from taskcache.protocol.stamps import STAMP_BYTES

# Longer than most values, short enough to be kept for each connection.
BUFFER_BYTES: Final = 65_536
# A hit is answered with "*2\r\n$12\r\n", a stamp, "\r\n$", and the size of the entry before the entry.
_BEFORE_STAMP: Final = b"*2\r\n$%d\r\n" % STAMP_BYTES
_STAMP_AT: Final = len(_BEFORE_STAMP)
_SIZE_AT: Final = _STAMP_AT + STAMP_BYTES + 3
_BULK: Final = ord("$")
_NOTHING: Final = object()
_UNASKED: Final = hiredis.PushNotification
# How long a connection is kept from the pool.
LEASE_S: Final = 1.0
# How long a thread waits for a connection when all that there may be are in use, before it asks redis-py for one.
QUEUE_S: Final = 5.0
# Many keys are asked for in pages, some of them ahead: while the server looks for one, another is packed or opened here.
# Small enough that a thousand are several pages, large enough that a page is worth its two system calls.
PAGE: Final = 250
# Enough for a network that is slow, and no more than a server likes to keep for one who reads slowly.
AHEAD: Final = 16


class Unusual(Exception):
    """The reply is not what a plain read gives; redis-py shall make sense of it."""


def _connected(pool: ConnectionPool) -> Any:
    """A connection of the pool's, introduced to the server."""
    try:
        return pool.get_connection()
    except (RedisError, OSError):
        raise  # of the connection itself, which redis-py closes then
    except BaseException:
        # Of a signal's handler, in the middle of an introduction, which redis-py gives back as if it were whole: in another
        # database, with replies of its own on the way.
        close_idle(pool)
        raise


class Borrowed:
    """A connection of the pool with what reading needs at hand."""

    __slots__ = ("buffer", "connection", "receive", "send", "until", "view")

    def __init__(self, pool: ConnectionPool) -> None:
        self.connection: Any = _connected(pool)
        connected: Any = self.connection._sock
        if connected is None:
            pool.release(self.connection)
            raise RedisConnectionError("the connections of this process were just closed")
        leave_timeouts_to_the_kernel(connected)
        self.send, self.receive = connected.sendall, connected.recv_into
        self.buffer = bytearray(BUFFER_BYTES)
        self.view = memoryview(self.buffer)
        self.until = time.monotonic() + LEASE_S


def leave_timeouts_to_the_kernel(connected: Any) -> None:
    """
    Have the kernel end a send or a receive that takes too long, where it can.

    Python asks `poll` before each of them when it has to do it itself: two more system calls for a hit, and two more times
    that a thread gives up the interpreter and waits for it. Each piece of what is sent has the time by itself, so a slow
    network may take large values. Sockets of TLS and of gevent are not the kernel's alone, and where a timer interrupts
    again and again (profilers do) the kernel would begin anew each time.
    """
    seconds = connected.gettimeout()
    if not seconds or os.name != "posix" or type(connected).__module__ != "socket":
        return
    if any(signal.getitimer(which)[1] for which in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)):
        return
    span = struct.pack("@ll", int(seconds), int(seconds % 1 * 1_000_000))
    try:
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, span)
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, span)
    except OSError:
        return  # a system with another form of time
    connected.settimeout(None)


class Wire:
    """Plain reads of one server; safe in threads, under gevent and after a fork."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self._free: deque[Borrowed] = deque()
        self._queue = threading.Condition()
        self._queued = self._calls = 0

    def mget(self, packed: bytes, count: int) -> list[Any]:
        """
        Send a packed MGET of `count` keys and return its replies, bytes or None.

        Raises OSError or RedisError when the connection broke, Unusual for anything but an array of values.
        """
        return self._exchange(packed, _read if count < 10 else _read_many, count)

    def pair(self, packed: bytes) -> list[Any]:
        """`mget` of a stamp and an entry."""
        return self._exchange(packed, _read_pair, 2)

    def pages(self, keys: Sequence[bytes]) -> Generator[list[Any], None, None]:
        """Read many keys, page by page; raises what `mget` raises, at any page."""
        with self._lent() as borrowed:
            reader, asked = _reader(), deque[int]()
            for start in range(0, len(keys), PAGE):
                if len(asked) == AHEAD:
                    yield _values(borrowed, reader, asked.popleft())
                page = keys[start : start + PAGE]
                borrowed.send(pack(b"MGET", *page))
                asked.append(len(page))
            while asked:
                yield _values(borrowed, reader, asked.popleft())
            _check_end(reader)

    def commands(self, packed: bytes, count: int) -> list[Any]:
        """Send packed commands and return their `count` replies, errors among them; raises what `mget` raises."""
        return self._exchange(packed, _read_replies, count)

    def stream(self, parts: Iterable[Sequence[bytes]]) -> list[Any]:
        """`commands`, each part of which is sent while the next one is made."""
        with self._lent() as borrowed:
            count = 0
            for part in parts:
                borrowed.send(b"".join(part))
                count += len(part)
            return _read_replies(borrowed, count)

    def _exchange(self, packed: bytes, read: Callable[[Borrowed, int], list[Any]], count: int) -> list[Any]:
        borrowed = self._borrow()
        try:
            borrowed.send(packed)
            replies = read(borrowed, count)
        except BaseException:
            self._drop(borrowed)
            raise
        self._give_back(borrowed)
        return replies

    @contextmanager
    def _lent(self) -> Iterator[Borrowed]:
        """What `_exchange` does, for more than one exchange; too slow for a hit."""
        borrowed = self._borrow()
        try:
            yield borrowed
        except BaseException:
            self._drop(borrowed)
            raise
        self._give_back(borrowed)

    def _borrow(self) -> Borrowed:
        try:
            borrowed = self._free.pop()
        except IndexError:
            return self._made()
        if borrowed.until >= time.monotonic():
            return borrowed
        self._pool.release(borrowed.connection)
        return self._made()

    def _made(self) -> Borrowed:
        try:
            return Borrowed(self._pool)
        except MaxConnectionsError:
            return self._queued_for()

    def _queued_for(self) -> Borrowed:
        """A connection that another thread gives back or loses; raises MaxConnectionsError when none does."""
        until = time.monotonic() + QUEUE_S
        # First: who gives one back from here on calls the next.
        self._queue_up(1)
        try:
            while True:
                calls = self._calls
                with suppress(IndexError):
                    return self._free.pop()
                try:
                    return Borrowed(self._pool)
                except MaxConnectionsError:
                    with self._queue:
                        if calls == self._calls and not self._queue.wait(until - time.monotonic()):
                            raise
        finally:
            self._queue_up(-1)

    def _queue_up(self, count: int) -> None:
        with self._queue:
            self._queued += count

    def _give_back(self, borrowed: Borrowed) -> None:
        self._free.append(borrowed)
        if self._queued:
            self._call_next()

    def _drop(self, borrowed: Borrowed) -> None:
        # Also for an interrupt: a reply that nobody has read must not become the next caller's.
        borrowed.connection.disconnect()
        self._pool.release(borrowed.connection)
        if self._queued:
            self._call_next()

    def _call_next(self) -> None:
        with self._queue:
            self._calls += 1
            self._queue.notify()

    def after_fork(self) -> None:
        """Forget the parent's connections; the pool, whose locks the server makes anew, notices the fork by itself."""
        self._free.clear()
        self._queue = threading.Condition()
        self._queued = self._calls = 0

    def close(self) -> None:
        """Close what is not in use."""
        while self._free:
            self._pool.release(self._free.pop().connection)
        self._pool.disconnect()


def _read_pair(borrowed: Borrowed, count: int) -> list[Any]:
    """Read a stamp, whose length is known, and an entry: what nearly every hit gets, in half of the steps of `_read`."""
    filled = borrowed.receive(borrowed.buffer)
    if filled < BUFFER_BYTES:
        reply = bytes(borrowed.view[:filled])
        end = reply.find(b"\r\n", _SIZE_AT)
        is_pair = end > 0 and reply.startswith(_BEFORE_STAMP) and reply[_SIZE_AT - 1] == _BULK
        # A value that is missing has the size -1, which is that of no value.
        if is_pair and int(reply[_SIZE_AT:end]) == filled - end - 4:
            return [reply[_STAMP_AT : _STAMP_AT + STAMP_BYTES], reply[end + 2 : -2]]
    return _read(borrowed, count, filled)


def _read(borrowed: Borrowed, count: int, filled: int = 0) -> list[Any]:
    """Read `*count` and that many bulk strings: nearly always in one piece, as they were sent."""
    buffer, receive = borrowed.buffer, borrowed.receive
    filled = filled or receive(buffer)
    # "*2\r\n": fewer than ten keys, so one digit.
    if filled < 4 or buffer[0] != 42 or buffer[1] != 48 + count:
        raise Unusual(bytes(buffer[:filled]))
    at = 4
    replies: list[Any] = []
    for _ in range(count):
        end = buffer.find(b"\r\n", at, filled)
        while end < 0:
            filled += _more(borrowed, filled)
            end = buffer.find(b"\r\n", at, filled)
        kind, start = buffer[at], end + 2
        if kind == 36 and buffer[at + 1] != 45:
            size = int(buffer[at + 1 : end])
            at = start + size + 2
            if at <= filled:
                replies.append(bytes(buffer[start : start + size]))
            else:
                value, filled, at = _read_long(borrowed, start, size, filled)
                replies.append(value)
        elif kind in b"_$":  # RESP3's null and RESP2's $-1
            at = start
            replies.append(None)
        else:
            raise Unusual(bytes(buffer[at:end]))
    if at != filled:
        raise Unusual("more than one reply")
    return replies


def _read_many(borrowed: Borrowed, count: int) -> list[Any]:
    """Read an array of many values: there hiredis is faster than we are."""
    reader = _reader()
    values = _values(borrowed, reader, count)
    _check_end(reader)
    return values


def _read_replies(borrowed: Borrowed, count: int) -> list[Any]:
    """Read that many replies of whatever kind, errors too."""
    reader = _reader()
    replies = [_reply(borrowed, reader) for _ in range(count)]
    if _UNASKED in map(type, replies):
        raise Unusual("something that was not asked for")
    _check_end(reader)
    return replies


def _reader() -> hiredis.Reader:
    return hiredis.Reader(notEnoughData=_NOTHING, protocolError=InvalidResponse, replyError=BaseParser.parse_error)


def _reply(borrowed: Borrowed, reader: hiredis.Reader) -> Any:
    while (reply := reader.gets()) is _NOTHING:
        filled = borrowed.receive(borrowed.buffer)
        if not filled:
            raise ConnectionError("the connection was closed")
        reader.feed(borrowed.buffer, 0, filled)  # type: ignore[arg-type]  # any buffer will do
    return reply


def _values(borrowed: Borrowed, reader: hiredis.Reader, count: int) -> list[Any]:
    """Read one array of values."""
    values = _reply(borrowed, reader)
    # By its exact type: what comes unasked is a list of another.
    if type(values) is not list or len(values) != count:
        raise Unusual(type(values).__name__)
    return values


def _check_end(reader: hiredis.Reader) -> None:
    if reader.has_data():
        raise Unusual("more than was asked for")


def _more(borrowed: Borrowed, filled: int) -> int:
    got = borrowed.receive(borrowed.view[filled:]) if filled < BUFFER_BYTES else 0
    if not got:
        raise ConnectionError("the connection was closed")
    return int(got)


def _read_long(borrowed: Borrowed, start: int, size: int, filled: int) -> tuple[bytes | bytearray, int, int]:
    """Read a value that is not here yet into a place of its own, without a second copy; nothing may follow it."""
    value = bytearray(size + 2)
    have = filled - start
    value[:have] = borrowed.view[start:filled]
    with memoryview(value) as rest:
        while have < size + 2:
            got = borrowed.receive(rest[have:])
            if not got:
                raise ConnectionError("the connection was closed")
            have += got
    del value[size:]
    # Short ones are small change, and as bytes they may be asked about like any other.
    return bytes(value) if size < BUFFER_BYTES else value, 0, 0


def wire_to(client: Any) -> Wire | None:
    """A wire to the server of a client, or None where redis-py has to do it: Cluster, Sentinel, pools of other kinds."""
    pool = getattr(client, "connection_pool", None)
    if type(pool) not in (ConnectionPool, BlockingConnectionPool):
        return None
    assert pool is not None
    # Without second tries: whatever breaks here, redis-py tries again in its own way.
    settings = {**pool.connection_kwargs, "retry": Retry(NoBackoff(), 0)}
    return Wire(
        ConnectionPool(connection_class=pool.connection_class, max_connections=pool.max_connections, **settings)
    )


def pack(*words: bytes) -> bytes:
    """Write a command as RESP."""
    packed: bytes = hiredis.pack_command(words)  # type: ignore[arg-type]  # any number of words, whatever it declares
    return packed


Broken = (OSError, RedisError, Unusual)
# The part of it that cost the whole time of a reply.
SILENT = (TimeoutError, RedisTimeoutError, BlockingIOError)
