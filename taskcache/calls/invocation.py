"""This is where one call is described: its key, what its value depends on, and how that value is opened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from taskcache import events
from taskcache.codec.envelope import (
    ERROR,
    HEADER_BYTES,
    MAGIC,
    Envelope,
    unpack,
)
from taskcache.codec.sealing import Codec
from taskcache.errors import UntrustedValue
from taskcache.freshness import SHORT_HEAD_BYTES, Verdict, created_ms, is_fresh_value, judge
from taskcache.protocol.entry import EntryKey, is_of, token_bytes
from taskcache.protocol.flight import Errand, Extra, Landing
from taskcache.protocol.stamps import function_stamp, tag_stamp
from taskcache.settings import Settings

if TYPE_CHECKING:
    from taskcache.drivers.station import Station


class Invocation(Struct, eq=False):
    """One call of one function, or one plain key; it holds no arguments."""

    settings: Settings
    codec: Codec
    # The key as `cache.get` takes it, and as Redis does.
    key: str
    redis_key: bytes
    # The function's name, "" for plain keys: the first part of the key.
    label: str
    tags: tuple[str, ...]
    stamps: tuple[bytes, ...]
    lifetime_ms: int
    # How long this process may keep the value near; 0: not at all.
    near_ms: int = 0
    # The hash of the bytes that this call did not trust; all else stays as it was made.
    distrusted: int = 0

    @classmethod
    def of(
        cls,
        settings: Settings,
        codec: Codec,
        key: str,
        label: str,
        tags: tuple[str, ...],
        lifetime_ms: int,
        near_ms: int = 0,
    ) -> Invocation:
        """Describe the call of the function `label` whose key is `key`."""
        name = settings.name
        stamps = (function_stamp(name, label), *(tag_stamp(name, tag) for tag in tags))
        redis_key = (f"{name}:" + key).encode("utf-8", "surrogatepass")
        return cls(settings, codec, key, redis_key, label, tags, stamps, lifetime_ms, near_ms)

    @property
    def identity(self) -> str:
        """What tells this call from those of every other cache; two caches may have one key."""
        return f"{self.settings.name}:{self.key}"

    @property
    def label_bytes(self) -> int:
        return len(self.label.encode("utf-8", "surrogatepass"))

    def place(self) -> EntryKey:
        """The Redis keys of this call."""
        return EntryKey.of(self.redis_key)

    def usable(self, entry: bytes | None, stamps: Sequence[bytes | None]) -> Landing | Extra | None:
        """Open an entry if it may be returned under these stamps; what cannot be read is a counted miss."""
        if entry is None:
            return None
        counter = None if self.label else counter_of(entry)
        if counter is not None:
            return Landing(counter, None, 0)
        try:
            if len(stamps) == 1 and is_fresh_value(entry, stamps[0]):
                return self._short_landing(entry)
            envelope = unpack(entry)
            if not self.label and envelope.label_bytes is None:
                return self.landing(envelope)  # as `set` left it: no function, so no stamps
            verdict = judge(envelope, stamps)
            if verdict is Verdict.FRESH:
                return self.landing(envelope)
            # A second look at the same entry that still wants more finds tags it cannot name: not ours.
            if verdict is Verdict.MORE and len(stamps) == len(self.stamps):
                extra = self._extra(envelope)
                if not extra.keys:
                    raise UntrustedValue("an entry with more stamps than tags")
                return extra
            return None
        except UntrustedValue as error:
            self.distrust(entry, error)
            return None

    def _short_landing(self, entry: bytes) -> Landing:
        value = self.codec.open_short(self.redis_key, entry, SHORT_HEAD_BYTES)
        return Landing(value, None, created_ms(entry))

    def landing(self, envelope: Envelope) -> Landing:
        """The value or the error in an envelope; raises UntrustedValue."""
        if int(envelope.flags) & ERROR:
            return Landing.failed(self.codec.open_failure(self.redis_key, envelope), created_ms=envelope.created_ms)
        return Landing(self.codec.open(self.redis_key, envelope), None, envelope.created_ms)

    def _extra(self, envelope: Envelope) -> Extra:
        return Extra(tuple(tag_stamp(self.settings.name, tag) for tag in envelope.tags[len(self.tags) :]))

    def opened(self, sealed: bytes, token: str) -> tuple[Landing, Extra]:
        """
        Open what the flight of `token` delivered, and name the stamps of the tags that its body added.

        Raises UntrustedValue, also for what another flight of this key delivered: it may have been invalidated since.
        """
        try:
            if not is_of(sealed, token):
                raise UntrustedValue("a value that another flight delivered")
            # Whoever waited gets it whatever happened to its stamp meanwhile: it need only be one of its function alone.
            if is_fresh_value(sealed, sealed[HEADER_BYTES:SHORT_HEAD_BYTES]):
                return self._short_landing(sealed), Extra(())
            envelope = unpack(sealed)
            return self.landing(envelope), self._extra(envelope)
        except UntrustedValue as error:
            self.distrust(sealed, error)
            raise

    def distrust(self, entry: bytes, error: UntrustedValue) -> None:
        """Count bytes that cannot be read, once for this call: the hit path sees them, and the long way again."""
        met = hash(bytes(entry))
        if self.distrusted == met:
            return
        self.distrusted = met
        events.emit(events.Event("untrusted", self.label, self.key))
        events.warn_once(
            f"untrusted {self.label}",
            "taskcache: an entry of %s is not readable here and counts as a miss (%s)",
            self.label or "a plain key",
            error,
        )

    def failure(self, error: BaseException, token: str) -> bytes:
        """Seal an error for everybody who waits for this call."""
        return self.codec.seal_failure(self.redis_key, error, token=token_bytes(token))

    def errand(self, station: Station, owner: str) -> Errand:
        """This call in the protocol's terms; `owner` is empty when a worker queue computes it."""
        return Errand(
            key=self.place(),
            stamps=self.stamps,
            lifetime_ms=self.lifetime_ms,
            settings=self.settings,
            # Looked up when it is asked for: a forked child has an inbox of its own.
            inbox=lambda: station.keeper.inbox(),
            owner=owner,
            usable=self.usable,
            opened=self.opened,
            failure=self.failure,
            was_left=station.left.__contains__,
            has_stamps_beside=not station.server.is_cluster,
        )


def counter_of(entry: bytes) -> int | None:
    """The number in an entry as `incr` leaves it; None for everything else."""
    if entry[:1] != bytes((MAGIC,)) and len(entry) <= 20:
        try:
            return int(entry)
        except ValueError:
            return None
    return None


def sealed_value(
    invocation: Invocation,
    value: Any,
    *,
    token: str,
    created_ms: int,
    ttl_ms: int,
    cost_ms: int,
    stamps: bytes,
    more_tags: dict[str, bytes],
) -> bytes:
    """Seal a computed value with everything it was computed under."""
    # A flight that lost its stamps is delivered and not stored: what its body added has nothing left to add to.
    stamps = stamps and stamps + b"".join(more_tags.values())
    return invocation.codec.seal(
        invocation.redis_key,
        value,
        token=token_bytes(token),
        created_ms=created_ms,
        fresh_ms=max(0, ttl_ms),
        cost_ms=cost_ms,
        label_bytes=invocation.label_bytes,
        stamps=stamps,
        tags=(*invocation.tags, *more_tags),
    )
