"""This is where a window of calls is looked up together, the short way or the long one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct

from taskcache.calls.hits import Hits, Missed
from taskcache.calls.invocation import Invocation
from taskcache.codec.pickling import is_interruption
from taskcache.protocol.flight import Extra, Landing
from taskcache.protocol.steps import Call

if TYPE_CHECKING:
    from taskcache.batching import BoundCall
    from taskcache.drivers.station import Station


class Look(Struct, frozen=True):
    """What was found of one call: how it lands, or what goes on to whoever computes it."""

    # The key of a hit is all that is known of it.
    call: Invocation | str
    landing: Landing | None
    first: tuple[bytes | None, ...]

    @property
    def invocation(self) -> Invocation:
        """What is not stored."""
        assert not isinstance(self.call, str)
        return self.call


def described(function: Any, call: BoundCall, hits: Hits | None) -> Invocation | str | Exception:
    """What is needed to look a call up, by the short way its key."""
    try:
        describe = function.invocation if hits is None else function.make_key
        known: Invocation | str = describe(call.args, call.kwargs)
        return known
    except Exception as error:  # noqa: BLE001 - the error of this call alone
        return of_one_call(error)


def of_one_call(error: Exception) -> Exception:
    """The error of one call of many; a soft time limit is that of the task which makes them, and ends them all."""
    if is_interruption(error):
        raise error
    return error


def look(function: Any, station: Station, hits: Hits | None, calls: list[Any]) -> list[Look]:
    """Read all entries and their stamps in one round trip."""
    if hits is None:
        return _look_closely(station, calls)
    found = hits.look_many(function.cache.plain.redis_keys(calls)) if calls else ()
    return [
        _missed(function, key, each) if isinstance(each, Missed) else Look(key, each, ())
        for key, each in zip(calls, found, strict=True)
    ]


def _missed(function: Any, key: str, missed: Missed) -> Look:
    assert missed.first is not None
    return _judged(function.described(key), missed.first)


def _look_closely(station: Station, invocations: list[Invocation]) -> list[Look]:
    stamps = tuple(dict.fromkeys(stamp for each in invocations for stamp in each.stamps))
    if not invocations:
        return []
    station.check()
    with station.watched():
        keys = (*stamps, *(each.redis_key for each in invocations))
        replies: list[bytes | None] = station.server.call(Call("MGET", keys))
    current = dict(zip(stamps, replies, strict=False))
    return [
        _judged(invocation, (entry, *(current[stamp] for stamp in invocation.stamps)))
        for invocation, entry in zip(invocations, replies[len(stamps) :], strict=True)
    ]


def _judged(invocation: Invocation, first: tuple[bytes | None, ...]) -> Look:
    landing = invocation.usable(first[0], first[1:])
    return Look(invocation, None if isinstance(landing, Extra) else landing, first)
