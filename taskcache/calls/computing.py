"""This is where a body runs under a flight: begun, kept alive, measured, sealed and published."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from types import CoroutineType
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from taskcache import events
from taskcache.calls.current import Computation, Progress, Tags
from taskcache.calls.invocation import Invocation, sealed_value
from taskcache.errors import NoServer, UsageError, ValueTooLarge
from taskcache.options import Options
from taskcache.protocol import scripts
from taskcache.protocol.entry import new_token, read
from taskcache.protocol.flight import Errand, Published, end, stamp_lifetime_ms
from taskcache.protocol.stamps import ensure, extensions, tag_stamp
from taskcache.protocol.steps import Calls, Steps
from taskcache.settings import lifetime_ms

if TYPE_CHECKING:
    from taskcache.drivers.renewer import Lease

Run = Callable[[Steps[Any]], Any]


def new_owner() -> str:
    """Name one attempt to compute; a nonce, because the same worker can receive the same message twice."""
    return new_token()


class Sealed(Struct, frozen=True):
    """A computed value ready to be published."""

    value: Any
    envelope: bytes
    ttl_ms: int


class Attempt:
    """One run of one body under one flight: what surrounds it is the same in callers and in workers."""

    def __init__(
        self,
        invocation: Invocation,
        options: Options,
        errand: Errand,
        *,
        token: str,
        owner: str,
        stamps: bytes,
        now_ms: int,
        run: Run,
        lease: Lease | None = None,
        above: frozenset[str] = frozenset(),
        note_degraded: Callable[[NoServer], None],
    ) -> None:
        self.invocation = invocation
        self.options = options
        self.errand = errand
        self.token = token
        self.owner = owner
        self.stamps = stamps
        self.lease = lease
        self._now_ms = now_ms
        self.run = run
        self._note_degraded = note_degraded
        self._is_cut_off = False
        self._began = time.monotonic()
        self.computation = Computation(
            key=invocation.key,
            token=token,
            computes=above | {invocation.identity},
            tags=Tags(self._stamp_of),
            tell=self._tell,
            ask_cancelled=self._ask_cancelled,
        )

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def seal(self, value: Any) -> Sealed:
        """Turn the result into what is published; raises UnstorableValue, ValueTooLarge, or what `store_if` raises."""
        if isinstance(value, CoroutineType):
            value.close()
            raise UsageError(
                f"{self.invocation.label} gave a coroutine, which can be awaited only once: there is a plain decorator over an "
                "async def; put taskcache's right over the async def, or make the other one `async def`, too."
            )
        ttl_ms = self._ttl_ms(value)
        envelope = sealed_value(
            self.invocation,
            value,
            token=self.token,
            created_ms=self._now_ms,
            ttl_ms=ttl_ms,
            cost_ms=round(self.seconds * 1000),
            stamps=self.stamps,
            more_tags=self.computation.tags.stamps,
        )
        return Sealed(value, envelope, ttl_ms)

    def _ttl_ms(self, value: Any) -> int:
        options, computation = self.options, self.computation
        if not computation.stores or (options.store_if is not None and not options.store_if(value)):
            return 0
        if computation.timeout is not None:
            return lifetime_ms(computation.timeout)
        if callable(options.timeout):
            return lifetime_ms(options.timeout(value), "timeout(result)")
        return self.invocation.lifetime_ms

    @property
    def is_overtaken(self) -> bool:
        """Held once and lost: another computation of this key is current, and this one must not be stored."""
        return self.lease is not None and self.lease.lost

    def publish(self, sealed: Sealed) -> Steps[Published]:
        """End the flight with its value; raises ValueTooLarge when the server takes none of its size."""
        # A lifetime that only the body or its result told is longer than what the stamps were kept for.
        if sealed.ttl_ms < 0 <= self.errand.lifetime_ms or sealed.ttl_ms > self.errand.lifetime_ms >= 0:
            settings, added = self.invocation.settings, self.computation.tags
            names = (*self.errand.stamps, *(tag_stamp(settings.name, tag) for tag in added))
            yield Calls(extensions(names, stamp_lifetime_ms(sealed.ttl_ms)))
        try:
            said = yield from end(
                self.errand,
                self.token,
                owner=self.owner,
                envelope=sealed.envelope,
                ttl_ms=sealed.ttl_ms,
                is_error=False,
            )
        except ValueTooLarge as error:
            # Who waits hears it now, as of what cannot be sealed, and not once the lease is over.
            try:
                yield from self.fail(error)
            except NoServer:
                # The connection on which it was refused was broken off, and the next may not be up yet.
                with suppress(NoServer):
                    yield from self.fail(error)
            raise
        kind: events.Kind = "stored" if said == "stored" else "delivered"
        if sealed.ttl_ms and said != "stored":
            # Invalidated, taken over after a pause longer than its lease, or the server has lost the flight.
            kind = "refused"
            events.logger.info(
                "taskcache: a value of %s was refused by its fence and is not stored (%s); who waited has it",
                self.invocation.label or "a plain key",
                said,
            )
        events.emit(events.Event(kind, self.invocation.label, self.invocation.key, self.seconds))
        return said

    def fail(self, error: BaseException) -> Steps[Published]:
        """End the flight with an error; an interruption ends it without one, so that a waiter takes over."""
        is_answer = isinstance(error, Exception)
        envelope = self.invocation.failure(error, self.token) if is_answer else b""
        events.emit(events.Event("failed", self.invocation.label, self.invocation.key, self.seconds))
        said = yield from end(self.errand, self.token, owner=self.owner, envelope=envelope, ttl_ms=0)
        return said

    # -- what the body may ask for -----------------------------------------------------------------

    def _stamp_of(self, tag: str) -> bytes | None:
        """The stamp of a tag that the body adds; without one the value is delivered, and not stored."""
        if self._is_cut_off:
            return None  # nothing is stored any more: each further tag would wait for the same server
        name = tag_stamp(self.invocation.settings.name, tag)
        try:
            stamp: bytes = self.run(fresh_stamp(name, self.errand.stamp_lifetime_ms))
            return stamp
        except NoServer as error:
            self._note_degraded(error)
            self._is_cut_off = True
            self.computation.do_not_store()
            return None

    def _tell(self, progress: Progress) -> None:
        packed = pack_progress(progress)
        if self.lease is not None:
            self.lease.progress = packed
        self._renew(packed)

    def _ask_cancelled(self) -> bool:
        return self.is_overtaken or self._renew(b"") in ("ended", "unowned")

    def _renew(self, progress: bytes) -> str:
        try:
            return scripts.text(self.run(self.renewal(progress)))
        except NoServer:
            return "away"

    def renewal(self, progress: bytes) -> Steps[bytes]:
        """Renew the lease beside the renewer, and write down the progress when there is some."""
        return scripts.renew(
            self.errand.key.around(self.token),
            token=self.token,
            owner=self.owner,
            lease_ms=self.errand.settings.lease_ms,
            held=0,
            progress=progress,
        )


def fresh_stamp(name: bytes, lifetime_ms: int) -> Steps[bytes]:
    """The stamp of a tag that a body adds, kept for as long as an entry may carry it."""
    current = yield from read((name,))
    stamp = yield from ensure((name,), current, lifetime_ms)
    yield Calls(extensions((name,), lifetime_ms))
    return stamp


def pack_progress(progress: Progress) -> bytes:
    """Write down the progress of a computation."""
    return msgspec.msgpack.encode((progress.done, progress.total, progress.message))


def progress_of(packed: bytes) -> Progress:
    """Read what a computation told of its progress."""
    if not packed:
        return Progress()
    try:
        done, total, message = msgspec.msgpack.decode(packed)
        return Progress(done, total, message)
    except (ValueError, TypeError):
        return Progress()
