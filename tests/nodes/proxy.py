"""This is where the network between a client and its server goes wrong on command."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from urllib.parse import urlsplit, urlunsplit

# Linger for zero seconds: closing sends RST instead of FIN, as a crashed peer or a firewall does.
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class FaultProxy:
    """
    A TCP proxy in front of one server. Set its attributes at any time; they hold for open connections too.

    `delay`           seconds added to everything that passes, in each direction
    `blackhole`       accept everything, pass nothing on; what came in meanwhile passes when it ends
    `refuse`          reset every new connection
    `truncate_after`  reset a connection after this many bytes of answers, counted from when it is set
    """

    def __init__(self, host: str, port: int) -> None:
        self.upstream = (host, port)
        self.delay = 0.0
        self.blackhole = False
        self.refuse = False
        self.truncate_after: int | None = None
        self.connections_seen = 0
        self.port = 0
        # Answers that are on their way, later than they would be without `delay` and `blackhole`.
        self._held: list[bytes] = []
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fault-proxy", daemon=True)
        self._thread.start()
        if not self._ready.wait(10):
            raise RuntimeError("the proxy does not start")

    @classmethod
    def before(cls, url: str) -> FaultProxy:
        """Make a proxy in front of the server at `url`."""
        parts = urlsplit(url)
        assert parts.hostname, f"{url!r} names no host"
        return cls(parts.hostname, parts.port or 6379)

    def url(self, url: str) -> str:
        """Give `url` with this proxy's host and port in place of the server's."""
        parts = urlsplit(url)
        login, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{login}{at}127.0.0.1:{self.port}"))

    def holds(self, part: bytes) -> bool:
        """Whether the server has given an answer with these bytes that its client does not have yet."""
        return any(part in chunk for chunk in tuple(self._held))

    def drop_all(self) -> None:
        """Reset every open connection; new ones are welcome."""

        async def drop() -> None:
            for writer in list(self._writers):
                _reset(writer)

        asyncio.run_coroutine_threadsafe(drop(), self._loop).result(10)

    def close(self) -> None:
        """End the proxy with all its connections."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(10)

    def __enter__(self) -> FaultProxy:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        # Nothing is cancelled or closed from here: a connection in the making would be left open. No more are accepted,
        # those that are here already end by themselves or are refused, and then the server has nobody left.
        self._loop.remove_reader(server.sockets[0].fileno())
        self.refuse = True
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(tasks)
        server.close()
        # One more turn of the loop closes what has just been reset.
        await asyncio.sleep(0)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections_seen += 1
        self._writers.add(writer)
        try:
            if not self.refuse:
                await self._join(reader, writer)
        except OSError:
            pass  # the peer went away, and this connection is over
        finally:
            _reset(writer)
            self._writers.discard(writer)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection(*self.upstream)
        self._writers.add(up_writer)
        ways = [
            asyncio.ensure_future(self._ask(reader, up_writer)),
            asyncio.ensure_future(self._answer(up_reader, writer)),
            asyncio.ensure_future(self._stop.wait()),
        ]
        try:
            # When one side is gone, so is the other; when the proxy ends, so are both.
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            _reset(up_writer)
            self._writers.discard(up_writer)

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(65_536):
            await self._hold()
            writer.write(chunk)
            await writer.drain()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(65_536):
            self._held.append(chunk)
            try:
                await self._hold()
            finally:
                self._held.remove(chunk)
            rest = self.truncate_after
            if rest is not None:
                self.truncate_after = max(0, rest - len(chunk))
                chunk = chunk[:rest]
            writer.write(chunk)
            await writer.drain()
            # Not for what was set meanwhile: this answer went before it.
            if rest is not None and self.truncate_after == 0:
                return

    async def _hold(self) -> None:
        while self.blackhole:
            await asyncio.sleep(0.005)
        if self.delay:
            await asyncio.sleep(self.delay)


def _reset(writer: asyncio.StreamWriter) -> None:
    peer = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()
