"""This is where a process answers from its own memory: values that the server vouches for, and a thread that listens.

How old can a near value be? Own invalidations take effect before they return. Of others a call learns when it looks,
at most once a millisecond, at what the server has pushed; so it may see a value for that millisecond and the way of the
push longer than its invalidation (measured: docs/benchmarks.md), and never longer than `TRUST_S`, even when the
connection died without a word. While there is no connection nothing is answered from here.
"""

from __future__ import annotations

import selectors
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

from redis.exceptions import RedisError

from taskcache.codec.envelope import unpack
from taskcache.codec.sealing import Codec
from taskcache.drivers import threads
from taskcache.events import logger, warn_once
from taskcache.near.entries import Entries, Held, Place, Stamp
from taskcache.near.sharing import may_be_shared
from taskcache.near.tracking import Refused, Tracking
from taskcache.protocol.stamps import STAMP_BYTES, tag_stamp

# A look costs a system call of a microsecond or two; once a millisecond keeps that below a percent.
LOOK_EVERY_S: Final = 0.001
# How long the listener lets pushes gather. It keeps the connection answered and its buffers empty; no hit depends on it,
# since hits look for themselves, and waking up for every push would take the interpreter from those who work.
GATHER_S: Final = 0.05
# A server that does not offer tracking is asked again this seldom; it may have been upgraded, or its access rights.
REFUSED_PAUSE_S: Final = 60.0
LONGEST_PAUSE_S: Final = 2.0


class Near:
    """What one process holds of one cache. Every change happens under one lock, which no hit of a front takes."""

    def __init__(self, pool: Any, url: str, name: str, *, max_entries: int, max_bytes: int) -> None:
        self._pool = pool
        self._url = url
        self._name = name
        self._stamp_prefix = f"{name}~".encode("utf-8", "surrogatepass")
        self.entries = Entries(self._stamp_prefix, max_entries, max_bytes)
        self._reset()

    def _reset(self) -> None:
        # Reentrant: a signal handler or a finalizer may call a cached function in the middle of our turn.
        self.lock = threading.RLock()
        self._tracking: Tracking | None = None
        self._closed: threading.Event | None = None
        # Until then, by time.monotonic(), everything held here is as the server vouched for.
        self.quiet_until = 0.0

    @property
    def is_up(self) -> bool:
        """Whether the server reports changes to us now."""
        return self._tracking is not None

    def turn(self) -> bool:
        """Take in what the server has reported; False when nothing that is held here may be returned now."""
        now = time.monotonic()
        if now < self.quiet_until:
            return True
        tracking = self._tracking
        if tracking is None:
            self._start()
            return False
        with self.lock:
            if self._tracking is tracking:
                self._turn(tracking, now)
            return now < self.quiet_until

    def _turn(self, tracking: Tracking, now: float) -> None:
        try:
            tracking.turn(now)
        except BaseException as error:
            # Also what a signal's handler raises: what was received and not taken in would be missed for good.
            self._lose()
            tracking.hang_up()
            if not isinstance(error, (OSError, RedisError)):
                raise
            return
        self.entries.sweep(now)
        self.quiet_until = min(now + LOOK_EVERY_S, tracking.trusted_until, self.entries.next_expiry)

    # -- values ------------------------------------------------------------------------------------------

    def find(self, key: bytes) -> Held | None:
        """The value of an entry, if it may be returned now."""
        return self.entries.find(key) if self.turn() else None

    def expect(self, key: bytes) -> Place | None:
        """Hold a place for a value that is about to be read; None when it could not be kept anyway."""
        if self._tracking is None:
            return None
        with self.lock:
            return self.entries.expect(key)

    def leave(self, place: Place) -> None:
        """Give a place back without a value."""
        with self.lock:
            self.entries.leave(place)

    def keep(
        self, place: Place, sealed: bytes, value: Any, codec: Codec, function_stamp: bytes, longest_ms: int
    ) -> Held | None:
        """Keep a value that was read into `place` and found valid, for `longest_ms` or as long as its entry lives."""
        envelope = unpack(sealed)
        names = (function_stamp, *(tag_stamp(self._name, tag) for tag in envelope.tags))
        # It was found valid: the stamps it carries are those that were read.
        carried = [envelope.stamps[at : at + STAMP_BYTES] for at in range(0, len(envelope.stamps), STAMP_BYTES)]
        reopen = None if may_be_shared(value) else codec.reopener(envelope)
        with self.lock:
            tracking = self._tracking
            if tracking is None or len(names) != len(carried):
                self.entries.leave(place)
                return None
            now = time.monotonic()
            left_ms: float = longest_ms
            if envelope.fresh_ms:
                # Its life began when it was stored, which was not before its computation had ended.
                stored_ms = envelope.created_ms + envelope.cost_ms
                left_ms = min(left_ms, stored_ms + envelope.fresh_ms - tracking.server_ms(now))
            if left_ms <= 0:
                self.entries.leave(place)
                return None
            held = self.entries.keep(
                place,
                value if reopen is None else None,
                reopen,
                until=now + left_ms / 1000,
                size_bytes=len(sealed) if reopen is not None else codec.size_bytes(envelope),
                stamps=tuple(zip(names, carried, strict=True)),
                created_ms=envelope.created_ms,
            )
            self.quiet_until = min(self.quiet_until, self.entries.next_expiry)
            return held

    def stamp(self, key: bytes) -> Stamp:
        """What is known of a stamp."""
        with self.lock:
            return self.entries.stamp(key)

    def changed(self, keys: Sequence[bytes]) -> None:
        """This process has written these keys: what hangs on them goes before the one who wrote is told."""
        with self.lock:
            self.entries.changed(keys)

    def _reported(self, keys: Iterable[bytes] | None) -> None:
        if keys is None:
            self.entries.clear()
        else:
            self.entries.changed(keys)

    # -- the connection ------------------------------------------------------------------------------------

    def _lose(self) -> None:
        self._tracking = None
        self.quiet_until = 0.0
        self.entries.clear()

    def _start(self) -> None:
        if self._closed is None:
            with self.lock:
                if self._closed is None:
                    self._closed = threading.Event()
                    # A process that is ending starts no threads any more; it asks the server.
                    with suppress(RuntimeError):
                        threads.start(partial(self._run, self._closed), "taskcache-near")

    def _run(self, closed: threading.Event) -> None:
        try:
            self._listen_until(closed)
        finally:
            # Ended from outside, as by gevent's `killall`: a later call begins anew.
            with self.lock:
                if self._closed is closed:
                    self._closed = None

    def _listen_until(self, closed: threading.Event) -> None:
        pause_s = 0.05
        while not closed.is_set():
            try:
                tracking = Tracking(self._pool, self._name, self._reported)
                pause_s = 0.05
                self._listen(tracking, closed)
            except Refused as error:
                warn_once(
                    f"near {self._url}",
                    "taskcache: %s does not track keys (%s); near= is off there and hits are read from the server. "
                    "It needs Valkey, or Redis 6 or later, and the rights of deploy/users.acl.",
                    self._url,
                    error,
                )
                closed.wait(REFUSED_PAUSE_S)
            except Exception as error:  # noqa: BLE001 - whatever it was: near is off meanwhile, and tried again
                logger.debug("taskcache: no tracking connection to %s (%s)", self._url, error)
                closed.wait(pause_s)
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)

    def _listen(self, tracking: Tracking, closed: threading.Event) -> None:
        with self.lock:
            if closed.is_set():
                tracking.close()
                return
            self._tracking = tracking
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(tracking.socket, selectors.EVENT_READ)
                while self._tracking is tracking:
                    if selector.select(max(0.0, tracking.due - time.monotonic())):
                        closed.wait(GATHER_S)
                    with self.lock:
                        if self._tracking is tracking:
                            self._turn(tracking, time.monotonic())
        finally:
            with self.lock:
                if self._tracking is tracking:
                    self._lose()
            tracking.close()

    def close(self) -> None:
        """Drop everything and stop listening; a later call begins anew."""
        with self.lock:
            closed, self._closed = self._closed, None
            tracking = self._tracking
            self._lose()
            if closed is not None:
                closed.set()
        if tracking is not None:
            tracking.hang_up()

    def after_fork(self) -> None:
        """Begin empty in a forked child: connection and thread are the parent's."""
        tracking = self._tracking
        self._reset()
        self.entries.clear()
        if tracking is not None:
            tracking.close()
