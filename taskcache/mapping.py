"""This is where many calls of one function are made together: hits in one round trip, misses elected in one pipeline."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import AsyncIterator, Generator, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from taskcache import events
from taskcache.batch import gather
from taskcache.batching import WINDOW, BoundCall
from taskcache.calls import calling, looking
from taskcache.calls.hits import hits_of
from taskcache.calls.invocation import Invocation
from taskcache.calls.looking import Look, of_one_call
from taskcache.calls.primitives import removals
from taskcache.codec.pickling import is_interruption
from taskcache.drivers import asyncio as driver
from taskcache.drivers import together
from taskcache.drivers.pending import Landed, Pending
from taskcache.errors import DispatchFailed, NoServer, UsageError
from taskcache.protocol.flight import Landing, obtain
from taskcache.protocol.steps import Launch
from taskcache.result import Result
from taskcache.settings import Duration

if TYPE_CHECKING:
    from taskcache.decorators import AsyncFunction, CachedFunction
    from taskcache.drivers.station import Station
    from taskcache.launcher import Launcher

R = TypeVar("R")


class Batch(Generic[R]):
    """
    The results of many calls, in the order of the input.

    Iterate, with `for` or `async for`, to take each `Result` as soon as its window has been looked up: the input is read
    as you go, so that it may be endless. What a loop has taken is not kept: the next loop goes on after it, and loops that
    run side by side share the results. Or call the batch, or await it, for the list of all values. Then they are kept, for
    every later call and loop; if it is interrupted, the next call goes on where it was. One failing call does not fail the
    others: its own result raises. An error of the input comes after the results of what it gave.
    """

    def __init__(self, function: Any, calls: Iterator[BoundCall], chunk: int = 1) -> None:
        self._function = function
        self._calls = calls
        # How many calls go in one message.
        self._chunk = chunk
        # Read and not looked up, which they are as a whole or not at all.
        self._window: list[BoundCall] = []
        self._ready: deque[Result[R]] = deque()
        self._taken = 0
        self._is_read = False
        self._unreadable: BaseException | None = None
        self._is_told = False
        # A coroutine that is cancelled leaves a thread behind that still looks up a window.
        self._reading = threading.RLock()
        self._all: Result[list[R]] | None = None
        self.started = 0
        self.hits = 0
        self.done = 0
        self.failed = 0

    def __iter__(self) -> Iterator[Result[R]]:
        if self._all is not None:
            yield from self._ready
            return
        while self._fill():
            if (result := self._take()) is not None:
                yield result

    async def __aiter__(self) -> AsyncIterator[Result[R]]:
        if self._all is not None:
            for kept in self._ready:
                yield kept
            return
        while bool(self._ready) or await driver.in_thread(self._fill):
            if (result := self._take()) is not None:
                yield result

    def _take(self) -> Result[R] | None:
        """The next result; None when a loop beside this one has taken it."""
        try:
            result = self._ready.popleft()
        except IndexError:
            return None
        self._taken += 1
        return result

    def _fill(self) -> bool:
        """Look up the next window when the last one is nearly used up; False at the end of the input."""
        while len(self._ready) <= WINDOW // 2 and self._look_up():
            pass
        if not self._ready:
            self._check_read()
        return bool(self._ready)

    def _look_up(self) -> bool:
        """Look up one more window; False at the end of the input. Interrupted, it leaves the window to the next one."""
        with self._reading:
            if self._is_read and not self._window:
                return False
            self._read()
            results = start(self._function, self._window, self._chunk)
            self._ready.extend(results)
            self._window = []
            self.started += len(results)
            for result in results:
                if result.ready():
                    self.hits += result.source == "hit"
                    self._count(result)
                else:
                    result.add_done_callback(self._count)
            return not self._is_read

    def _read(self) -> None:
        """Read the rest of a window; an input that fails is at its end, and what it gave is looked up all the same."""
        if self._is_read:
            return
        try:
            self._window.extend(islice(self._calls, WINDOW - len(self._window)))
        except BaseException as error:
            self._unreadable, self._is_read = error, True
            if not isinstance(error, Exception) or is_interruption(error):
                self._is_told = True
                raise
            return
        self._is_read = len(self._window) < WINDOW

    def _check_read(self) -> None:
        """Raise what the input ended with: what it has not given would be missing without a word."""
        if self._unreadable is None:
            return
        if self._is_told:
            raise UsageError(
                f"the input of this batch ended with {self._unreadable!r} and cannot be read on; make a new batch"
            ) from self._unreadable
        self._is_told = True
        raise self._unreadable

    def _count(self, result: Result[R]) -> None:
        self.done += 1
        self.failed += result.exception is not None

    def __call__(self, block: bool = True, timeout: Duration | None = None) -> list[R]:
        """All values, in order; raises the first error in that order, or NotReady after `timeout` seconds."""
        return self.all()(block, timeout)

    def begin(self) -> None:
        """Begin every call of the input, without waiting for any."""
        while self._look_up():
            pass
        self._check_read()

    def all(self) -> Result[list[R]]:
        """Begin every call and gather them; the same result however often it is asked for. UsageError after a loop."""
        if self._all is None:
            self._check_whole()
            self.begin()
            self._all = gather(self._ready)
        return self._all

    def __await__(self) -> Generator[Any, None, list[R]]:
        return self._wait().__await__()

    async def _wait(self) -> list[R]:
        if self._all is None:
            self._check_whole()
            # A window at a time: what a thread does is not ended by a cancellation.
            while await driver.in_thread(self._look_up):
                pass
            self._check_read()
            self._check_whole()  # another task may loop over it meanwhile
            self._all = gather(self._ready)
        return await self._all

    def _check_whole(self) -> None:
        if self._taken:
            raise UsageError(
                f"a loop has taken {self._taken} results of this batch, which does not keep them: collect their values in "
                "the loop, or call the batch instead of looping"
            )

    def __repr__(self) -> str:
        return f"<Batch {self._function.name} {self.done}/{self.started} done, {self.hits} hits, {self.failed} failed>"


def bound(calls: Iterable[Any]) -> Iterator[BoundCall]:
    """The calls that `starmap` and `warm` were given: tuples of arguments, or what `fn.call(...)` gave."""
    for call in calls:
        if isinstance(call, BoundCall):
            yield call
        elif isinstance(call, tuple | list):
            yield BoundCall(tuple(call), {})
        else:
            raise UsageError(f"starmap takes tuples of arguments or fn.call(...), not {type(call).__name__}; see map")


def bust(function: Any, calls: Iterable[BoundCall]) -> None:
    """Invalidate these calls in one round trip; what is wrong with one of them is told by its own result."""
    if function.cache.debug:
        return
    keys = []
    for call in calls:
        try:
            keys.append(function.make_key(call.args, call.kwargs))
        except Exception as error:  # noqa: BLE001 - the error of this call alone
            of_one_call(error)
    for key in keys:
        events.emit(events.Event("busted", function.name, key))
    if keys:
        function.cache.station.server.calls(removals(function.cache.name, keys))


def start(function: Any, window: list[BoundCall], chunk: int = 1) -> list[Result[Any]]:
    """Begin a window of calls, `chunk` of them in a message; each gets a result, whatever becomes of it."""
    if not window:
        return []
    if function.cache.debug:
        return [_alone(function, call, None) for call in window]
    hits = hits_of(function)
    described = [looking.described(function, call, hits) for call in window]
    try:
        station = function.cache.station
        found = iter(
            looking.look(function, station, hits, [each for each in described if not isinstance(each, Exception)])
        )
        looked = [each if isinstance(each, Exception) else next(found) for each in described]
        if function.decorator == "cached":
            return [_cached(function, call, each) for call, each in zip(window, looked, strict=True)]
        return _begin(function, station, window, looked, chunk)
    except NoServer as error:
        for _ in window:
            calling.note_degraded(function, error)
        return [_alone(function, call, each) for call, each in zip(window, described, strict=True)]


def _alone(function: Any, call: BoundCall, described: Invocation | str | Exception | None) -> Result[Any]:
    """Compute one call here, without the cache; one that has no key shares with nobody."""
    invocation = function.described(described) if isinstance(described, str) else described
    compute = partial(calling.run, function, (call.args, call.kwargs))
    try:
        value = function.cache.alone.call(invocation, compute) if isinstance(invocation, Invocation) else compute()
        landing = Landing(value, None, 0, "inline")
    except Exception as error:  # noqa: BLE001 - delivered by the result
        landing = Landing.failed(of_one_call(error), "inline")
    return Result(function, None, Landed(landing))


def _cached(function: CachedFunction[Any, Any], call: BoundCall, look: Look | Exception) -> Result[Any]:
    if isinstance(look, Exception):
        return Result(function, None, Landed(Landing(None, look, 0, "inline")))
    if look.landing is not None:
        function.stats_counted.hits += 1
        return Result(function, look.call, Landed(look.landing))
    try:
        value = calling.answer(function, look.invocation, call.args, call.kwargs)
        landing = Landing(value, None, 0, "inline")
    except Exception as error:  # noqa: BLE001 - delivered by the result
        landing = Landing.failed(of_one_call(error), "inline")
    return Result(function, look.invocation, Landed(landing))


def _begin(
    function: AsyncFunction[Any, Any],
    station: Station,
    window: list[BoundCall],
    looked: list[Look | Exception],
    chunk: int,
) -> list[Result[Any]]:
    """Elect all misses side by side; those that lead are sent to their queue."""
    results: list[Result[Any] | None] = []
    misses: list[tuple[int, Pending, Launcher, Look]] = []
    for place, (call, look) in enumerate(zip(window, looked, strict=True)):
        if isinstance(look, Exception):
            results.append(Result(function, None, Landed(Landing(None, look, 0, "inline"))))
            continue
        if look.landing is not None:
            function.stats_counted.hits += 1
            results.append(Result(function, look.call, Landed(look.landing)))
            continue
        if calling.is_own_ancestor(look.invocation):
            # The body that runs here computes this very key: waiting for it would be waiting for ourselves.
            results.append(function.inline(call.args, call.kwargs, look.invocation))
            continue
        function.stats_counted.misses += 1
        results.append(None)
        try:
            launcher = function.launcher(call.args, call.kwargs, look.invocation)
        except Exception as error:  # noqa: BLE001 - the error of this call alone
            failed = Landing.failed(of_one_call(error), "inline")
            results[place] = Result(function, None, Landed(failed))
            continue
        errand = look.invocation.errand(station, "")
        misses.append((place, Pending(obtain(errand, look.first), errand, launcher), launcher, look))

    def launch(orders: Sequence[tuple[int, Launch]]) -> list[Exception | None]:
        for place, _ in orders:
            misses[place][1].leads = True  # also when it cannot be sent
        return _sent([(misses[place][2], step.token) for place, step in orders], chunk)

    stopped = together.run_until_waits([pending.steps for _, pending, _, _ in misses], station.server, launch)
    for (place, pending, _, look), at in zip(misses, stopped, strict=True):
        if at.wait is not None:
            station.keeper.adopt(pending, at.wait)
        elif at.error is not None:
            pending.fail(at.error)
        else:
            pending.settle(at.value)
        results[place] = Result(function, look.invocation, pending)
    return [result for result in results if result is not None]


def _sent(calls: Sequence[tuple[Launcher, str]], chunk: int) -> list[Exception | None]:
    """Send calls, `chunk` of them in a message; what became of each."""
    said: list[Exception | None] = []
    refusal: DispatchFailed | None = None
    for start in range(0, len(calls), chunk):
        part = calls[start : start + chunk]
        # A broker that did not take one in its time is not given as much for each of the others.
        said.extend([_send(part, refusal)] * len(part))
        launcher = part[0][0]
        if isinstance(launcher, calling.InlineLauncher):
            refusal = refusal or launcher.refusal
        elif isinstance(said[-1], DispatchFailed):
            said.extend([said[-1]] * (len(calls) - len(said)))
            break
    return said


def _send(calls: Sequence[tuple[Launcher, str]], refusal: DispatchFailed | None) -> Exception | None:
    launcher, token = calls[0]
    try:
        if refusal is not None and isinstance(launcher, calling.InlineLauncher):
            launcher.compute_together(calls, refusal)
        elif len(calls) == 1:
            launcher.launch(token)
        else:
            launcher.launch_together(calls)
    except Exception as error:  # noqa: BLE001 - it belongs to these calls, and the others are sent
        return of_one_call(error)
    return None
