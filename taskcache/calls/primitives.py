"""This is where get, set and their kin are written, once, as steps for whoever waits in whichever way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import compress
from typing import Any, Generic, TypeVar

from msgspec import Struct

from taskcache import events
from taskcache.calls.invocation import Invocation, counter_of
from taskcache.codec.envelope import Envelope, Flags, unpack
from taskcache.codec.sealing import UNOPENED, Codec
from taskcache.errors import UntrustedValue, UsageError
from taskcache.freshness import Verdict, judge
from taskcache.protocol import flight, scripts, stamps
from taskcache.protocol.entry import EntryKey, is_companion, new_token, read, token_bytes
from taskcache.protocol.stamps import function_stamp, glob_escape, tag_stamp
from taskcache.protocol.steps import Call, Calls, Steps
from taskcache.settings import PERSIST

R = TypeVar("R")
MISSING: Any = object()
# The key of an entry as the user knows it, its Redis key, and its bytes.
Unopened = tuple[str, bytes, bytes]
# How many entries are opened together: one that needs a closer look costs its neighbours the short way.
_PAGE = 250


class Entry(Struct, Generic[R], frozen=True):
    """A stored value with what is known about it; times in seconds, by the server's clock."""

    value: R
    age: float
    # None: it never expires.
    expires_in: float | None
    cost: float
    size_bytes: int
    tags: tuple[str, ...]


def as_ms(time: Sequence[bytes]) -> int:
    """The reply of TIME in milliseconds: the server's clock is the only one that any two processes share."""
    seconds, micros = time
    return int(seconds) * 1000 + int(micros) // 1000


def looked_up(invocation: Invocation) -> Steps[Entry[Any] | None]:
    """Read the entry of one call with everything that is known about it."""
    errand_keys = (invocation.redis_key, *invocation.stamps)
    entry, *current = yield from read(errand_keys)
    landing = invocation.usable(entry, current)
    if isinstance(landing, flight.Extra):
        more = yield from read(landing.keys)
        landing = invocation.usable(entry, [*current, *more])
    if entry is None or landing is None or isinstance(landing, flight.Extra) or landing.error is not None:
        return None
    left_ms, time = yield Calls((Call("PTTL", (invocation.redis_key,)), Call("TIME", ())))
    envelope = unpack(entry)
    return Entry(
        landing.value,
        age=max(0, as_ms(time) - envelope.created_ms) / 1000 if envelope.created_ms else 0.0,
        expires_in=None if left_ms < 0 else left_ms / 1000,
        cost=envelope.cost_ms / 1000,
        size_bytes=len(entry),
        tags=envelope.tags,
    )


def stored(invocation: Invocation, value: Any, ttl_ms: int) -> Steps[int]:
    """Put a value in the place of a call's entry; 0 ms only removes what is there."""
    if ttl_ms == 0:
        return (yield from flight.invalidate(invocation.place()))
    current = yield from read(invocation.stamps)
    lifetime_ms = ttl_ms + flight.STAMP_MARGIN_MS if ttl_ms > 0 else PERSIST
    held = yield from stamps.ensure(invocation.stamps, current, lifetime_ms)
    *_, time = yield Calls((*stamps.extensions(invocation.stamps, lifetime_ms), Call("TIME", ())))
    envelope = invocation.codec.seal(
        invocation.redis_key,
        value,
        token=token_bytes(new_token()),
        created_ms=as_ms(time),
        fresh_ms=max(0, ttl_ms),
        cost_ms=0,
        label_bytes=invocation.label_bytes,
        stamps=held,
        tags=invocation.tags,
    )
    return (yield from flight.invalidate(invocation.place(), envelope=envelope, ttl_ms=ttl_ms))


def invalidated(name: str, key: str) -> Steps[int]:
    """Remove the entry of a key and outdate its flight; 1 when it was there."""
    return (yield from flight.invalidate(EntryKey.of(redis_key_of(name, key))))


def added(name: str, key: str, delta: int) -> Call:
    """Add to the counter of a key; raises UsageError for what Redis cannot add."""
    check_keys((key,))
    given: Any = delta  # what the annotation says is not what everybody passes
    if isinstance(given, bool) or not isinstance(given, int) or not _is_counter(int(given)):
        raise UsageError(
            f"incr(delta={delta!r}): counters take whole numbers of 64 bits; keep another number with `set`"
        )
    return Call("INCRBY", (redis_key_of(name, key),), (int(delta),))


def check_keys(keys: Sequence[str]) -> Sequence[str]:
    """Refuse what is not a key, with the cure."""
    if isinstance(keys, str):
        raise UsageError(f"keys={keys!r}: pass several keys, such as [{keys!r}]")
    wanted = list(keys)
    for kind in set(map(type, wanted)):
        if not issubclass(kind, str):
            wrong = next(key for key in wanted if type(key) is kind)
            raise UsageError(f"a key is a str, not {kind.__name__}; write str({wrong!r})")
    # Looked for in all of them at once: it is rare, and reading a thousand keys is not.
    if "{" in "".join(wanted):
        for key in wanted:
            if is_companion(key.encode("utf-8", "surrogatepass")):
                raise UsageError(
                    f"key={key!r} is called like what taskcache keeps beside a key with braces; end it otherwise, as in "
                    f"{key + '_'!r}"
                )
    return wanted


def redis_key_of(name: str, key: str) -> bytes:
    """The Redis key of what `cache.get(key)` reads."""
    # Put together, not formatted: a member of a str Enum is its text as a key, and its name in a format.
    return (f"{name}:" + key).encode("utf-8", "surrogatepass")


class Plain(Struct, frozen=True):
    """The plain keys of one cache."""

    name: str
    codec: Codec
    is_signed: bool

    def get(self, key: str) -> Steps[Any]:
        """The value of a key, whoever stored it, or MISSING."""
        found = yield from self.get_many((key,))
        return found.get(key, MISSING)

    def redis_keys(self, keys: Sequence[str]) -> tuple[bytes, ...]:
        """The Redis keys of what `get_many(keys)` reads."""
        prefix = f"{self.name}:"
        # As text that is encoded at once, and parted again; a zero byte within a key parts it once more.
        joined = prefix + f"\0{prefix}".join(keys)
        parted = tuple(joined.encode("utf-8", "surrogatepass").split(b"\0"))
        return parted if len(parted) == len(keys) else tuple(redis_key_of(self.name, key) for key in keys)

    def get_many(self, keys: Sequence[str]) -> Steps[dict[str, Any]]:
        """The values that are there; those of functions are checked against the stamps they name."""
        if not keys:
            return {}
        redis_keys = self.redis_keys(keys)
        return (yield from self.opened(keys, redis_keys, (yield from read(redis_keys))))

    def opened(
        self, keys: Sequence[str], redis_keys: Sequence[bytes], entries: Sequence[bytes | None]
    ) -> Steps[dict[str, Any]]:
        """The values of entries that a read which began after the call began has found."""
        found: dict[str, Any] = {}
        left: list[Unopened] = []
        for start in range(0, len(keys), _PAGE):
            page = slice(start, start + _PAGE)
            left += self.open_page(found, keys[page], redis_keys[page], entries[page])
        if left:
            yield from self.open_rest(found, left)
            return {key: found[key] for key in keys if key in found}
        return found

    def from_pages(
        self,
        keys: Sequence[str],
        read: Callable[[Sequence[bytes]], Iterator[tuple[slice, Sequence[bytes | None]]]],
        run: Callable[[Steps[None]], None],
    ) -> dict[str, Any]:
        """The values that are there, each page of which is opened while the next ones are on their way."""
        redis_keys = self.redis_keys(keys)
        found: dict[str, Any] = {}
        left: list[Unopened] = []
        for place, page in read(redis_keys):
            left += self.open_page(found, keys[place], redis_keys[place], page)
        if left:
            run(self.open_rest(found, left))
            return {key: found[key] for key in keys if key in found}
        return found

    def open_page(
        self,
        found: dict[str, Any],
        keys: Sequence[str],
        redis_keys: Sequence[bytes],
        entries: Sequence[bytes | None],
    ) -> list[Unopened]:
        """Add the values of entries that have no stamp to compare, as nearly all; gives back what needs a closer look."""
        bare = self.codec.open_bare(entries)
        if bare is None and None in entries:
            is_there = [entry is not None for entry in entries]
            return self.open_page(
                found,
                list(compress(keys, is_there)),
                list(compress(redis_keys, is_there)),
                list(compress(entries, is_there)),
            )
        if bare is not None:
            found.update(zip(keys, bare, strict=True))
            return []
        values = self.codec.open_plain(redis_keys, entries)
        found.update((key, value) for key, value in zip(keys, values, strict=True) if value is not UNOPENED)
        return [
            (key, redis_key, entry)
            for key, redis_key, entry, value in zip(keys, redis_keys, entries, values, strict=True)
            if value is UNOPENED and entry is not None
        ]

    def open_rest(self, found: dict[str, Any], left: Sequence[Unopened]) -> Steps[None]:
        """Add what `open_page` gave back and is valid, after one read of all stamps."""
        stamped: list[tuple[str, bytes, Envelope, tuple[bytes, ...]]] = []
        for key, redis_key, entry in left:
            envelope = self._unpack(key, entry)
            if isinstance(envelope, int):
                found[key] = envelope
            elif envelope is not None and envelope.label_bytes is None:
                self._open(found, key, redis_key, envelope)
            elif envelope is not None and (names := self._stamps_of(key, envelope)):
                stamped.append((key, redis_key, envelope, names))
        if stamped:
            wanted = tuple(dict.fromkeys(name for _, _, _, stamp_names in stamped for name in stamp_names))
            current = dict(zip(wanted, (yield from read(wanted)), strict=True))
            for key, redis_key, envelope, stamp_names in stamped:
                if judge(envelope, [current[name] for name in stamp_names]) is Verdict.FRESH:
                    self._open(found, key, redis_key, envelope)

    def _unpack(self, key: str, entry: bytes) -> Envelope | int | None:
        counter = counter_of(entry)
        if counter is not None:
            return counter
        try:
            return unpack(entry)
        except UntrustedValue as error:
            self._distrust(key, error)
            return None

    def _open(self, found: dict[str, Any], key: str, redis_key: bytes, envelope: Envelope) -> None:
        if envelope.flags & Flags.ERROR:
            return
        try:
            found[key] = self.codec.open(redis_key, envelope)
        except UntrustedValue as error:
            self._distrust(key, error)

    def _distrust(self, key: str, error: UntrustedValue) -> None:
        events.emit(events.Event("untrusted", "", key))
        events.warn_once(f"untrusted {self.name}", "taskcache: an entry is not readable here, a miss (%s)", error)

    def _stamps_of(self, key: str, envelope: Envelope) -> tuple[bytes, ...]:
        try:
            label = key.encode("utf-8", "surrogatepass")[: envelope.label_bytes].decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            # Nothing is verified yet, and this label ends in the middle of a sign.
            self._distrust(key, UntrustedValue("an entry whose label is not a part of its key"))
            return ()
        return (function_stamp(self.name, label), *(tag_stamp(self.name, tag) for tag in envelope.tags))

    def seal(self, values: Mapping[str, Any], ttl_ms: int) -> list[tuple[bytes, bytes]]:
        """The entries to store, each with its Redis key; a whole number without a secret is written as `incr` reads it."""
        redis_keys, sealed = list(self.redis_keys(list(values))), list(values.values())
        counters = []
        if not self.is_signed and int in map(type, sealed):
            pairs = list(zip(redis_keys, sealed, strict=True))
            counters = [(redis_key, b"%d" % value) for redis_key, value in pairs if _is_counter(value)]
            others = [pair for pair in pairs if not _is_counter(pair[1])]
            redis_keys, sealed = [redis_key for redis_key, _ in others], [value for _, value in others]
        return counters + list(zip(redis_keys, self.codec.seal_plain(redis_keys, sealed, fresh_ms=ttl_ms), strict=True))


def _is_counter(value: object) -> bool:
    return type(value) is int and -(2**63) <= value < 2**63


def replacements(entries: Iterable[tuple[bytes, bytes]], ttl_ms: int) -> list[Call]:
    """Store, or with 0 ms remove, each of them; flights of these keys are outdated."""
    return [
        scripts.as_call(scripts.forget(_entry_and_flight(redis_key), envelope=envelope, ttl_ms=ttl_ms))
        if ttl_ms
        else _removal(redis_key)
        for redis_key, envelope in entries
    ]


def _entry_and_flight(redis_key: bytes) -> tuple[bytes, bytes]:
    place = EntryKey.of(redis_key)
    return place.entry, place.flight


def _removal(redis_key: bytes) -> Call:
    return scripts.as_call(scripts.forget(_entry_and_flight(redis_key), envelope=b"", ttl_ms=0))


def removals(name: str, keys: Sequence[str]) -> list[Call]:
    """Remove each of these keys and outdate its flight; each call answers 1 when the entry was there."""
    return [_removal(redis_key_of(name, key)) for key in keys]


def entry_pattern(name: str) -> bytes:
    """The SCAN pattern of all entries of a cache."""
    return glob_escape(name) + b":*"


def text_of(redis_key: bytes) -> str:
    """A Redis key as text; what others wrote below our name and is no text is shown escaped."""
    try:
        return redis_key.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return redis_key.decode("utf-8", "backslashreplace")


def is_entry(redis_key: bytes) -> bool:
    """Tell entries from the companions of entries that carry a hash tag of their own."""
    return not is_companion(redis_key)
