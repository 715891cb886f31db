"""This is where a hit is one screen of code: a key, one round trip, a stamp that matches, and the value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from taskcache.errors import UntrustedValue
from taskcache.freshness import SHORT_HEAD_BYTES, created_ms, is_fresh_value
from taskcache.protocol.flight import Landing

if TYPE_CHECKING:
    from taskcache.codec.sealing import Codec
    from taskcache.drivers.station import Station
    from taskcache.function import Function


class Missed(Struct, frozen=True):
    """A call that takes more than one look to know; entry and stamp, when they were read, go on to the next one."""

    first: tuple[bytes | None, ...] | None


class Hits:
    """Answers calls whose value is stored and depends on nothing but its function; every other call is missed here."""

    __slots__ = ("_codec", "_digest", "_head", "_prefix", "_station")

    def __init__(self, station: Station, codec: Codec, digest: Callable[..., str], stamp: bytes, prefix: bytes) -> None:
        self._station = station
        self._codec = codec
        self._digest = digest
        self._prefix = prefix
        # MGET stamp entry, up to the digest, which has always the same length.
        self._head = b"*3\r\n$4\r\nMGET\r\n$%d\r\n%b\r\n$%d\r\n%b" % (len(stamp), stamp, len(prefix) + 32, prefix)

    def get(self, /, *args: Any, **kwargs: Any) -> Any:
        """The value of this call, or what was Missed."""
        digest = self._digest(*args, **kwargs).encode()
        return self._judge(self._prefix + digest, self._station.hit(self._head + digest + b"\r\n"))

    async def aget(self, /, *args: Any, **kwargs: Any) -> Any:
        """`get` from a coroutine."""
        digest = self._digest(*args, **kwargs).encode()
        return self._judge(self._prefix + digest, await self._station.ahit(self._head + digest + b"\r\n"))

    def look(self, /, *args: Any, **kwargs: Any) -> tuple[str, Landing | Missed]:
        """`get` for those who want to know more of it: the digest, and the value with its age."""
        digest = self._digest(*args, **kwargs)
        last = digest.encode()
        return digest, self.landed(self._prefix + last, self._station.hit(self._head + last + b"\r\n"))

    async def alook(self, /, *args: Any, **kwargs: Any) -> tuple[str, Landing | Missed]:
        """`look` from a coroutine."""
        digest = self._digest(*args, **kwargs)
        last = digest.encode()
        return digest, self.landed(self._prefix + last, await self._station.ahit(self._head + last + b"\r\n"))

    def landed(self, redis_key: bytes, replies: Sequence[Any] | None) -> Landing | Missed:
        """How the call with this key lands, as far as its stamp and its entry tell."""
        value = self._judge(redis_key, replies)
        if replies is None or type(value) is Missed:
            return value  # type: ignore[no-any-return]  # Missed
        return Landing(value, None, created_ms(replies[1]))

    def _judge(self, redis_key: bytes, replies: Sequence[Any] | None) -> Any:
        if replies is None:
            return Missed(None)
        stamp, entry = replies
        if entry is None or not is_fresh_value(entry, stamp):
            return Missed((entry, stamp))
        try:
            return self._codec.open_short(redis_key, entry, SHORT_HEAD_BYTES)
        except UntrustedValue:
            return Missed((entry, stamp))  # counted and logged by the long way


def hits_of(function: Function[Any, Any]) -> Hits | None:
    """The short way for a function, where there is one: an own key, no tags, a server of our own wire."""
    cache = function.cache
    if cache.debug or not cache.is_open or function.digest is None or function.options.tags != ():
        return None
    if function.options.metrics:
        return None
    prefix = f"{cache.name}:{function.name}:".encode("utf-8", "surrogatepass")
    return Hits(cache.station, cache.codec, function.digest, function.stamp, prefix)
