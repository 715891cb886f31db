"""This is where one channel is listened to: by hand on a connection of redis-py's making, or by redis-py where it has to.

A wake-up crosses two threads that sleep, so what it costs is felt: redis-py's `get_message` takes 0.1 ms of them.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Any, Final, Protocol

import hiredis
from redis._parsers.base import BaseParser
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse

from taskcache.drivers.wire import SILENT, leave_timeouts_to_the_kernel, pack

# What `hear` gives when the channel is subscribed, the first time or again: what was said before is lost.
SUBSCRIBED: Final = object()
# The longest that `hear` takes; a connection that is silent for two of these, pings and all, is given up.
LISTEN_S: Final = 5.0
_BUFFER_BYTES: Final = 65_536
_NOTHING: Final = object()
_PING: Final = pack(b"PING")


class Subscription(Protocol):
    """A connection that listens to one channel."""

    def hear(self) -> Any:
        """A message's bytes, SUBSCRIBED, or None when there was nothing for a while. Raises OSError or RedisError."""

    def hang_up(self) -> None:
        """Have the one who listens notice that this is over; called by another thread."""

    def close(self) -> None:
        """Close the connection."""


class ByHand:
    """Reads its own connection. Not locked: one thread listens."""

    def __init__(self, pool: Any, channel: str) -> None:
        """Connect with the settings of `pool`; raises what `hear` raises."""
        self._connection = pool.connection_class(**pool.connection_kwargs)
        self._reader = hiredis.Reader(
            notEnoughData=_NOTHING, protocolError=InvalidResponse, replyError=BaseParser.parse_error
        )
        self._buffer = bytearray(_BUFFER_BYTES)
        self._is_asked = False
        try:
            # redis-py introduces us; from then on the stream is ours alone.
            self._connection.connect()
            self._socket: Any = self._connection._sock
            self._socket.settimeout(LISTEN_S)
            leave_timeouts_to_the_kernel(self._socket)
            self._socket.sendall(pack(b"SUBSCRIBE", channel.encode()))
        except BaseException:
            self.close()
            raise

    def hear(self) -> Any:
        while (reply := self._reader.gets()) is _NOTHING:
            try:
                received = self._socket.recv_into(self._buffer)
            except SILENT:
                if self._is_asked:
                    raise RedisConnectionError(f"the server did not answer a ping for {LISTEN_S:g} s") from None
                self._socket.sendall(_PING)
                self._is_asked = True
                return None
            if not received:
                raise RedisConnectionError("the server closed the connection")
            self._is_asked = False
            self._reader.feed(self._buffer, 0, received)  # type: ignore[arg-type]  # any buffer will do
        if isinstance(reply, Exception):
            raise reply
        # A list, or in RESP3 a push; the answer to a ping is neither there.
        word = reply[0] if isinstance(reply, list) else b""
        return reply[2] if word == b"message" else SUBSCRIBED if word == b"subscribe" else None

    def hang_up(self) -> None:
        with suppress(OSError):  # it may be over already
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._connection.disconnect()


class ByRedisPy:
    """Has redis-py find the server, and find it again: Sentinel, Cluster, pools of other kinds."""

    def __init__(self, client: Any, channel: str) -> None:
        self._pubsub = client.pubsub()
        self._pubsub.subscribe(channel)

    def hear(self) -> Any:
        message = self._pubsub.get_message(timeout=LISTEN_S)
        if message is None:
            return None
        # Also after redis-py has reconnected by itself.
        return SUBSCRIBED if message["type"] == "subscribe" else message["data"]

    def hang_up(self) -> None:
        """Nothing: the client, which is closed as well, has the connection."""

    def close(self) -> None:
        self._pubsub.close()
