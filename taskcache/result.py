"""This is where a caller holds a value that is on its way: call it, await it, ask it, or leave it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from taskcache.calls import calling, following
from taskcache.calls.computing import progress_of
from taskcache.calls.current import Progress
from taskcache.drivers import asyncio as driver
from taskcache.drivers import hubs
from taskcache.drivers.pending import Pending
from taskcache.errors import Cancelled, ComputationLost, NoServer, NotReady, UsageError
from taskcache.protocol.flight import Landing, Source, State
from taskcache.settings import Duration, to_ms

if TYPE_CHECKING:
    from taskcache.cache import Cache
    from taskcache.calls.invocation import Invocation
    from taskcache.function import Function

R = TypeVar("R")
T = TypeVar("T")
_RAISE: Any = object()


class Result(Generic[R]):
    """
    The value of one call, now or later. Calling it gives the value, the same object as often as it is called.

    Raises what the function raised, with the worker's traceback; `NotReady` (a `queue.Empty`) when it was not to wait
    any longer; `ComputationLost` with a reason when there will be no value.
    """

    def __init__(
        self,
        function: Function[Any, Any] | None,
        call: Invocation | str | None,
        pending: Pending,
        cache: Cache | None = None,
        parts: Sequence[Result[Any]] = (),
    ) -> None:
        self._function = function
        # Or its key, of which it is made when somebody asks: whoever has a hit rarely does.
        self._call = call
        self._pending = pending
        self._cache = cache if cache is not None else (function.cache if function is not None else None)
        # What a gathered result waits for.
        self._parts = parts
        # When the call was made: `inline_after` counts from here, however often somebody asks.
        self._made_at = time.monotonic()
        self._computed_here = False

    @classmethod
    def of_flight(cls, function: Function[Any, Any], invocation: Invocation) -> Result[Any] | None:
        """The result of the flight that computes this call now, or None."""
        if function.cache.debug:
            return None
        found = following.join(function.cache.station, invocation)
        return None if found is None else cls(function, invocation, found)

    @property
    def _invocation(self) -> Invocation | None:
        if isinstance(self._call, str) and self._function is not None:
            self._call = self._function.described(self._call)
        return self._call  # type: ignore[return-value]  # no key any more

    # -- waiting --------------------------------------------------------------------------------------

    @overload
    def __call__(self, block: bool = True, timeout: Duration | None = None) -> R: ...
    @overload
    def __call__(self, block: bool = True, timeout: Duration | None = None, *, default: T) -> R | T: ...
    def __call__(self, block: bool = True, timeout: Duration | None = None, *, default: Any = _RAISE) -> Any:
        """
        Wait for the value, at most `timeout` seconds (None: without limit; 0: look once).

        With `block=False` it does not wait. What is not there raises NotReady, or gives `default`.
        """
        seconds = wait_seconds(block, timeout)
        if self._landing is None:
            self._wait(seconds)
        return self._take(default)

    def _wait(self, seconds: float | None) -> None:
        self._revive()
        following.wait(self._station(), self._pending, seconds, self.claims_after(), self.claim)

    def claim(self) -> bool:
        """Compute a queued flight here, when this process is the one that it waits for."""
        if self._parts:
            return claim_one(self._parts)
        function, invocation, cache = self._function, self._invocation, self._cache
        launcher, token = self._pending.launcher, self._pending.token
        if self.ready() or function is None or invocation is None or cache is None or launcher is None:
            return False
        claimed = hubs.run_in_main(
            lambda: calling.claim_here(function, cache.station, invocation, token, launcher.arguments)
        )
        self._computed_here = self._computed_here or claimed
        return claimed

    def claims_after(self) -> float | None:
        """In how many seconds from now this process may compute a queued flight itself; None: never."""
        if self._parts:
            return soonest(self._parts)
        function, launcher = self._function, self._pending.launcher
        if function is None or launcher is None:
            return None
        if launcher.is_in_worker():
            return 0.0
        after_s = function.options.inline_after_s
        return None if after_s is None else max(0.0, self._made_at + after_s - time.monotonic())

    def _take(self, default: Any) -> Any:
        landing = self._landing
        if landing is None:
            if default is not _RAISE:
                return default
            raise NotReady(f"{self!r} is not there yet; wait longer (`timeout=`), or pass `default=`.")
        return calling.landed(landing)

    @property
    def _landing(self) -> Landing | None:
        return self._pending.landing

    def __await__(self) -> Generator[Any, None, R]:
        return self.wait().__await__()

    async def wait(self, timeout: Duration | None = None) -> R:
        """Wait without blocking the event loop and without a thread; raises NotReady after `timeout` seconds."""
        seconds = wait_seconds(True, timeout)
        if self._landing is None:
            self._revive()
            await _arrival_or_claim(self, self._pending, seconds)
        value: R = self._take(_RAISE)
        return value

    def _revive(self) -> None:
        for part in self._parts:
            part._revive()
        following.revive(self._station(), self._pending)

    def _station(self) -> Any:
        return None if self._cache is None or self._cache.debug else self._cache.station

    def add_done_callback(self, callback: Callable[[Result[R]], Any]) -> None:
        """Call `callback(result)` once it is there, from another thread, or now when it is there already."""
        self._hear(callback)

    def _hear(self, callback: Callable[[Result[R]], Any]) -> Callable[[], None]:
        def done(pending: Pending) -> None:
            callback(self)

        self._revive()
        self._pending.when_done(done)
        return lambda: self._pending.discard(done)

    def future(self) -> concurrent.futures.Future[R]:
        """A standard future that ends with this value or error, for code that knows futures."""
        future: concurrent.futures.Future[R] = concurrent.futures.Future()
        future.set_running_or_notify_cancel()

        def done(result: Result[R]) -> None:
            landing = result._landing
            assert landing is not None
            if isinstance(landing.error, StopIteration):
                # No future of an event loop takes it, and one that wraps this would wait for ever (PEP 479).
                stopped = RuntimeError("the function raised StopIteration")
                stopped.__cause__ = landing.error
                future.set_exception(stopped)
            elif landing.error is not None:
                future.set_exception(landing.error)
            else:
                future.set_result(landing.value)  # type: ignore[arg-type]  # the codec does not know R

        self.add_done_callback(done)
        return future

    # -- asking ---------------------------------------------------------------------------------------

    def ready(self) -> bool:
        """True when calling will not wait."""
        return self._landing is not None

    @property
    def state(self) -> State:
        """queued, running, retrying, done, failed, lost or cancelled; as of the last look, at most a second ago."""
        landing = self._landing
        if landing is None:
            return self._pending.sighting.state
        if landing.error is None:
            return "done"
        if isinstance(landing.error, Cancelled):
            return "cancelled"
        return "lost" if isinstance(landing.error, ComputationLost) else "failed"

    @property
    def source(self) -> Source:
        """Where the value comes from: hit, stale, joined (somebody else's flight), led (ours), inline (computed here)."""
        if self._landing is not None:
            return "inline" if self._computed_here or self._sent_to_nobody else self._landing.source
        return "led" if self._pending.leads else "joined"

    @property
    def _sent_to_nobody(self) -> bool:
        launcher = self._pending.launcher
        return isinstance(launcher, calling.InlineLauncher) and launcher.has_computed

    @property
    def progress(self) -> Progress:
        """What the computation last told of its progress."""
        return progress_of(self._pending.sighting.progress)

    def updates(self, timeout: Duration | None = None) -> Iterator[Progress]:
        """Yield the progress whenever it changes, until the value is there, at most `timeout` seconds."""
        self._revive()
        return following.updates(self._pending, wait_seconds(True, timeout), self.claims_after(), self.claim)

    @property
    def key(self) -> str:
        """The key of this call, as `cache.get` takes it."""
        return self._invocation.key if self._invocation is not None else ""

    @property
    def task_id(self) -> str | None:
        """Celery's id of the computation, which is the flight's token; None for a hit."""
        return self._pending.token or None

    @property
    def id(self) -> str:
        """A text by which `cache.result(id)` finds this computation in another process."""
        invocation = self._invocation
        if invocation is None:
            raise UsageError("this result was computed without the cache; no other process can find it")
        return following.write_id(invocation, self._pending.token)

    @property
    def age(self) -> float | None:
        """Seconds since the computation began, by the server's clock; None while it is not known."""
        landing = self._landing
        if landing is None or not landing.created_ms or self._cache is None:
            return None
        return max(0, following.server_ms(self._cache.station) - landing.created_ms) / 1000

    @property
    def expires_in(self) -> float | None:
        """Seconds until the stored value expires; None when it is not stored or never expires."""
        if self._invocation is None or self._cache is None or self._cache.debug:
            return None
        return following.expires_in(self._cache.station, self._invocation)

    @property
    def exception(self) -> BaseException | None:
        """The error the call ended with, or None; raises NotReady while it has not ended."""
        if self._landing is None:
            raise NotReady(f"{self!r} has not ended yet; wait for it first.")
        return self._landing.error

    @property
    def async_result(self) -> Any:
        """Celery's AsyncResult of the computation, whose `get()` gives this value; None for a hit."""
        launcher = self._pending.launcher
        if launcher is None or not self._pending.token:
            return None
        return launcher.async_result(self._pending.token, self)

    # -- leaving --------------------------------------------------------------------------------------

    def cancel(self) -> bool:
        """
        Stop waiting. The computation goes on for others; when nobody else waits, one that has not begun is ended, and
        one that runs is revoked with `revoke_when_abandoned=True`. False when the value was there already.
        """
        if self._landing is not None:
            return False
        revoke = self._function is not None and self._function.options.revoke_when_abandoned
        if self._cache is not None and not self._cache.debug:
            following.leave(self._cache.station, self._pending, revoke)
        self._pending.cancel()
        return True

    def __reduce__(self) -> Any:
        if self._cache is None:
            raise UsageError("a gathered result does not travel; send the results it gathers")
        return _find, (self._cache, self.id)

    def __repr__(self) -> str:
        name = self._function.name if self._function is not None else self.key.partition(":")[0]
        return f"<Result {name or 'gathered'} {self.state} {self.source}>"


def _find(cache: Cache, result_id: str) -> Result[Any]:
    return cache.result(result_id)


def wait_seconds(block: object, timeout: object) -> float | None:
    """How long to wait: None without limit, 0 not at all."""
    if not isinstance(block, bool):
        raise UsageError(f"block={block!r}: pass True or False; how long to wait is `timeout=`")
    if timeout is None:
        return None if block else 0.0
    milliseconds = to_ms(timeout, "timeout")
    return milliseconds / 1000 if block else 0.0


def soonest(results: Iterable[Result[Any]]) -> float | None:
    """In how many seconds this process may compute one of these itself; None: never."""
    pauses = [pause for pause in (result.claims_after() for result in results) if pause is not None]
    return min(pauses, default=None)


async def _arrival_or_claim(result: Result[Any], pending: Pending, seconds: float | None) -> None:
    """Wait for a landing on this loop; where this process may have to compute it, in a thread."""
    pause = result.claims_after()
    loop = asyncio.get_running_loop()
    began = loop.time()
    while pause is not None:
        left = None if seconds is None else seconds - (loop.time() - began)
        if left is not None and left <= pause:
            seconds = max(0.0, left)
            break
        await driver.arrival(pending, pause)
        if pending.landing is not None:
            return
        pause = following.CLAIM_EVERY_S
        with suppress(NoServer):  # the keeper gives the server up in its own time, and with a reason
            if await driver.in_thread(result.claim):
                pause = 0.0
    await driver.arrival(pending, seconds)


async def in_order_of_arrival(results: list[Result[R]], seconds: float | None) -> AsyncIterator[Result[R]]:
    """Yield results as they arrive, on this loop; raises NotReady after `seconds`."""
    loop = asyncio.get_running_loop()
    arrivals: asyncio.Queue[Result[R]] = asyncio.Queue()
    deadline = None if seconds is None else loop.time() + seconds
    with hearing(results, lambda result: driver.tell(loop, arrivals.put_nowait, result)):
        done, pause = 0, soonest(results)
        while done < len(results):
            left = None if deadline is None else max(0.0, deadline - loop.time())
            claims = pause is not None and (left is None or pause < left)
            # What has arrived is given whatever the time is; it says so in the loop's next turn.
            await asyncio.sleep(0)
            try:
                yield (
                    arrivals.get_nowait()
                    if arrivals.qsize()
                    else await asyncio.wait_for(arrivals.get(), pause if claims else left)
                )
                done += 1
            except asyncio.TimeoutError:
                if not claims:
                    raise NotReady(f"{len(results) - done} of {len(results)} results are not there yet.") from None
                pause = following.CLAIM_EVERY_S
                with suppress(NoServer):
                    if await driver.in_thread(lambda: claim_one(results)):
                        pause = 0.0


@contextmanager
def hearing(results: Sequence[Result[R]], arrived: Callable[[Result[R]], Any]) -> Iterator[None]:
    """Call `arrived(result)` for each of these that is there, until the block ends: a loop may be left early."""
    ends = [result._hear(arrived) for result in results]
    try:
        yield
    finally:
        for end in ends:
            end()


def claim_one(results: Iterable[Result[Any]]) -> bool:
    """Compute the first of these that waits for this process; True when there was one, and there may be more."""
    return any(result.claim() for result in results if result.claims_after() is not None)
