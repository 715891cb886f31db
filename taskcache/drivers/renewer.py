"""This is where leases are kept alive: one thread, one pipeline a beat, for everything this process computes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from msgspec import Struct

from taskcache.drivers import threads
from taskcache.drivers.topology import Server
from taskcache.events import warn_once
from taskcache.protocol import scripts
from taskcache.protocol.entry import EntryKey
from taskcache.protocol.steps import Call

# Five beats a lease: one that is lost and one that is slow do not end it.
BEATS_PER_LEASE = 5
# A lease that its server has not confirmed yet is asked about this much sooner, and this often: what a server loses
# before, no renewer brings back. What ends sooner than that is never asked about.
FIRST_BEAT_S = 0.1
FIRST_BEATS = 5
# A thread without a lease for this long ends; the next lease starts another.
IDLE_S = 10.0


class Lease(Struct, eq=False):
    """A flight that this process holds or expects to hold; `held` once the server has confirmed it."""

    key: EntryKey
    token: str
    owner: str
    held: bool = False
    # Held once and then somebody else's: what is computed under it must not be published.
    lost: bool = False
    progress: bytes = b""
    beats: int = 0
    # False once nothing computes under it any more; asked before each beat.
    is_wanted: Callable[[], bool] | None = None

    @property
    def is_unconfirmed(self) -> bool:
        """True in the first moments of a lease that is expected to be held: its claim is on its way."""
        return not (self.held or self.lost) and self.beats < FIRST_BEATS

    def hear(self, word: str) -> None:
        """Take in what the renewal of this lease was answered."""
        if word in ("live", "retired", "asserted"):
            self.held = True
        elif word == "unowned" and self.held:
            self.lost = True


class Renewer:
    """Renews every lease it knows, each fifth of a lease, until the lease is dropped or its flight has ended."""

    def __init__(self, server: Callable[[], Server], lease_ms: int, *, native: bool = False) -> None:
        self._server = server
        self._lease_ms = lease_ms
        self._start = threads.start_native if native else threads.start
        self._leases: dict[tuple[str, str], Lease] = {}
        self._lock = threads.native_lock() if native else threading.Lock()
        self._wanted = threading.Event()
        self._runs = False
        self._bell = threads.Bell() if native else None
        self._reached: Server | None = None

    def hold(self, lease: Lease) -> Lease:
        """Renew this lease from now on; raises RuntimeError where no thread can be started."""
        with self._lock:
            if not self._runs:
                self._start(self._run, "taskcache-renewer")
                self._runs = True
            self._leases[lease.token, lease.owner] = lease
        if self._bell is None:
            self._wanted.set()
        else:
            self._bell.ring()
        return lease

    def find(self, token: str, owner: str) -> Lease | None:
        return self._leases.get((token, owner))

    def drop(self, lease: Lease) -> None:
        """Stop renewing."""
        self._leases.pop((lease.token, lease.owner), None)

    def _run(self) -> None:
        try:
            self._renew()
        except BaseException:
            with self._lock:
                self._runs = False
            raise

    def _renew(self) -> None:
        beat_s = self._lease_ms / 1000 / BEATS_PER_LEASE
        next_beat = 0.0
        while True:
            if not self._leases:
                if self._is_over():
                    return
                next_beat = time.monotonic() + beat_s
            self._pause(next_beat)
            started = time.monotonic()
            is_first = started < next_beat
            try:
                self._reached = self._reached or self._server()
                self.beat(self._reached, is_first=is_first)
            except Exception as error:  # noqa: BLE001 - the next beat comes; a lease survives four that failed
                _warn(error)
            if not is_first:
                next_beat = max(started + beat_s, time.monotonic() + 0.01)

    def _is_over(self) -> bool:
        """Sleep until there is a lease; True when none came for a while, and the thread is to end."""
        until = time.monotonic() + IDLE_S
        while not self._leases and (left_s := until - time.monotonic()) > 0:
            if self._bell is not None:
                self._bell.wait(left_s)
                continue
            self._wanted.clear()
            if not self._leases:
                self._wanted.wait(left_s)
        with self._lock:
            self._runs = bool(self._leases)
            return not self._runs

    def _pause(self, until: float) -> None:
        """Sleep until the next beat, or for a moment when a lease has not been confirmed."""
        while (left_s := until - time.monotonic()) > 0:
            if any(lease.is_unconfirmed for lease in list(self._leases.values())):
                time.sleep(min(left_s, FIRST_BEAT_S))
                return
            if self._bell is None:
                time.sleep(left_s)
            else:
                self._bell.wait(left_s)

    def beat(self, server: Server, *, is_first: bool = False) -> None:
        """Renew everything once; with `is_first` only what has not been confirmed."""
        known = [lease for lease in list(self._leases.values()) if lease.is_unconfirmed or not is_first]
        leases = [lease for lease in known if self._is_wanted(lease)]
        if not leases:
            return
        for lease in leases:
            lease.beats += 1
        replies = server.replies([self._renewal(lease) for lease in leases])
        for lease, reply in zip(leases, replies, strict=True):
            if isinstance(reply, Exception):
                _warn(reply)  # of this lease: the others have been answered
                continue
            word = scripts.text(reply)
            lease.hear(word)
            if word == "ended":
                self.drop(lease)

    def _is_wanted(self, lease: Lease) -> bool:
        if lease.is_wanted is not None and not lease.is_wanted():
            self.drop(lease)
            return False
        return True

    def _renewal(self, lease: Lease) -> Call:
        return scripts.as_call(
            scripts.renew(
                lease.key.around(lease.token),
                token=lease.token,
                owner=lease.owner,
                lease_ms=self._lease_ms,
                # One that was lost is not asserted: its flight is somebody else's, or waits for a retry.
                held=int(lease.held and not lease.lost),
                progress=lease.progress,
            )
        )


def _warn(error: Exception) -> None:
    warn_once("renewer", "taskcache: leases could not be renewed (%s)", error)
