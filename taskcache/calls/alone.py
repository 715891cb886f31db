"""This is where calls are answered while the cache is away: those of one key that come at once share a computation."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Hashable
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, Final, TypeVar

from taskcache.calls.calling import landed
from taskcache.calls.invocation import Invocation, sealed_value
from taskcache.codec.envelope import unpack
from taskcache.codec.pickling import is_interruption
from taskcache.drivers import asyncio as driver
from taskcache.errors import UntrustedValue
from taskcache.protocol.entry import new_token
from taskcache.protocol.flight import Landing

# How many calls of one process may compute at once while the cache is away: what a database usually bears.
COMPUTE_LIMIT: Final = 64

T = TypeVar("T")
_is_within: ContextVar[bool] = ContextVar("taskcache_is_within", default=False)


class Turn:
    """One computation of a key, for everybody who asked before it began."""

    def __init__(self, done: Any) -> None:
        # An Event of threads, or one of asyncio.
        self.done = done
        self.has_begun = False
        self.followers = 0
        # The body has given a value or an error; a leader that was interrupted has neither.
        self.has_ended = False
        # How it ended, as bytes: whoever opens them has an object of their own. None: nobody can write it down.
        self._sealed: bytes | None = None

    def share(self, invocation: Invocation, value: Any) -> None:
        """Give the value to those who follow."""
        if self.followers:
            # An error is that of a codec or of the value's class: who follows computes, and the leader has its value.
            with suppress(Exception):
                self._sealed = sealed_value(
                    invocation, value, token=new_token(), created_ms=0, ttl_ms=0, cost_ms=0, stamps=b"", more_tags={}
                )
            self.has_ended = True

    def share_error(self, invocation: Invocation, error: BaseException) -> None:
        """Give the body's error to those who follow; an interruption is its leader's alone, and they begin anew."""
        if self.has_begun and self.followers and isinstance(error, Exception) and not is_interruption(error):
            with suppress(Exception):
                self._sealed = invocation.failure(error, new_token())
            self.has_ended = True

    def landing(self, invocation: Invocation) -> Landing | None:
        """How it ended; None where that cannot be written down, or not be read again."""
        if self._sealed is None:
            return None
        with suppress(UntrustedValue):
            return invocation.landing(unpack(self._sealed))
        return None


class Alone:
    """
    What calls of one cache do without its server: of each key one turn at a time, and the next for all who came meanwhile.

    Nobody joins a turn that has begun. An invalidation may have returned since, in a moment when the server was there, and
    nobody here would know; a turn that begins after a call is as young as any that the call could make. (Databases commit
    in groups in this way: DeWitt et al., SIGMOD 1984.)
    """

    def __init__(self) -> None:
        self.slots = threading.BoundedSemaphore(COMPUTE_LIMIT)
        # Reentrant: within it the collector may end the turn of a coroutine that nobody holds any more.
        self._lock = threading.RLock()
        # Of each key those that run or wait for their turn: two at most.
        self._turns: dict[Hashable, list[Turn]] = {}

    def call(self, invocation: Invocation, compute: Callable[[], T]) -> T:
        """Compute a call, or get what another thread computes after now; raises what the function raises."""
        if _is_within.get() or driver.loop_here() is not None:
            # A part of something that has its turn waits for nobody, or two might wait for each other; nor does a loop.
            return compute()
        while True:
            with _Place(self, invocation.identity, invocation) as place:
                turn, before = place.take(threading.Event)
                if place.is_leader:
                    if before is not None:
                        before.done.wait()
                    with self.slots:
                        place.begin()
                        with _within():
                            value = compute()
                    turn.share(invocation, value)
                    return value
            turn.done.wait()
            if turn.has_ended:
                landing = turn.landing(invocation)
                if landing is not None:
                    shared: T = landed(landing)
                    return shared
                with self.slots, _within():
                    return compute()

    async def acall(self, invocation: Invocation, compute: Callable[[], Awaitable[T]]) -> T:
        """`call` for coroutines: those of one event loop share."""
        if _is_within.get():
            return await compute()
        key = (driver.loop_here(), invocation.identity)
        while True:
            with _Place(self, key, invocation) as place:
                turn, before = place.take(driver.Event)
                if place.is_leader:
                    if before is not None:
                        await before.done.wait()
                    place.begin()
                    with _within():
                        value = await compute()
                    turn.share(invocation, value)
                    return value
            await turn.done.wait()
            if turn.has_ended:
                landing = turn.landing(invocation)
                if landing is not None:
                    shared: T = landed(landing)
                    return shared
                with _within():
                    return await compute()


class _Place:
    """Where one call stands among the turns of its key; a leader's turn ends with it, whatever comes between."""

    # Not by contextlib, here and below, which cannot pass on an error that is a frozen dataclass.

    def __init__(self, alone: Alone, key: Hashable, invocation: Invocation) -> None:
        self._alone = alone
        self._key = key
        self._invocation = invocation
        self._own: Turn | None = None

    @property
    def is_leader(self) -> bool:
        return self._own is not None

    def take(self, event: Callable[[], Any]) -> tuple[Turn, Turn | None]:
        """The turn that this call belongs to, and the one that a leader waits for."""
        with self._alone._lock:
            turns = self._alone._turns.setdefault(self._key, [])
            if turns and not turns[-1].has_begun:
                turns[-1].followers += 1
                return turns[-1], None
            before = turns[-1] if turns else None
            self._own = Turn(event())
            turns.append(self._own)
            return self._own, before

    def begin(self) -> None:
        """From here on nobody joins."""
        assert self._own is not None
        with self._alone._lock:
            self._own.has_begun = True

    def __enter__(self) -> _Place:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        turn = self._own
        if turn is None:
            return
        if error is not None:
            turn.share_error(self._invocation, error)
        with self._alone._lock:
            turns = self._alone._turns.get(self._key, [])
            if turn in turns:
                turns.remove(turn)
            if not turns:
                self._alone._turns.pop(self._key, None)
        # A loop that was closed in the middle has nobody left to wake.
        with suppress(RuntimeError):
            turn.done.set()


class _within:  # noqa: N801 - used like a function, as those of contextlib
    """Mark what runs as part of a turn."""

    def __enter__(self) -> None:
        self._entered = _is_within.set(True)

    def __exit__(self, *error: object) -> None:
        # Where the collector ends a coroutine of a closed loop, the context is another.
        with suppress(ValueError):
            _is_within.reset(self._entered)
