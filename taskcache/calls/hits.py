"""This is where a hit is one screen of code: a key, one round trip, a stamp that matches, and the value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from taskcache.calls.primitives import MISSING
from taskcache.codec import envelope, typed
from taskcache.codec.envelope import Flags
from taskcache.drivers.wire import Broken
from taskcache.errors import UntrustedValue

if TYPE_CHECKING:
    from taskcache.codec.sealing import Codec
    from taskcache.drivers.station import Station
    from taskcache.function import Function

_IS_OURS = bytes((envelope.MAGIC, envelope.VERSION))
_STAMP_AT = envelope.HEADER_BYTES
_PAYLOAD_AT = envelope.HEADER_BYTES + envelope.STAMP_BYTES
_FLAGS_AT = envelope.FLAGS_AT
# Plain integers: asking an IntFlag costs as much as decoding a small value.
_PLAIN, _UNUSUAL = int(Flags.PLAIN), int(Flags.ERROR | Flags.TAGGED)


class Hits:
    """Answers calls whose value is stored and depends on nothing but its function; every other call is a miss here."""

    __slots__ = ("_codec", "_digest", "_head", "_is_signed", "_prefix", "_station")

    def __init__(self, station: Station, codec: Codec, digest: Callable[..., str], stamp: bytes, prefix: bytes) -> None:
        self._station = station
        self._codec = codec
        self._digest = digest
        self._prefix = prefix
        # MGET stamp entry, up to the digest, which has always the same length.
        self._head = b"*3\r\n$4\r\nMGET\r\n$%d\r\n%b\r\n$%d\r\n%b" % (len(stamp), stamp, len(prefix) + 32, prefix)
        self._is_signed = codec.is_signed

    def get(self, *args: Any, **kwargs: Any) -> Any:
        """The value of this call, or MISSING when it takes more than one look to know it."""
        digest = self._digest(*args, **kwargs).encode()
        return self._judge(digest, self._station.hit(self._head + digest + b"\r\n"))

    async def aget(self, *args: Any, **kwargs: Any) -> Any:
        """`get` from a coroutine."""
        digest = self._digest(*args, **kwargs).encode()
        reply = self._station.loops.ask(self._head + digest + b"\r\n")
        try:
            return MISSING if reply is None else self._judge(digest, await reply)
        except Broken:
            return MISSING

    def _judge(self, digest: bytes, replies: Sequence[Any] | None) -> Any:
        if replies is None:
            return MISSING
        stamp, entry = replies
        # A stamp that differs or is missing: the function was invalidated after this value's computation began.
        if entry is None or stamp is None or entry[_STAMP_AT:_PAYLOAD_AT] != stamp or entry[:2] != _IS_OURS:
            return MISSING
        flags = entry[_FLAGS_AT] if len(entry) >= _PAYLOAD_AT else _UNUSUAL
        try:
            if flags == _PLAIN and not self._is_signed:
                return typed.decode(memoryview(entry)[_PAYLOAD_AT:])
            if not flags & _UNUSUAL:
                return self._codec.open_short(self._prefix + digest, entry, _PAYLOAD_AT)
        except UntrustedValue:
            pass  # counted and logged by the long way
        return MISSING


def hits_of(function: Function[Any, Any]) -> Hits | None:
    """The short way for a function, where there is one: an own key, no tags, a server of our own wire."""
    cache = function.cache
    if cache.debug or not cache.is_open or function.digest is None or function.options.tags != ():
        return None
    if function.options.metrics:
        return None
    prefix = f"{cache.name}:{function.name}:".encode("utf-8", "surrogatepass")
    return Hits(cache.station, cache.codec, function.digest, function.stamp, prefix)
