"""This is where calls are answered while the cache is away: those of one key that come at once share a computation."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Hashable
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, Final, TypeVar
from weakref import WeakValueDictionary, ref

from taskcache.calls.calling import landed
from taskcache.calls.current import Computation, computing
from taskcache.calls.invocation import Invocation, sealed_value
from taskcache.codec.envelope import unpack
from taskcache.codec.pickling import is_interruption
from taskcache.drivers import asyncio as driver
from taskcache.errors import UntrustedValue
from taskcache.protocol.entry import new_token
from taskcache.protocol.flight import Landing

# How many threads of one process may compute at once while the cache is away: what a database usually bears.
COMPUTE_LIMIT: Final = 64
# How long a computation that follows another of its key waits at most for more who want it.
GATHER_S: Final = 0.05

T = TypeVar("T")
_has_slot: ContextVar[bool] = ContextVar("taskcache_has_slot", default=False)


class Turn:
    """One computation of a key, for everybody who asked before it began; it ends with its leader, whatever comes between."""

    def __init__(self, invocation: Invocation, done: Any, leader: int = 0) -> None:
        self.invocation = invocation
        # An Event of threads, or one of asyncio.
        self.done = done
        # The thread that leads it; a handler of signals that runs in its middle must not wait for it.
        self.leader = leader
        self.has_begun = False
        self.has_ended = False
        self.followers = 0
        # How it ended, as bytes: whoever opens them has an object of their own. None: those who follow compute.
        self._sealed: bytes | None = None

    def share(self, value: Any) -> None:
        """Give the value to those who follow, if it can be written down."""
        if self.followers:
            try:
                self._sealed = sealed_value(
                    self.invocation,
                    value,
                    token=new_token(),
                    created_ms=0,
                    ttl_ms=0,
                    cost_ms=0,
                    stamps=b"",
                    more_tags={},
                )
            except Exception as error:
                if is_interruption(error):
                    raise

    def _share_error(self, error: Exception) -> None:
        """Give the body's error to those who follow, if they get the same: without a server there is no need for less."""
        if is_interruption(error):
            return
        with suppress(Exception):
            sealed = self.invocation.failure(error, new_token())
            again = self.invocation.landing(unpack(sealed)).error
            if (type(again), again.args, vars(again)) == (type(error), error.args, vars(error)):  # type: ignore[union-attr]  # an error, or suppressed
                self._sealed = sealed

    def landing(self, invocation: Invocation) -> Landing | None:
        """How it ended; None where that was not written down, or cannot be read again."""
        if self._sealed is not None:
            with suppress(UntrustedValue):
                return invocation.landing(unpack(self._sealed))
        return None

    # Not by contextlib, which cannot pass on an error that is a frozen dataclass.
    def __enter__(self) -> Turn:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            if self.has_begun and self.followers and isinstance(error, Exception):
                self._share_error(error)
        finally:
            self.has_begun = self.has_ended = True
            # A loop that was closed in the middle has nobody left to wake.
            with suppress(RuntimeError):
                self.done.set()


class Alone:
    """
    What calls of one cache do without its server: they share a computation with those who come at the same time.

    Nobody joins one that has begun. An invalidation may have returned since, in a moment when the server was there, and
    nobody here would know; one that begins after a call is as young as any that the call could make. So a call that finds
    one of its key under way begins the next when that has ended, or after `GATHER_S`, for all who have come until then.
    (Databases commit in groups in this way: DeWitt et al., SIGMOD 1984.)

    Whoever follows waits for what begins after its call, and who leads waits for a bounded time: no two can wait for each
    other.
    """

    def __init__(self) -> None:
        self.slots = threading.BoundedSemaphore(COMPUTE_LIMIT)
        # Reentrant: within it the collector may end the turn of a coroutine that nobody holds any more.
        self._lock = threading.RLock()
        # The latest of each key, held by those who are in it.
        self.turns: WeakValueDictionary[Hashable, Turn] = WeakValueDictionary()

    def call(self, invocation: Invocation, compute: Callable[[], T]) -> T:
        """Compute a call, or get what another thread computes after now; raises what the function raises."""
        if _has_slot.get() or driver.loop_here() is not None:
            # A part of what has a slot takes no other, and waits for nobody who may want one; a loop's thread waits neither.
            return compute()
        own = Turn(invocation, threading.Event(), threading.get_ident())
        with own:
            turn, before = self._join(invocation.identity, own)
            if turn is own:
                if before is not None:
                    before.done.wait(GATHER_S)
                with self.slots, _slot():
                    self._begin(own)
                    with _alone(invocation):
                        value = compute()
                own.share(value)
                return value
            if turn.leader == own.leader:
                return compute()
        turn.done.wait()
        landing = turn.landing(invocation)
        if landing is None:
            with self.slots, _slot():
                return compute()
        shared: T = landed(landing)
        return shared

    async def acall(self, invocation: Invocation, compute: Callable[[], Awaitable[T]]) -> T:
        """`call` for coroutines: those of one event loop share, and to cancel one cancels it for nobody else."""
        own = Turn(invocation, driver.Event())
        turn, before = self._join((ref(driver.loop_here()), invocation.identity), own)
        if turn is own:
            return await driver.detached(self._lead(own, before, compute))
        await turn.done.wait()
        landing = turn.landing(invocation)
        if landing is None:
            return await compute()
        shared: T = landed(landing)
        return shared

    async def _lead(self, own: Turn, before: Turn | None, compute: Callable[[], Awaitable[T]]) -> T:
        with own:
            if before is not None:
                await driver.wait_for(before.done, GATHER_S)
            self._begin(own)
            with _alone(own.invocation):
                value = await compute()
            own.share(value)
            return value

    def _join(self, key: Hashable, own: Turn) -> tuple[Turn, Turn | None]:
        """The turn that a call belongs to, its own where none is joined, and the one that its own comes after."""
        with self._lock:
            latest = self.turns.get(key)
            if latest is not None and not latest.has_begun:
                latest.followers += 1
                return latest, None
            self.turns[key] = own
            return own, None if latest is None or latest.has_ended else latest

    def _begin(self, turn: Turn) -> None:
        """From here on nobody joins."""
        with self._lock:
            turn.has_begun = True


def _alone(invocation: Invocation) -> computing:
    """A computation that nobody else hears of: what it calls knows what it is a part of."""
    return computing(Computation(key=invocation.key, computes=frozenset({invocation.identity})))


class _slot:  # noqa: N801 - used like a function, as those of contextlib
    """Mark what runs in a slot."""

    def __enter__(self) -> None:
        self._entered = _has_slot.set(True)

    def __exit__(self, *error: object) -> None:
        _has_slot.reset(self._entered)
