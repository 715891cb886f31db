"""This is where a call looks near before it asks the server, and leaves there what it had to read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from taskcache.calls.hits import Hits, Missed, hits_of
from taskcache.drivers import hubs
from taskcache.near.entries import UNREADABLE
from taskcache.protocol.flight import Landing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from taskcache.calls.invocation import Invocation
    from taskcache.codec.sealing import Codec
    from taskcache.drivers.station import Station
    from taskcache.function import Function
    from taskcache.near.cache import Near
    from taskcache.near.entries import Place
    from taskcache.near.front import Front
    from taskcache.settings import Settings


class _Nowhere:
    """What surrounds the reads of functions without `near=`."""

    landing: Landing | None = None

    def keep(self, sealed: bytes | None, landing: Landing | None) -> None:
        """Keep nothing."""

    def __enter__(self) -> _Nowhere:
        return self

    def __exit__(self, *error: object) -> None:
        pass


_NOWHERE: Final = _Nowhere()


class _Around(_Nowhere):
    """Holds a place while a value is read, so that what is invalidated meanwhile is not kept."""

    def __init__(self, near: Near, redis_key: bytes, codec: Codec, stamp: bytes, longest_ms: int) -> None:
        self._near = near
        self._how = (codec, stamp, longest_ms)
        held = near.find(redis_key)
        self._place: Place | None = None
        if held is not None and (value := held.take()) is not UNREADABLE:
            self.landing = Landing(value, None, held.created_ms)
        else:
            self._place = near.expect(redis_key)

    def keep(self, sealed: bytes | None, landing: Landing | None) -> None:
        """Keep what was read and found valid; errors are not kept."""
        if self._place is None or sealed is None or landing is None or landing.error is not None:
            return
        self._near.keep(self._place, sealed, landing.value, *self._how)

    def __enter__(self) -> _Around:
        return self

    def __exit__(self, *error: object) -> None:
        if self._place is not None:
            self._near.leave(self._place)


def around(station: Station, invocation: Invocation) -> _Nowhere:
    """Surround the reads of one call: it has a landing if the value was near, and keeps what is read otherwise."""
    near = station.near(invocation.settings) if invocation.near_ms else None
    if near is None:
        return _NOWHERE
    return _Around(near, invocation.redis_key, invocation.codec, invocation.stamps[0], invocation.near_ms)


class NearHits(Hits):
    """Hits whose values are kept near."""

    __slots__ = ("_longest_ms", "_settings", "_stamp")

    def __init__(self, settings: Settings, stamp: bytes, longest_ms: int, *parts: Any) -> None:
        super().__init__(*parts)
        self._settings = settings
        self._stamp = stamp
        self._longest_ms = longest_ms

    def _around(self, digest: bytes) -> _Around:
        # Asked for each time: under gevent each hub has a station of its own, and what belongs to it.
        near = self._station.near(self._settings)
        assert near is not None
        return _Around(near, self._prefix + digest, self._codec, self._stamp, self._longest_ms)

    def get(self, /, *args: Any, **kwargs: Any) -> Any:
        # A front has looked near already; not every function has one, and looking is cheap beside asking.
        return _value(self.look(*args, **kwargs)[1])

    async def aget(self, /, *args: Any, **kwargs: Any) -> Any:
        return _value((await self.alook(*args, **kwargs))[1])

    def look(self, /, *args: Any, **kwargs: Any) -> tuple[str, Landing | Missed]:
        digest = self._digest(*args, **kwargs)
        with self._around(digest.encode()) as near:
            if near.landing is None:
                replies = self._station.hit(self._head + digest.encode() + b"\r\n")
                return digest, self._kept(near, digest.encode(), replies)
            return digest, near.landing

    async def alook(self, /, *args: Any, **kwargs: Any) -> tuple[str, Landing | Missed]:
        digest = self._digest(*args, **kwargs)
        with self._around(digest.encode()) as near:
            if near.landing is None:
                replies = await self._station.ahit(self._head + digest.encode() + b"\r\n")
                return digest, self._kept(near, digest.encode(), replies)
            return digest, near.landing

    def _kept(self, near: _Around, digest: bytes, replies: Sequence[Any] | None) -> Landing | Missed:
        landing = self.landed(self._prefix + digest, replies)
        if isinstance(landing, Missed):
            # Whoever looks closer keeps it near, and holds a place for it before he reads.
            return Missed(None)
        assert replies is not None
        near.keep(replies[1], landing)
        return landing


def _value(landing: Landing | Missed) -> Any:
    return landing.value if isinstance(landing, Landing) else landing


def near_hits_of(function: Function[Any, Any]) -> Hits | None:
    """`hits_of`, near where the function's options say so."""
    hits = hits_of(function)
    near = _near_of(function)
    if hits is None or near is None:
        return hits
    assert function.digest is not None
    return NearHits(
        function.cache.settings,
        function.stamp,
        function.options.near_ms,
        function.cache.station,
        function.cache.codec,
        function.digest,
        function.stamp,
        _prefix(function),
    )


def front_of(
    function: Function[Any, Any], far: Callable[..., Any], install: Callable[[Callable[..., Any]], None]
) -> Front | None:
    """A front for the calls of a function, where there can be one: parameters with names, nothing to be timed."""
    near, binding = _near_of(function), function.binding
    # A front belongs to one near cache, and under gevent a process has one for each hub.
    if near is None or hubs.are_used():
        return None
    from taskcache.near.front import Front, fits

    if binding is None or not fits(binding) or function.origin.is_coroutine:
        return None
    if function.options.metrics:
        return None
    return Front(
        near,
        binding,
        function.stats_counted,
        stamp=function.stamp,
        prefix=_prefix(function),
        far=far,
        install=install,
    )


def _near_of(function: Function[Any, Any]) -> Near | None:
    cache = function.cache
    if cache.debug or not cache.is_open or not function.options.near_ms:
        return None
    return cache.station.near(cache.settings)


def _prefix(function: Function[Any, Any]) -> bytes:
    return f"{function.cache.name}:{function.name}:".encode("utf-8", "surrogatepass")
