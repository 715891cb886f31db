"""This is where a loop is closed, or a coroutine dropped, in the middle of a computation: nothing of it is kept or raised."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Generator
from contextvars import copy_context

from taskcache.calls.current import Computation, ancestors, computing
from taskcache.drivers import asyncio as driver


class Turn:
    """Something to await that a loop is not needed for."""

    def __await__(self) -> Generator[None, None, None]:
        yield


def test_a_closed_loop_is_let_go_with_what_it_has_left() -> None:
    """A computation goes on after the one who awaits it, and not after its loop: the next loop notices."""

    async def never() -> None:
        await asyncio.Event().wait()

    async def leave() -> None:
        waiting = asyncio.ensure_future(driver.detached(never()))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.sleep(0)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(leave())
    assert loop in driver._detached
    loop.close()
    closed = weakref.ref(loop)
    del loop
    asyncio.run(driver.detached(asyncio.sleep(0)))
    gc.collect()

    assert (None, {}) == (closed(), driver._detached)


def test_a_coroutine_that_is_dropped_ends_in_any_context() -> None:
    """It entered its computation in a context that is not the one in which the collector ends it."""
    computation = Computation(computes=frozenset({"key"}))

    async def compute() -> None:
        with computing(computation):
            await Turn()

    dropped = compute()
    copy_context().run(dropped.send, None)
    dropped.close()

    assert (True, frozenset()) == (computation.is_over, ancestors())
