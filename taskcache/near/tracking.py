"""This is where the server tells us what has changed: one connection per cache that it pushes changed keys to.

RESP3 client tracking in broadcast mode: the server pushes every key under our prefixes that changes, whoever read it.
Pushes and replies share one order, so a reply to a question of ours proves that everything that had changed before the
server answered is known here. A question a second is asked for that, TIME, which also tells the server's clock.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import hiredis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, ResponseError

ASK_EVERY_S: Final = 1.0
# How old the question may be whose answer is the last. This bounds how long a dead connection that nobody closed can
# hide a change; twice the distance of two questions, so that one slow answer does no harm.
TRUST_S: Final = 2.0
# Without any answer for this long the connection is given up.
PATIENCE_S: Final = 5.0

_BUFFER_BYTES: Final = 65_536
_TIME: Final = b"*1\r\n$4\r\nTIME\r\n"
_NOTHING: Final = object()

Changed = Callable[[list[bytes] | None], None]


class Refused(Exception):
    """The server, or its access rights, do not offer what tracking needs."""


class Tracking:
    """An open connection. Not locked: whoever uses it takes turns."""

    def __init__(self, pool: Any, name: str, changed: Changed) -> None:
        """
        Connect with the settings of `pool` and have changes of the cache `name` reported.

        `changed` gets the keys, or None for all. Raises Refused, RedisError or OSError.
        """
        self._changed = changed
        self._connection = pool.connection_class(**{**pool.connection_kwargs, "protocol": 3})
        self._reader = hiredis.Reader(notEnoughData=_NOTHING, protocolError=InvalidResponse, replyError=ResponseError)
        self._buffer = bytearray(_BUFFER_BYTES)
        # The question that the next answer belongs to; None while none is open.
        self._open_question: float | None = None
        try:
            # redis-py introduces us; from then on the stream is ours alone, so that no push is lost in its parser.
            self._connection.connect()
            self.socket: Any = self._connection._sock
            self.socket.settimeout(PATIENCE_S)
            self._introduce(name.encode("utf-8", "surrogatepass"))
        except ResponseError as error:
            self.close()
            raise Refused(str(error)) from error
        except BaseException:
            self.close()
            raise
        self.socket.settimeout(0.0)

    def _introduce(self, name: bytes) -> None:
        prefixes = (b"PREFIX", name + b":", b"PREFIX", name + b"~")
        command: Any = ("CLIENT", "TRACKING", "ON", "BCAST", *prefixes)  # hiredis declares tuples of one
        self.socket.sendall(hiredis.pack_command(command))
        self._receive_reply()
        self._asked_at = time.monotonic()
        self.socket.sendall(_TIME)
        self._answered(self._asked_at, self._receive_reply())

    def _receive_reply(self) -> Any:
        while (reply := self._reader.gets()) is _NOTHING or isinstance(reply, hiredis.PushNotification):
            # What is pushed already is of no interest: nothing is held yet.
            if reply is _NOTHING:
                self._feed(self.socket.recv_into(self._buffer))
        if isinstance(reply, Exception):
            raise reply
        return reply

    def _feed(self, received: int) -> None:
        if not received:
            raise RedisConnectionError("the server closed the tracking connection")
        self._reader.feed(self._buffer, 0, received)  # type: ignore[arg-type]  # any buffer, whatever hiredis declares

    def _answered(self, asked_at: float, reply: Any) -> None:
        try:
            seconds, micros = map(int, reply)
        except (ValueError, TypeError) as error:
            raise InvalidResponse("the tracking connection answered something else than the time") from error
        # The server wrote its time after we asked, so this puts its clock ahead, by less than a round trip.
        self._server_ahead_ms = seconds * 1000 + micros / 1000 - asked_at * 1000
        self.trusted_until = asked_at + TRUST_S

    @property
    def due(self) -> float:
        """When there is something to do even if nothing arrives."""
        return self._asked_at + ASK_EVERY_S if self._open_question is None else self._open_question + PATIENCE_S

    def server_ms(self, now: float) -> float:
        """The server's clock, or a little more."""
        return now * 1000 + self._server_ahead_ms

    def turn(self, now: float) -> None:
        """
        Take in whatever has arrived, without waiting, and ask when it is time to.

        Raises OSError or RedisError when the connection is of no use any more.
        """
        while True:
            try:
                received = self.socket.recv_into(self._buffer)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                # TLS has words of its own for «nothing there»; a module that nobody else here needs.
                if type(error).__name__ not in ("SSLWantReadError", "SSLWantWriteError"):
                    raise
                break
            self._feed(received)
            while (reply := self._reader.gets()) is not _NOTHING:
                self._take(reply)
        if self._open_question is None:
            if now - self._asked_at >= ASK_EVERY_S:
                self.socket.sendall(_TIME)
                self._asked_at = self._open_question = now
        elif now >= self.due:
            raise RedisConnectionError(f"the tracking connection was silent for {PATIENCE_S:g} s")

    def _take(self, reply: Any) -> None:
        if isinstance(reply, hiredis.PushNotification):
            if reply[0] == b"invalidate":
                self._changed(reply[1])
            return
        if isinstance(reply, Exception):
            raise reply
        if self._open_question is not None:
            asked_at, self._open_question = self._open_question, None
            self._answered(asked_at, reply)

    def hang_up(self) -> None:
        """Make the one who listens notice that this is over; the connection is closed by that one."""
        with suppress(OSError):  # it may be over already
            self.socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection; in a forked child, only the child's end of it."""
        self._connection.disconnect()
