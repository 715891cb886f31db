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


class Lease(Struct, eq=False):
    """A flight that this process holds or expects to hold; `held` once the server has confirmed it."""

    key: EntryKey
    token: str
    owner: str
    held: bool = False
    # Held once and then somebody else's: what is computed under it must not be published.
    lost: bool = False
    progress: bytes = b""
    # False once nothing computes under it any more; asked before each beat.
    is_wanted: Callable[[], bool] | None = None

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
        self._wanted = threading.Event()
        self._runs = False
        self._native = native

    def hold(self, lease: Lease) -> Lease:
        """Renew this lease from now on."""
        self._leases[lease.token, lease.owner] = lease
        if not self._runs:
            self._runs = True
            self._start(self._run, "taskcache-renewer")
        self._wanted.set()
        return lease

    def find(self, token: str, owner: str) -> Lease | None:
        return self._leases.get((token, owner))

    def drop(self, lease: Lease) -> None:
        """Stop renewing."""
        self._leases.pop((lease.token, lease.owner), None)

    def _run(self) -> None:
        beat_s = self._lease_ms / 1000 / BEATS_PER_LEASE
        server: Server | None = None
        while True:
            if not self._leases and not self._native:
                self._wanted.clear()
                if not self._leases:
                    self._wanted.wait()
            started = time.monotonic()
            try:
                server = server or self._server()
                self.beat(server)
            except Exception as error:  # noqa: BLE001 - the next beat comes; a lease survives four that failed
                warn_once("renewer", "taskcache: leases could not be renewed (%s)", error)
            time.sleep(max(0.01, beat_s - (time.monotonic() - started)))

    def beat(self, server: Server) -> None:
        """Renew everything once."""
        leases = [lease for lease in list(self._leases.values()) if self._is_wanted(lease)]
        if not leases:
            return
        replies = server.calls([self._renewal(lease) for lease in leases])
        for lease, reply in zip(leases, replies, strict=True):
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
