"""This is where a window of calls is looked up together, the short way or the long one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from taskcache.calls.hits import Hits, Missed
from taskcache.calls.invocation import Invocation
from taskcache.codec.pickling import is_interruption
from taskcache.freshness import SHORT_HEAD_BYTES, all_created_ms, are_fresh_values
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
    if not calls or hits is None:
        return _look_closely(station, calls)
    redis_keys = function.cache.plain.redis_keys(calls)
    looks: list[Look] = []
    stamp: bytes | None = None
    # A page is opened while the next ones are on their way; the stamp is the first of all.
    for _, page in station.read_many((function.stamp, *redis_keys)):
        entries: Sequence[bytes | None] = page
        if not looks:
            stamp, *entries = page
        place = slice(len(looks), len(looks) + len(entries))
        landings = _together(function, entries, stamp)
        if landings is None:
            pairs = zip(redis_keys[place], entries, strict=True)
            landings = [hits.landed(redis_key, (stamp, entry)) for redis_key, entry in pairs]
        looks += [
            _missed(function, key, landing) if isinstance(landing, Missed) else Look(key, landing, ())
            for key, landing in zip(calls[place], landings, strict=True)
        ]
    return looks


def _missed(function: Any, key: str, missed: Missed) -> Look:
    assert missed.first is not None  # it was read
    return _judged(function.described(key), missed.first)


def _together(function: Any, entries: Sequence[bytes | None], stamp: bytes | None) -> Sequence[Landing | Missed] | None:
    """What `Hits.landed` says of each, when all that are there are of the commonest kind; None when one is not."""
    opened = function.cache.codec.open_together([entry for entry in entries if entry is not None], SHORT_HEAD_BYTES)
    if opened is None or not are_fresh_values(opened[0], stamp):
        return None
    heads, values = opened
    landings = [Landing(value, None, created) for value, created in zip(values, all_created_ms(heads), strict=True)]
    if len(landings) == len(entries):
        return landings
    there = iter(landings)
    return [Missed((None, stamp)) if entry is None else next(there) for entry in entries]


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
