"""This is where many entries are stored in one transaction, in the shortest way that a server knows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, groupby
from typing import Any

from redis.exceptions import ResponseError

from taskcache.drivers.wire import PAGE, pack
from taskcache.protocol.entry import EntryKey

# What stands around a key without a hash tag in the name of its flight.
_BEFORE, _AFTER = EntryKey.of(b"K").flight.split(b"K")


class Stores:
    """What is said to one server; until it is closed, it remembers whether the server knows MSETEX (Valkey 9.1, Redis 8.4)."""

    def __init__(self) -> None:
        self._knows_msetex = True

    def commands(self, entries: Sequence[tuple[bytes, bytes]], ttl_ms: int) -> Iterator[list[bytes]]:
        """
        Ask how many flights of these entries are there, and store each; looking and storing are one transaction.

        In parts: the server reads one while the next is packed.
        """
        lifetime = (b"PX", b"%d" % ttl_ms) if ttl_ms > 0 else ()
        part = [pack(b"MULTI"), look_for_flights([redis_key for redis_key, _ in entries])]
        for start in range(0, len(entries), PAGE):
            if len(entries) > PAGE:
                yield part
                part = []
            part += self._stores(entries[start : start + PAGE], lifetime)
        yield [*part, pack(b"EXEC")]

    def _stores(self, entries: Sequence[tuple[bytes, bytes]], lifetime: tuple[bytes, ...]) -> list[bytes]:
        if self._knows_msetex and len(entries) > 1:
            # A third of the work for both ends.
            return [pack(b"MSETEX", b"%d" % len(entries), *chain.from_iterable(entries), *lifetime)]
        # What stands around key and value is the same for all.
        head, tail = b"*%d\r\n$3\r\nSET\r\n" % (3 + len(lifetime)), pack(*lifetime).partition(b"\r\n")[2]
        return [b"%b$%d\r\n%b\r\n$%d\r\n%b\r\n%b" % (head, len(k), k, len(v), v, tail) for k, v in entries]

    def are_done(self, replies: Sequence[Any]) -> bool | None:
        """Whether all is stored and none of the flights was there; None: nothing is, and `commands` has another way."""
        *queued, done = replies
        if self._knows_msetex and any(
            isinstance(each, ResponseError) and "msetex" in str(each).lower() for each in queued
        ):
            # "unknown command" of an older server, or "no permissions to run". It is not tried again.
            self._knows_msetex = False
            return None
        return isinstance(done, list) and done[0] == 0 and not any(isinstance(each, Exception) for each in done)


def look_for_flights(redis_keys: Sequence[bytes]) -> bytes:
    """EXISTS of the flights of these keys, packed; it counts them, so their order is nobody's matter."""
    if b"{" in b"".join(redis_keys):
        return pack(b"EXISTS", *(EntryKey.of(redis_key).flight for redis_key in redis_keys))
    # Joined by C where they are as long as each other: of storing a thousand values, packing each of these shows.
    parts = [b"*%d\r\n$6\r\nEXISTS\r\n" % (1 + len(redis_keys))]
    for size, alike in groupby(sorted(redis_keys, key=len), len):
        before = b"$%d\r\n%b" % (len(_BEFORE) + size + len(_AFTER), _BEFORE)
        after = _AFTER + b"\r\n"
        parts += before, (after + before).join(alike), after
    return b"".join(parts)
