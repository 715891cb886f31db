"""
This is where the floor is: the same question asked with a bare socket, which no Python client can beat by much.

It sends bytes that were packed before and parses just enough to find the value; no pool, no timeouts, no errors, no
reconnects, no threads. What a cache adds to it is its price.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import hiredis

BUFFER_BYTES = 65_536
# The name of a wait: 16 random bytes in hex.
TOKEN_BYTES = 32


class RawSocket:
    """One connection to a server on loopback."""

    def __init__(self, port: int, db: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray(BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._socket.sendall(b"SELECT %d\r\n" % db)
        assert self._socket.recv(64) == b"+OK\r\n"

    @classmethod
    def of(cls, url: str) -> RawSocket:
        """Connect to a server on loopback by its URL."""
        parts = urlsplit(url)
        return cls(parts.port or 6379, int(parts.path.strip("/") or 0))

    def get(self, packed: bytes) -> memoryview | bytearray:
        """Send a packed GET and give the value's bytes, valid until the next call."""
        self._socket.sendall(packed)
        filled = self._socket.recv_into(self._buffer)
        end = self._buffer.find(b"\r\n", 1, 24)
        size = int(self._buffer[1:end])
        if end + size + 4 == filled:
            return self._view[end + 2 : filled - 2]
        return self._rest(end + 2, size, filled)

    def get_two(self, packed: bytes) -> memoryview | bytearray:
        """Send a packed MGET of a stamp and an entry, as a hit of taskcache does, and give the entry's bytes."""
        self._socket.sendall(packed)
        filled = self._socket.recv_into(self._buffer)
        end = self._buffer.find(b"\r\n", 4)
        start = end + int(self._buffer[5:end]) + 4
        end = self._buffer.find(b"\r\n", start)
        size = int(self._buffer[start + 1 : end])
        if end + size + 4 == filled:
            return self._view[end + 2 : filled - 2]
        return self._rest(end + 2, size, filled)

    def ask(self, packed: bytes) -> Any:
        """Send one packed command of any kind and give its reply, parsed by hiredis."""
        self._socket.sendall(packed)
        reader = hiredis.Reader()
        while (reply := reader.gets()) is False:
            self.hear(reader)
        return reply

    def hear(self, reader: hiredis.Reader) -> None:
        """Wait for more bytes from the server and give them to `reader`."""
        reader.feed(self._buffer, 0, self._socket.recv_into(self._buffer))  # type: ignore[arg-type]  # any buffer

    def _rest(self, start: int, size: int, filled: int) -> bytearray:
        value = bytearray(size + 2)
        have = filled - start
        value[:have] = self._view[start:filled]
        with memoryview(value) as rest:
            while have < size + 2:
                have += self._socket.recv_into(rest[have:])
        del value[size:]
        return value

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


class RawInbox:
    """One connection and one thread that listens for all waits of a process, so that a wait costs neither of its own."""

    def __init__(self, url: str, channel: bytes) -> None:
        self._socket = RawSocket.of(url)
        self._socket.ask(pack(b"SUBSCRIBE", (channel,)))
        # A lock that is let go wakes sooner than an Event, which is one with a list.
        self._locks: dict[bytes, threading.Lock] = {}
        self._values: dict[bytes, bytes] = {}
        threading.Thread(target=self._listen, daemon=True).start()

    def expect(self, name: bytes) -> None:
        """Say that somebody is going to wait for `name`."""
        lock = self._locks[name] = threading.Lock()
        lock.acquire()

    def wait(self, name: bytes) -> bytes:
        """Wait until a message for `name` has come, and give its value."""
        self._locks[name].acquire()
        del self._locks[name]
        return self._values.pop(name)

    def _listen(self) -> None:
        reader = hiredis.Reader()
        while True:
            self._socket.hear(reader)
            while (message := reader.gets()) is not False:
                self.deliver(message[2])

    def deliver(self, told: bytes) -> None:
        """Wake who waits for this name with its value."""
        name = told[:TOKEN_BYTES]
        self._values[name] = told[TOKEN_BYTES:]
        self._locks[name].release()


class RawProtocol(asyncio.Protocol):
    """The same on an event loop: bytes out, hiredis in, a future for each reply; errors and timeouts do not exist."""

    def __init__(self) -> None:
        self._reader = hiredis.Reader()
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._transport: Any = None

    @classmethod
    async def open(cls, port: int, db: int) -> RawProtocol:
        """Connect to a server on loopback."""
        _, protocol = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        await protocol.ask(b"SELECT %d\r\n" % db)
        return protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def ask(self, packed: bytes) -> asyncio.Future[Any]:
        """Send a packed command; the future gets its reply."""
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append(reply)
        self._transport.write(packed)
        return reply

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            self._waiting.popleft().set_result(reply)

    async def close(self) -> None:
        """Close the connection."""
        self._transport.close()


def pack(command: bytes, keys: Sequence[bytes]) -> bytes:
    """Write a command with its keys, or its arguments, as RESP."""
    packed: bytes = hiredis.pack_command((command, *keys))  # type: ignore[arg-type]  # any number of words
    return packed
