"""This is where a process keeps what it has for one server: connections, an inbox with its keeper, and a renewer."""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from taskcache.drivers import threads
from taskcache.drivers.asyncio import AsyncServer
from taskcache.drivers.keeper import Keeper
from taskcache.drivers.renewer import Renewer
from taskcache.drivers.topology import Obstructed, Server
from taskcache.drivers.wire import PAGE, SILENT, Broken, pack
from taskcache.errors import NoServer
from taskcache.events import warn_once
from taskcache.protocol.steps import Call
from taskcache.settings import Settings

if TYPE_CHECKING:
    from taskcache.near.cache import Near

# How long a server that did not answer is left alone by calls that can do without it.
BREAK_S = 1.0
# Of how many flights it is remembered that they were left here: a revocation is told within seconds.
MOST_LEFT: Final = 1_000

_stations: weakref.WeakSet[Station] = weakref.WeakSet()


class Station:
    """One process's side of one server. Nothing is started before it is needed, and a forked child starts anew."""

    def __init__(self, database: Any, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._keeper: Keeper | None = None
        self._renewer: Renewer | None = None
        self._hush: weakref.finalize[[], Station] | None = None
        self._broken_until = 0.0
        self.server = Server(database, own_wire=settings.transport == "auto")
        self._wire = self.server.wire
        self.loops = AsyncServer(self.server, own_line=settings.transport == "auto")
        self._nears: dict[str, Near] = {}
        # Flights that this process left as its last waiter, and had revoked.
        self.left: deque[str] = deque(maxlen=MOST_LEFT)
        _stations.add(self)

    @property
    def keeper(self) -> Keeper:
        """All waits of this process."""
        keeper = self._keeper
        if keeper is None:
            with self._lock:
                keeper = self._keeper
                if keeper is None:
                    keeper = self._keeper = Keeper(self.server, self._settings.publish_patience_ms / 1000)
                    # Nobody hears with it who has lost this station.
                    self._hush = weakref.finalize(self, keeper.hush)
                    self._hush.atexit = False
        return keeper

    @property
    def renewer(self) -> Renewer:
        """All leases that this process itself computes under."""
        renewer = self._renewer
        if renewer is None:
            server = self.server  # not this station: its thread must not keep what nobody uses any more
            with self._lock:
                renewer = self._renewer = self._renewer or Renewer(lambda: server, self._settings.lease_ms)
        return renewer

    def near(self, settings: Settings) -> Near | None:
        """What this process keeps near of one cache; None where its server cannot tell us what changes."""
        near = self._nears.get(settings.name)
        if near is None:
            if self._wire is None:
                warn_once(
                    f"near {self.server.url}",
                    "taskcache: near= is off on %s: it needs one server, not a Cluster or Sentinel, and transport='auto'",
                    self.server.url,
                )
                return None
            from taskcache.near.cache import Near

            with self._lock:
                near = self._nears.get(settings.name)
                if near is None:
                    near = self._nears[settings.name] = Near(
                        self.server.client.connection_pool,
                        self.server.url,
                        settings.name,
                        max_entries=settings.near_entries,
                        max_bytes=settings.near_bytes,
                    )
                    self.server.keepers_of_copies.append(near.changed)
                    # Its thread must not outlive whoever could use it.
                    weakref.finalize(self, near.close).atexit = False
        return near

    def read(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Read an entry and its stamps in one round trip; raises NoServer at once while the server is left alone."""
        self.check()
        if self._wire is not None:
            try:
                return self._wire.mget(pack(b"MGET", *keys), len(keys))
            except SILENT:
                self._leave_alone()
                self.check()
            except Broken:
                pass  # whatever it is, redis-py has the cure or the words for it
        return self._read_by_call(keys)

    def read_many(self, keys: Sequence[bytes]) -> Iterator[tuple[slice, list[bytes | None]]]:
        """`read` for many keys, in pages, each with its place; some are on their way while one is looked at."""
        if self._wire is None or len(keys) <= PAGE:
            yield slice(None), self.read(keys)
            return
        self.check()
        count = 0
        try:
            for page in self._wire.pages(keys):
                yield slice(count, count + len(page)), page
                count += len(page)
            return
        except SILENT:
            self._leave_alone()
            self.check()
        except Broken:
            pass
        if count < len(keys):
            yield slice(count, None), self._read_by_call(keys[count:])

    def _read_by_call(self, keys: Sequence[bytes]) -> list[bytes | None]:
        with self.watched():
            reply: list[bytes | None] = self.server.call(Call("MGET", tuple(keys)))
        return reply

    def hit(self, packed: bytes) -> list[bytes | None] | None:
        """The shortest way: a packed MGET of stamp and entry; None when the long way has to be gone."""
        if self._wire is None or (self._broken_until and self._broken_until > time.monotonic()):
            return None
        try:
            return self._wire.pair(packed)
        except SILENT:
            # Who was silent for the whole time of a reply is not asked again by the same call.
            self._leave_alone()
            return None
        except Broken:
            return None

    async def ahit(self, packed: bytes) -> list[bytes | None] | None:
        """`hit` from a coroutine."""
        if self._broken_until and self._broken_until > time.monotonic():
            return None
        asked = self.loops.ask(packed)
        try:
            return None if asked is None else await asked
        except SILENT:
            self._leave_alone()
            return None
        except Broken:
            return None

    def store_many(self, entries: Sequence[tuple[bytes, bytes]], ttl_ms: int) -> bool:
        """
        Store entries in one transaction; False when it was not done, or a flight of one of them may store over it.

        Then each has to be replaced by the script that outdates its flight. Looking and storing are one transaction, so
        no flight can begin before it and be missed.
        """
        if self._wire is None or self._broken_until > time.monotonic():
            return False
        try:
            done = None
            while done is None:
                done = self.server.stores.are_done(self._wire.stream(self.server.stores.commands(entries, ttl_ms)))
            return done
        except Broken:
            return False
        finally:
            self.server.wrote([Call("SET", tuple(key for key, _ in entries))])

    def check(self) -> None:
        """Raise NoServer without trying when the server failed a moment ago."""
        if self._broken_until and time.monotonic() < self._broken_until:
            raise NoServer(f"{self.server.url} did not answer a moment ago and is left alone for {BREAK_S:g} s.")

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Leave the server alone for a moment when it fails."""
        try:
            yield
        except Obstructed:
            raise
        except NoServer:
            self._leave_alone()
            raise

    def _leave_alone(self) -> None:
        self._broken_until = time.monotonic() + BREAK_S

    def waiting(self) -> int:
        """How many flights this process waits for."""
        return 0 if self._keeper is None else self._keeper.waits()

    def after_fork(self) -> None:
        """Forget threads that exist in the parent only."""
        self._lock = threading.Lock()
        self._keeper = None
        self._renewer = None
        if self._hush is not None:
            # It would end the parent's subscription.
            self._hush.detach()
        self.server.after_fork()
        self.loops = AsyncServer(self.server, own_line=self._settings.transport == "auto")
        for near in self._nears.values():
            near.after_fork()

    def close(self) -> None:
        """Close the connections. What this process still waits for or computes goes on, on connections made anew."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.close()
        if self._hush is not None:
            self._hush.detach()
        for near in list(self._nears.values()):
            near.close()
        self.server.close()


def _after_fork() -> None:
    for station in list(_stations):
        station.after_fork()


threads.after_fork(_after_fork)
