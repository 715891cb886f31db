"""This is where near values are held: bounded by number and bytes, each only as long as its stamps are known to hold.

Nothing here speaks to a server or reads a clock, and nothing locks: `Near` does that.

A value hangs on the Redis key of its entry and on its stamps. An entry that changes takes its value away. A stamp that
changes only becomes unknown: every computation of its function extends the stamp's life, which the server reports as a
change like any other. The next read tells whether it is the same as before, and then all values under it hold again.
"""

from __future__ import annotations

import heapq
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol

from taskcache.errors import UntrustedValue

# What an entry costs besides its bytes: key, object, index and heap (measured: tests/near/test_entries.py).
OVERHEAD_BYTES: Final = 700
NEVER: Final = float("inf")
# Given in the place of a value: ask the server, whose entry is judged as every other.
UNREADABLE: Final[Any] = object()


class Stamp:
    """A stamp as this process last read it; None: not known at this moment."""

    __slots__ = ("__weakref__", "fronts", "value")

    def __init__(self) -> None:
        self.value: bytes | None = None
        # Those who answer without asking whether the stamp is known, and have to be told.
        self.fronts: weakref.WeakSet[Watcher] = weakref.WeakSet()


class Watcher(Protocol):
    """Who answers calls by itself until it is told not to."""

    def halt(self) -> None:
        """Answer nothing until the stamp is known again."""

    def empty(self) -> None:
        """Drop everything: the connection was lost."""


class Held:
    """One value. `reopen` makes a copy of one that callers may not share; with None, `value` is everybody's."""

    __slots__ = ("created_ms", "index", "index_key", "key", "reopen", "size_bytes", "stamps", "until", "value")

    def __init__(
        self,
        key: bytes,
        value: Any,
        reopen: Callable[[], Any] | None,
        *,
        until: float,
        size_bytes: int,
        stamps: tuple[tuple[Stamp, bytes], ...],
        created_ms: int,
    ) -> None:
        self.key = key
        self.value = value
        self.reopen = reopen
        self.until = until
        self.size_bytes = size_bytes
        self.stamps = stamps
        self.created_ms = created_ms
        # Where a front finds it by its arguments.
        self.index: dict[Any, Held] | None = None
        self.index_key: Any = None

    def take(self) -> Any:
        """The value, or a copy of it; UNREADABLE where none can be made, since its class is another one by now."""
        if self.reopen is None:
            return self.value
        try:
            return self.reopen()
        except UntrustedValue:
            return UNREADABLE


class Place:
    """Held free for a value that is being read; gone when its entry or any stamp changed meanwhile."""

    __slots__ = ("key", "turn")

    def __init__(self, key: bytes, turn: int) -> None:
        self.key = key
        self.turn = turn


class Entries:
    """The near values of one cache in one process."""

    def __init__(self, stamp_prefix: bytes, max_entries: int, max_bytes: int) -> None:
        self._stamp_prefix = stamp_prefix
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._held: dict[bytes, Held] = {}
        self._places: dict[bytes, Place] = {}
        # Who expires first; also who has to go first when there is no room: nothing is noted on a hit. What is gone
        # already stays listed for a while, so only keys are: no value is held beyond the bounds.
        self._by_expiry: list[tuple[float, bytes]] = []
        self._stamps: weakref.WeakValueDictionary[bytes, Stamp] = weakref.WeakValueDictionary()
        # Counts the changes of stamps. One number for all: a read between two changes is made again, no more.
        self._turn = 0
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._held)

    @property
    def next_expiry(self) -> float:
        """When something expires; nothing does before."""
        return self._by_expiry[0][0] if self._by_expiry else NEVER

    def find(self, key: bytes) -> Held | None:
        """The value of an entry, if everything it was computed under is known to hold."""
        held = self._held.get(key)
        if held is None:
            return None
        for stamp, value in held.stamps:
            if stamp.value != value:
                return None
        return held

    def stamp(self, key: bytes) -> Stamp:
        """What is known of a stamp; whoever wants to hear of its changes keeps it."""
        found = self._stamps.get(key)
        if found is None:
            found = self._stamps[key] = Stamp()
        return found

    # -- a value comes ---------------------------------------------------------------------------------

    def expect(self, key: bytes) -> Place:
        """Hold a place before a value is read, so that an invalidation that overtakes the read is not lost."""
        place = self._places[key] = Place(key, self._turn)
        return place

    def leave(self, place: Place) -> bool:
        """Give a place back; True when it was still held, so that what was read since is current."""
        if self._places.get(place.key) is not place:
            return False
        del self._places[place.key]
        return place.turn == self._turn

    def keep(
        self,
        place: Place,
        value: Any,
        reopen: Callable[[], Any] | None,
        *,
        until: float,
        size_bytes: int,
        stamps: Sequence[tuple[bytes, bytes]],
        created_ms: int,
    ) -> Held | None:
        """Put a value into its place; None when the place is gone or the value is larger than all there may be."""
        if not self.leave(place) or size_bytes + OVERHEAD_BYTES > self._max_bytes:
            return None
        self._remove(place.key)
        known = tuple((self._learned(key, read), read) for key, read in stamps)
        held = Held(
            place.key,
            value,
            reopen,
            until=until,
            size_bytes=size_bytes + OVERHEAD_BYTES,
            stamps=known,
            created_ms=created_ms,
        )
        self._held[place.key] = held
        self.size_bytes += held.size_bytes
        heapq.heappush(self._by_expiry, (until, place.key))
        while len(self._held) > self._max_entries or self.size_bytes > self._max_bytes:
            self._pop_first()
        if len(self._by_expiry) > 2 * len(self._held) + 64:
            self._by_expiry = [(each.until, each.key) for each in self._held.values()]
            heapq.heapify(self._by_expiry)
        return held

    def _learned(self, key: bytes, read: bytes) -> Stamp:
        stamp = self.stamp(key)
        if stamp.value is not None and stamp.value != read:
            # Two reads disagree: the report of the change is still on its way. Neither is believed until it is here.
            self._doubt(stamp)
        else:
            stamp.value = read
        return stamp

    # -- a value goes ----------------------------------------------------------------------------------

    def changed(self, keys: Iterable[bytes]) -> None:
        """These Redis keys have changed, entries or stamps: what hangs on them does not hold any more."""
        for key in keys:
            if not key.startswith(self._stamp_prefix):
                self._places.pop(key, None)
                self._remove(key)
                continue
            # Also of a stamp that nobody here knows: what is being read just now may be the first to carry it.
            self._turn += 1
            stamp = self._stamps.get(key)
            if stamp is not None:
                self._doubt(stamp)

    def sweep(self, now: float) -> None:
        """Remove what has expired."""
        while self._by_expiry and self._by_expiry[0][0] <= now:
            self._pop_first()

    def clear(self) -> None:
        """Remove everything, what is being read now too."""
        fronts = [front for stamp in self._stamps.values() for front in stamp.fronts]
        for stamp in list(self._stamps.values()):
            self._doubt(stamp)
        for front in fronts:
            front.empty()
        self._held.clear()
        self._places.clear()
        self._by_expiry.clear()
        self._turn += 1
        self.size_bytes = 0

    def _doubt(self, stamp: Stamp) -> None:
        stamp.value = None
        for front in stamp.fronts:
            front.halt()

    def _pop_first(self) -> None:
        until, key = heapq.heappop(self._by_expiry)
        held = self._held.get(key)
        if held is not None and held.until == until:
            self._remove(key)

    def _remove(self, key: bytes) -> None:
        held = self._held.get(key)
        if held is not None:
            # First: interrupted after this, it is held by nobody who answers from it.
            if held.index is not None:
                held.index.pop(held.index_key, None)
            del self._held[key]
            self.size_bytes -= held.size_bytes
