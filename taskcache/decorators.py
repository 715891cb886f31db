"""This is where two of the decorators are: `cached` computes here, `cache_async` on a worker."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from msgspec.structs import replace

from taskcache.awaitable import AwaitableAsync, AwaitableCached
from taskcache.calls import awaiting, calling
from taskcache.calls.current import ancestors
from taskcache.calls.hits import Hits, Missed
from taskcache.calls.invocation import Invocation
from taskcache.calls.nearby import front_of, near_hits_of
from taskcache.calls.origin import as_workers_import
from taskcache.drivers import blocking
from taskcache.drivers.asyncio import mark_coroutine_function
from taskcache.drivers.pending import Landed, Pending
from taskcache.errors import NoServer
from taskcache.function import Function
from taskcache.options import Options, check_per_call
from taskcache.protocol.flight import Landing, Lead, obtain
from taskcache.protocol.steps import Wait
from taskcache.result import Result

if TYPE_CHECKING:
    from typing_extensions import Self

    from taskcache.cache import Cache
    from taskcache.launcher import Launcher

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Function[Any, Any])

# What `cache_async` stores for when nothing else is said; walrus's choice.
ASYNC_LIFETIME_MS = 3_600_000


class CachedFunction(Function[P, R]):
    """A function computed where it is called, once for everybody who asks meanwhile."""

    decorator = "cached"

    def __init__(self, cache: Cache, fn: Callable[..., Any], options: Options) -> None:
        super().__init__(cache, fn, options)
        # Made by the first call, which finds the server.
        self._hits: Hits | None = None
        self._is_awaited = self.origin.is_coroutine
        if self._is_awaited:
            mark_coroutine_function(self)

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        if self._is_awaited:
            return self.acall(args, kwargs)  # type: ignore[return-value]  # R is the coroutine then
        first = None
        if self._hits is not None:
            value = self._hits.get(*args, **kwargs)
            if type(value) is not Missed:
                self.stats_counted.hits += 1
                return value  # type: ignore[no-any-return]  # the codec does not know R
            first = value.first
        answer: R = calling.call(self, args, kwargs, first)
        if self._hits is None:
            self._hits = near_hits_of(self)
        return answer

    async def acall(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The value, awaited; a plain function is computed in a thread when it has to be."""
        first = None
        if self._hits is not None:
            value = await self._hits.aget(*args, **kwargs)
            if type(value) is not Missed:
                self.stats_counted.hits += 1
                return value
            first = value.first
        answer = await awaiting.acall(self, args, kwargs, first)
        if self._hits is None:
            self._hits = near_hits_of(self)
        return answer

    def refresh(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Compute this call anew and store it; those who ask meanwhile get the new value."""
        self.bust(*args, **kwargs)
        return self(*args, **kwargs)

    def join(self, /, *args: P.args, **kwargs: P.kwargs) -> Result[R] | None:
        """The computation of this call that is under way somewhere, or None; starts nothing."""
        return Result.of_flight(self, self.invocation(args, kwargs))

    def with_options(self, **options: Any) -> CachedFunction[P, R]:
        """The same function with other options for the calls made through it."""
        return self.with_changed(_with(self, options))

    def with_changed(self, options: Options) -> CachedFunction[P, R]:
        same = _like(self, cached_kind(options), options)
        same.begin()
        return same

    def begin(self) -> None:
        """Forget how calls were answered so far: it depends on the options."""
        self._hits = None

    @property
    def aio(self) -> AwaitableCached[P, R]:
        """The same verbs, awaitable."""
        return AwaitableCached(self)

    def __setstate__(self, state: tuple[Cache, Callable[..., Any], Options]) -> None:
        self.__init__(*state)  # type: ignore[misc]  # made by origin._make, without arguments


class NearFunction(CachedFunction[P, R]):
    """A `cached` function with `near=`: its calls are answered from this process while the server vouches for them."""

    # Calling an instance calls what it keeps in this slot: for CPython that is one frame less than a method.
    __slots__ = ("__call__",)

    def __init__(self, cache: Cache, fn: Callable[..., Any], options: Options) -> None:
        super().__init__(cache, fn, options)
        self.begin()

    def begin(self) -> None:
        super().begin()
        self._answer_with(self._first)

    def _first(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """The first call, which finds the server."""
        answer = super().__call__(*args, **kwargs)
        self._answer_with(self._second)
        return answer

    def _second(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """The second call, with which a front comes; for a single call it is not worth making."""
        far = super().__call__
        if self.cache.is_open and front_of(self, far, self._answer_with) is None:
            self._answer_with(far)
        return far(*args, **kwargs)

    def _answer_with(self, call: Callable[..., Any]) -> None:
        self.__call__ = call  # type: ignore[method-assign]  # the slot


def cached_kind(options: Options) -> type[CachedFunction[Any, Any]]:
    """The class that a `cached` function with these options is of."""
    return NearFunction if options.near_ms else CachedFunction


def cached_function(cache: Cache, fn: Callable[..., Any], options: Options) -> CachedFunction[Any, Any]:
    """Make a `cached` function, of the kind its options ask for."""
    return cached_kind(options)(cache, fn, options)


class AsyncFunction(Function[P, R]):
    """A function computed by a Celery worker; calling it gives a `Result` at once."""

    decorator = "cache_async"

    def __init__(self, cache: Cache, fn: Callable[..., Any], options: Options) -> None:
        super().__init__(cache, fn, options if cache.app is None else as_workers_import(fn, options))
        # Made by the first call, which finds the server.
        self._hits: Hits | None = None
        if not cache.debug:
            from taskcache.launchers import registry

            registry.register(self)

    @property
    def _default_lifetime_ms(self) -> int:
        return ASYNC_LIFETIME_MS

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> Result[R]:
        first = None
        if self._hits is not None:
            digest, found = self._hits.look(*args, **kwargs)
            if (result := self.stored(digest, found)) is not None:
                return result
            first = found.first if isinstance(found, Missed) else None
        return self._begun(args, kwargs, first)

    @property
    def short_way(self) -> Hits | None:
        """What answers calls whose value is stored, once the server is found."""
        return self._hits

    def find_hits(self) -> None:
        """Take the short way from now on, where there is one: the server is found."""
        if self._hits is None:
            self._hits = near_hits_of(self)

    def stored(self, digest: str, found: Landing | Missed) -> Result[R] | None:
        """The result of a call whose value was found; None where it was not, or within the computation of this very key."""
        key = f"{self.name}:{digest}"
        if isinstance(found, Missed) or calling.is_inside(self.cache, key):
            return None
        self.stats_counted.hits += 1
        return Result(self, key, Landed(found))

    def _begun(self, args: tuple[Any, ...], kwargs: dict[str, Any], first: calling.Reads | None) -> Result[R]:
        """Begin a call of which no more is known than what was read first."""
        cache = self.cache
        if cache.debug:
            return self.inline(args, kwargs)
        invocation = self.invocation(args, kwargs)
        if calling.is_own_ancestor(invocation):
            return self.inline(args, kwargs, invocation)
        try:
            station = cache.station
            landing, first = calling.look(station, invocation, first)
            self.find_hits()
            if landing is not None:
                self.stats_counted.hits += 1
                return Result(self, invocation, Landed(landing))
            # Before anything is elected: an argument that cannot travel is an error of this call alone.
            launcher = self.launcher(args, kwargs, invocation)
            errand = invocation.errand(station, "")
            pending = Pending(obtain(errand, first), errand, launcher)
            with station.watched():
                wait, ended = blocking.run_until_wait(
                    pending.steps, station.server, launch=lambda step: launcher.launch(step.token)
                )
        except NoServer as error:
            calling.note_degraded(self, error)
            compute = partial(calling.run, self, (args, kwargs))
            return self._computed(lambda: cache.alone.call(invocation, compute), invocation)
        return self.begun(station, invocation, pending, wait, ended)

    def begun(
        self,
        station: Any,
        invocation: Invocation,
        pending: Pending,
        wait: Wait | None,
        ended: Landing | Lead | None,
    ) -> Result[R]:
        self.stats_counted.misses += 1
        if wait is None:
            assert isinstance(ended, Landing)
            pending.settle(ended)
        else:
            station.keeper.adopt(pending, wait)
        return Result(self, invocation, pending)

    def launcher(self, args: tuple[Any, ...], kwargs: dict[str, Any], invocation: Invocation) -> Launcher:
        """What sends this call; the arguments are written now, so that key and message agree whatever happens to them."""
        from taskcache.launchers import registry

        launcher = registry.launcher(self, args, kwargs, invocation, ancestors())
        if self.options.on_broker_error == "raise":
            return launcher
        return calling.InlineLauncher(
            launcher,
            lambda token: calling.claim_here(self, self.cache.station, invocation, token, launcher.arguments),
        )

    def inline(self, args: tuple[Any, ...], kwargs: dict[str, Any], invocation: Invocation | None = None) -> Result[R]:
        """Compute here and now, without the cache."""
        return self._computed(lambda: calling.run(self, (args, kwargs)), invocation)

    def _computed(self, compute: Callable[[], Any], invocation: Invocation | None) -> Result[R]:
        try:
            landing = Landing(compute(), None, 0, "inline")
        except Exception as error:  # noqa: BLE001 - delivered by the result, as a worker's error would be
            landing = Landing.failed(error, "inline")
        return Result(self, invocation, Landed(landing))

    def refresh(self, /, *args: P.args, **kwargs: P.kwargs) -> Result[R]:
        """Have this call computed anew; those who ask meanwhile get the new value."""
        self.bust(*args, **kwargs)
        return self(*args, **kwargs)

    def join(self, /, *args: P.args, **kwargs: P.kwargs) -> Result[R] | None:
        """The computation of this call that is under way somewhere, or None; starts nothing."""
        return Result.of_flight(self, self.invocation(args, kwargs))

    def with_options(self, **options: Any) -> Self:
        """The same function with other options, Celery's among them (`queue=`, `priority=`), for these calls."""
        return self.with_changed(_with(self, options))

    def with_changed(self, options: Options) -> Self:
        same = _like(self, type(self), options)
        same._hits = None  # it depends on the options
        return same

    @property
    def aio(self) -> AwaitableAsync[P, R]:
        """The same verbs, awaitable."""
        return AwaitableAsync(self)

    @property
    def task(self) -> Any:
        """The Celery task of the app that calls are sent with."""
        from taskcache.launchers import registry

        return registry.task(self)

    def delay(self, /, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Celery's own: an AsyncResult, whose value is stored in the result backend as well as in the cache."""
        return self.task.apply_async(args, kwargs)

    def apply_async(self, args: Any = None, kwargs: Any = None, *more: Any, **options: Any) -> Any:
        """Celery's own."""
        return self.task.apply_async(args, kwargs, *more, **options)

    def s(self, /, *args: Any, **kwargs: Any) -> Any:
        """A Celery signature, for chain, group and chord."""
        return self.task.s(*args, **kwargs)

    def si(self, /, *args: Any, **kwargs: Any) -> Any:
        """An immutable Celery signature."""
        return self.task.si(*args, **kwargs)

    def signature(self, /, *args: Any, **kwargs: Any) -> Any:
        """A Celery signature with options."""
        return self.task.signature(*args, **kwargs)

    def __setstate__(self, state: tuple[Cache, Callable[..., Any], Options]) -> None:
        # Made by origin._make, without arguments. It came by value, to be run: registered, it would be a task of the worker
        # that ran it once.
        super().__init__(*state)
        self._hits = None


def _with(function: Function[Any, Any], given: dict[str, Any]) -> Options:
    checked = check_per_call(given, function.decorator)
    changed = {name: getattr(checked, name) for name in given if name not in checked.celery}
    return replace(function.options, **changed, celery={**function.options.celery, **checked.celery})


def _like(function: F, kind: type[Any], options: Options) -> F:
    same: F = object.__new__(kind)
    same.__dict__.update(function.__dict__)
    same.options = options
    return same


__all__ = ["AsyncFunction", "CachedFunction", "Lead"]
