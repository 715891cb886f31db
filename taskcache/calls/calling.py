"""This is where a call is answered in this process: from the cache, from a colleague's flight, or by computing here."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from taskcache import events
from taskcache.calls import nearby, retrying
from taskcache.calls.computing import Attempt, Sealed, new_owner
from taskcache.calls.current import ancestors, computing
from taskcache.calls.invocation import Invocation
from taskcache.codec.pickling import is_interruption
from taskcache.drivers import asyncio as driver
from taskcache.drivers import blocking, threads
from taskcache.drivers.renewer import Lease
from taskcache.drivers.station import Station
from taskcache.errors import DispatchFailed, NoServer
from taskcache.launcher import Launcher
from taskcache.options import Options
from taskcache.protocol.flight import Claim, Extra, Landing, Lead, begin, judged, obtain
from taskcache.stats import Stats

if TYPE_CHECKING:
    from taskcache.cache import Cache
    from taskcache.function import Function

T = TypeVar("T")
Arguments = tuple[tuple[Any, ...], dict[str, Any]]
Reads = Sequence[bytes | None]


class Callee(Protocol):
    """What is needed of a function to answer its calls."""

    cache: Cache
    name: str
    origin: Any
    options: Options
    stats_counted: Stats


class PlainCallee:
    """The function behind `get_or_set`: it has a key of its own and no name."""

    name = ""
    options = Options()

    def __init__(self, cache: Cache, fn: Callable[[], Any]) -> None:
        self.cache = cache
        self.origin = SimpleNamespace(body=fn, is_coroutine=False)
        self.stats_counted = Stats()


def landed(landing: Landing) -> Any:
    """The value of a call, or its error."""
    if landing.error is not None:
        # As asyncio's futures do: an error that is raised a thousand times does not remember a thousand ways.
        raise landing.error.with_traceback(landing.trace)
    return landing.value


def is_inside(cache: Cache, key: str) -> bool:
    """`is_own_ancestor` of the call with this key."""
    above = ancestors()
    return bool(above) and f"{cache.name}:{key}" in above


def is_own_ancestor(invocation: Invocation) -> bool:
    """True inside the computation of this very key: waiting for it would be waiting for ourselves."""
    return invocation.identity in ancestors()


def look(station: Station, invocation: Invocation, first: Reads | None = None) -> tuple[Landing | None, Reads]:
    """
    The long hit path: one round trip, and a value if it may be returned; what was read goes on to the miss.

    `first` is what the short one has read of the same call.
    """
    if first is not None:
        return _usable(station, invocation, first), first
    with nearby.around(station, invocation) as near:
        if near.landing is not None:
            return near.landing, ()
        first = station.read((invocation.redis_key, *invocation.stamps))
        landing = _usable(station, invocation, first)
        near.keep(first[0], landing)
    return landing, first


def _usable(station: Station, invocation: Invocation, first: Reads) -> Landing | None:
    landing = invocation.usable(first[0], first[1:])
    if isinstance(landing, Extra):
        landing = blocking.run(judged(invocation.errand(station, ""), first[0], first[1:]), station.server)
    return landing


def call(
    function: Function[Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any], first: Reads | None = None
) -> Any:
    """Answer a call of a `cached` function; `first` as for `look`."""
    if function.cache.debug:
        return function.origin.body(*args, **kwargs)
    return answer(function, function.invocation(args, kwargs), args, kwargs, first)


def answer(
    function: Callee,
    invocation: Invocation,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    first: Reads | None = None,
) -> Any:
    """Answer a call whose key is known."""
    cache = function.cache
    began = time.perf_counter()
    if is_own_ancestor(invocation):
        return run(function, (args, kwargs))
    try:
        station = cache.station
        landing, first = look(station, invocation, first)
        if landing is not None:
            function.stats_counted.hit(time.perf_counter() - began)
            return landed(landing)
        errand = invocation.errand(station, new_owner())
        with station.watched():
            ended = blocking.run(
                obtain(errand, first), station.server, wait=lambda wait: station.keeper.wait(errand, wait)
            )
    except NoServer as error:
        note_degraded(function, error)
        return cache.alone.call(invocation, lambda: run(function, (args, kwargs)))
    if isinstance(ended, Landing):
        function.stats_counted.hit(time.perf_counter() - began)
        return landed(ended)
    try:
        return lead(function, station, invocation, ended, errand.owner, lambda: (args, kwargs)).value
    finally:
        function.stats_counted.miss(time.perf_counter() - began)


def note_degraded(function: Callee, error: NoServer) -> None:
    """Count and log that a call goes without the cache; raises `error` where the options ask for it."""
    if function.options.on_cache_error == "raise":
        raise error
    function.stats_counted.degraded += 1
    events.emit(events.Event("degraded", function.name))
    # By the server: one outage has several errors, first that of a cut connection and then that of a refused one.
    where = function.cache.station.server.url if function.cache.is_open else error
    events.warn_once(f"degraded {where}", "taskcache: %s; calls are computed without the cache meanwhile", error)


class attempting:  # noqa: N801 - used like a function, as those of contextlib
    """
    An attempt at a flight that we lead or have claimed; its lease is kept alive from here while it is wanted.

    Not made by contextlib, which raises an error of its own in the place of one that is a frozen dataclass.
    """

    def __init__(
        self,
        function: Callee,
        station: Station,
        invocation: Invocation,
        began: Lead | Claim,
        owner: str,
        token: str = "",
        is_wanted: Callable[[], bool] | None = None,
    ) -> None:
        self._renewer = station.renewer
        errand = invocation.errand(station, owner)
        token = began.token if isinstance(began, Lead) else token
        self._lease = Lease(errand.key, token, owner, held=True, is_wanted=is_wanted)
        self._attempt = Attempt(
            invocation,
            function.options,
            errand,
            token=token,
            owner=owner,
            stamps=began.stamps,
            now_ms=began.now_ms,
            run=lambda steps: blocking.run(steps, station.server),
            lease=self._lease,
            note_degraded=partial(note_degraded, function),
        )

    def __enter__(self) -> Attempt:
        try:
            self._renewer.hold(self._lease)
        except BaseException:
            self._renewer.drop(self._lease)
            raise
        return self._attempt

    def __exit__(self, *error: object) -> None:
        # Whatever has come between, a second Ctrl-C too: a lease that nobody drops is renewed for ever.
        self._renewer.drop(self._lease)


@contextmanager
def forgiving(function: Callee) -> Iterator[None]:
    """A value that is computed and cannot be stored has been computed all the same."""
    try:
        yield
    except NoServer as error:
        name = function.name or "get_or_set"
        events.warn_once(
            f"unpublished {name} {error}", "taskcache: a value of %s could not be stored (%s)", name, error
        )


def lead(
    function: Callee,
    station: Station,
    invocation: Invocation,
    began: Lead | Claim,
    owner: str,
    arguments: Callable[[], Arguments],
    token: str = "",
) -> Sealed:
    """Compute here what others may wait for, publish it, and give it back; opening the arguments is a part of it."""
    with attempting(function, station, invocation, began, owner, token) as attempt:
        try:
            called = arguments()
            with computing(attempt.computation):
                value = retrying.tried(function.options.celery, lambda: run(function, called))
            sealed = attempt.seal(value)
        except BaseException as error:
            function.stats_counted.failed += 1
            with suppress(NoServer):
                attempt.run(attempt.fail(told(error)))
            raise
        function.stats_counted.computed += 1
        with forgiving(function):
            if not attempt.is_overtaken:
                attempt.run(attempt.publish(sealed))
    return sealed


def told(error: BaseException) -> BaseException:
    """What those who wait are told of it: a soft time limit is that of the task around us, and they have another."""
    return KeyboardInterrupt() if isinstance(error, Exception) and is_interruption(error) else error


def run(function: Callee, arguments: Arguments) -> Any:
    args, kwargs = arguments
    value = function.origin.body(*args, **kwargs)
    return driver.run_to_end(value) if function.origin.is_coroutine else value


def claim_here(
    function: Callee, station: Station, invocation: Invocation, token: str, arguments: Callable[[], Arguments]
) -> bool:
    """
    Compute a queued flight in this process, if nobody has begun it; True when it was ours to compute.

    `arguments` gives those of the call as they were when its key was made.
    """
    owner = new_owner()
    errand = invocation.errand(station, owner)
    claim = blocking.run(begin(errand, token, owner=owner, inline=True), station.server)
    if claim.word != "run":
        return False
    try:
        lead(function, station, invocation, claim, owner, arguments, token)
    except Exception as error:
        # Any other is delivered through the flight, to who asked for this as to everybody else.
        if is_interruption(error):
            raise
    return True


class InlineLauncher:
    """A launcher for `on_broker_error="inline"`: what the broker does not take is computed by the one who sends it."""

    def __init__(self, launcher: Launcher, claim: Callable[[str], bool]) -> None:
        self._launcher = launcher
        self._claim = claim
        # So that the result can say where its value was computed.
        self.has_computed = False
        # What the broker said to this call when it was made: those made together with it need not ask again.
        self.refusal: DispatchFailed | None = None

    def launch(self, token: str) -> None:
        try:
            self._launcher.launch(token)
        except DispatchFailed as error:
            self.refusal = error
            self._compute(token, error)

    def launch_beside(self, token: str) -> None:
        try:
            self._launcher.launch_beside(token)
        except DispatchFailed as error:
            failed = error
            # A body takes its time, and may wait for a call whose turn to be sent comes after this one's.
            threads.start(lambda: self._compute_alone(token, failed), "taskcache-inline")

    def _compute_alone(self, token: str, error: DispatchFailed) -> None:
        # The waits give the server up in their own time, and until then the call is sent again.
        with suppress(NoServer):
            self._compute(token, error)

    def launch_together(self, calls: Sequence[tuple[Any, str]]) -> None:
        try:
            self._launcher.launch_together([(each._launcher, token) for each, token in calls])
        except DispatchFailed as error:
            self.refusal = error
            self.compute_together(calls, error)

    def compute_together(self, calls: Sequence[tuple[Any, str]], error: DispatchFailed) -> None:
        """Compute several calls here that the broker does not take; launchers of this kind and their tokens."""
        for each, token in calls:
            each._compute(token, error)

    def _compute(self, token: str, error: DispatchFailed) -> None:
        events.warn_once(f"inline {error}", "taskcache: %s Calls are computed where they are made meanwhile", error)
        # Under the flight, so that those who follow it get the value too; False means that another is at it.
        self.has_computed = self._claim(token)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._launcher, name)
