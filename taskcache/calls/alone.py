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
# Who has waited for so long computes all the same: those who compute may be waiting for threads of their own.
SLOT_WAIT_S: Final = 10.0
# How long a computation that follows another of its key waits at most for more who want it.
GATHER_S: Final = 0.05

T = TypeVar("T")
_has_slot: ContextVar[bool] = ContextVar("taskcache_has_slot", default=False)


class Turn:
    """One computation of a key, for everybody who asked before it began; it ends with its leader, whatever comes between."""

    def __init__(self, invocation: Invocation, done: Any, leader: int = 0) -> None:
        self.invocation = invocation
        # An Event of threads, or one of coroutines.
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
        if is_interruption(error) or error.__cause__ is not None:
            return
        try:
            sealed = self.invocation.failure(error, new_token())
            again = self.invocation.landing(unpack(sealed)).error
            assert again is not None
            if type(again) is type(error) and _parts(again) == _parts(error):
                self._sealed = sealed
        except Exception as broken:
            if is_interruption(broken):
                raise

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
            self.end()

    def end(self) -> None:
        """Let those go on who wait; more than once does no harm."""
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

    Whoever follows waits for what begins after its call, and who leads for a bounded time: no two wait for each other.
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
            return _computed(invocation, compute)
        own = Turn(invocation, threading.Event(), threading.get_ident())
        with own:
            turn, before = self._join(invocation.identity, own)
            if turn is own:
                if before is not None:
                    before.done.wait(GATHER_S)
                with _slot(self.slots):
                    self._begin(own)
                    value = _computed(invocation, compute)
                own.share(value)
                return value
            if turn.leader == own.leader:
                return _computed(invocation, compute)
        turn.done.wait()
        landing = turn.landing(invocation)
        if landing is None:
            with _slot(self.slots):
                return _computed(invocation, compute)
        shared: T = landed(landing)
        return shared

    async def acall(self, invocation: Invocation, compute: Callable[[], Awaitable[T]]) -> T:
        """`call` for coroutines: those of one event loop share, and to cancel one cancels it for nobody else."""
        own = Turn(invocation, driver.Event())
        turn, before = self._join((ref(driver.loop_here()), invocation.identity), own)
        landing: Landing | None
        if turn is own:
            # Cancelled before its first step, a task runs nothing, not even what ends its turn.
            landing = await driver.detached(self._lead(own, before, compute), ended=own.end)
        else:
            await turn.done.wait()
            landing = turn.landing(invocation)
        if landing is None:
            with _alone(invocation):
                return await compute()
        value: T = landed(landing)
        return value

    async def _lead(self, own: Turn, before: Turn | None, compute: Callable[[], Awaitable[Any]]) -> Landing:
        try:
            with own:
                if before is not None:
                    await before.done.wait(GATHER_S)
                self._begin(own)
                with _alone(own.invocation):
                    value = await compute()
                own.share(value)
        except (KeyboardInterrupt, SystemExit) as error:
            # From a task of its own it would end the loop; it is for who called to let it.
            return Landing.failed(error)
        return Landing(value, None, 0)

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


def _computed(invocation: Invocation, compute: Callable[[], T]) -> T:
    with _alone(invocation):
        return compute()


def _parts(error: BaseException) -> tuple[Any, ...]:
    """What a caller may look at."""
    return (error.args, vars(error), str(error), getattr(error, "name", None), getattr(error, "obj", None))


class _slot:  # noqa: N801 - used like a function, as those of contextlib
    """Take one of the slots, and mark what runs in it."""

    def __init__(self, slots: threading.BoundedSemaphore) -> None:
        self._slots = slots

    def __enter__(self) -> None:
        self._is_taken = self._slots.acquire(timeout=SLOT_WAIT_S)
        self._entered = _has_slot.set(True)

    def __exit__(self, *error: object) -> None:
        _has_slot.reset(self._entered)
        if self._is_taken:
            self._slots.release()
