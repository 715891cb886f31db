"""This is where we list what a decorator takes, and turn it into one checked record."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypedDict

from msgspec import Struct

from taskcache.errors import UsageError
from taskcache.settings import Duration, Forever, Lifetime, lifetime_ms, to_ms

Timeout = Lifetime | Callable[[Any], Lifetime]
Tags = Iterable[str] | Callable[..., Iterable[str]]


class CachedOptions(TypedDict, total=False):
    """What `cached` and `cached_property` take."""

    key_fn: Callable[[tuple[Any, ...], dict[str, Any]], str] | None
    timeout: Timeout | None
    metrics: bool
    name: str
    version: str | int | None
    ignore: tuple[str, ...]
    tags: Tags
    store_if: Callable[[Any], bool] | None
    on_cache_error: Literal["inline", "raise"]
    near: bool | Duration


class AsyncOptions(CachedOptions, total=False):
    """What `cache_async` takes besides; Celery's own task options come on top."""

    on_broker_error: Literal["raise", "inline"]
    inline_after: Duration | None
    revoke_when_abandoned: bool
    queue: str
    routing_key: str
    exchange: str
    priority: int
    expires: float
    time_limit: float
    soft_time_limit: float
    rate_limit: str | None
    acks_late: bool
    acks_on_failure_or_timeout: bool
    reject_on_worker_lost: bool
    retry_on_worker_lost: bool
    track_started: bool
    autoretry_for: tuple[type[BaseException], ...]
    dont_autoretry_for: tuple[type[BaseException], ...]
    max_retries: int | None
    default_retry_delay: float
    retry_kwargs: dict[str, Any]
    retry_backoff: bool | int
    retry_backoff_max: int
    retry_jitter: bool
    throws: tuple[type[BaseException], ...]
    send_events: bool


# How long `near=True` keeps a value before it is read again: seldom enough to cost nothing, and the two clocks that its
# lifetime is counted by cannot drift apart by more than a few milliseconds meanwhile.
NEAR_LIFETIME_MS = 300_000
_OWN_ASYNC = ("on_broker_error", "inline_after", "revoke_when_abandoned", "batch")
_CELERY = frozenset(AsyncOptions.__annotations__) - frozenset(CachedOptions.__annotations__) - frozenset(_OWN_ASYNC)
_REFUSED = {
    "bind": "the function takes no task argument; call `taskcache.current()` inside it for progress and cancellation",
    "ignore_result": "the value goes to the cache in any case; `.task.delay()` stores Celery's own result as ever",
    "serializer": "arguments travel in taskcache's own signed serializer, which keeps their types",
    "base": "taskcache needs its own task class; put what `base` does into the function or a Celery signal",
}


# What a part of the key or of the body is, and cannot be another for some calls.
_FIXED = ("name", "version", "key_fn", "ignore", "batch")
# What a call of `cache_async` can have for itself: where its message goes and how long it may take, and what its caller does.
PER_CALL = frozenset(("queue", "routing_key", "exchange", "priority", "expires", "time_limit", "soft_time_limit")) | {
    *("on_broker_error", "on_cache_error", "inline_after", "revoke_when_abandoned", "near", "metrics")
}


class Options(Struct, frozen=True):
    """One function's options, checked."""

    key_fn: Callable[[tuple[Any, ...], dict[str, Any]], str] | None = None
    timeout: Timeout | None = None
    metrics: bool = False
    name: str | None = None
    version: str | int | None = None
    ignore: tuple[str, ...] = ()
    tags: Tags = ()
    store_if: Callable[[Any], bool] | None = None
    on_cache_error: Literal["inline", "raise"] = "inline"
    # Keep values in this process, for so many seconds at most: see taskcache/near.
    near: bool | Duration = False
    on_broker_error: Literal["raise", "inline"] = "raise"
    inline_after: Duration | None = None
    revoke_when_abandoned: bool = False
    # The body gets a list of calls and returns a list of values.
    batch: bool = False
    celery: Mapping[str, Any] = {}

    @property
    def inline_after_s(self) -> float | None:
        return None if self.inline_after is None else to_ms(self.inline_after, "inline_after") / 1000

    @property
    def near_ms(self) -> int:
        """How long this process may keep a value at most; 0: not at all."""
        if isinstance(self.near, bool):
            return NEAR_LIFETIME_MS if self.near else 0
        return to_ms(self.near, "near")

    def lifetime_ms(self, default_ms: int) -> int:
        """How long an entry lives, as far as it is known before the result is; a callable counts as the default."""
        if self.timeout is None or (callable(self.timeout) and not isinstance(self.timeout, Forever)):
            return default_ms
        return lifetime_ms(self.timeout)


def check(given: Mapping[str, Any], decorator: str) -> Options:
    """Refuse what `decorator` does not know, with a suggestion, and check what it knows."""
    is_async = decorator == "cache_async"
    own = set(Options.__struct_fields__) - {"celery"}
    known = (own | _CELERY) if is_async else own - set(_OWN_ASYNC)
    for name in given:
        if name in _REFUSED and is_async:
            raise UsageError(f"cache_async({name}=...) is not supported: {_REFUSED[name]}")
        if name not in known:
            import difflib

            close = difflib.get_close_matches(name, known, n=1)
            if name in own | _CELERY and not is_async:
                raise UsageError(
                    f"{decorator}({name}=...) belongs to cache_async; {decorator} computes in this process"
                )
            raise UsageError(
                f"{decorator}() has no option {name!r}"
                + (f"; did you mean {close[0]!r}?" if close else f"; it takes {', '.join(sorted(known))}")
            )
    celery = {name: value for name, value in given.items() if name in _CELERY}
    options = Options(
        **{name: _kept(name, value, decorator) for name, value in given.items() if name in own}, celery=celery
    )
    _check_values(options, decorator)
    return options


def defaults_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults that a cache gives its decorators, checked, and fit to be looked at for each of them."""
    kept = {name: _kept(name, value, "cached") for name, value in given.items()}
    check(kept, "cached")
    return kept


def over_defaults(defaults: Mapping[str, Any], given: Mapping[str, Any], decorator: str) -> dict[str, Any]:
    """Lay a decorator's own options over the cache's; a default `ignore` is for keys that are made of parameters."""
    laid = {**defaults, **given}
    if "ignore" not in given and (laid.get("key_fn") is not None or decorator == "cached_property"):
        laid.pop("ignore", None)
    return laid


def check_per_call(given: Mapping[str, Any], decorator: str) -> Options:
    """Refuse what cannot be said for some calls of a function: the worker goes by what it was decorated with."""
    for name in _FIXED:
        if name in given:
            raise UsageError(f"with_options({name}=...) would change the key; say it where the function is decorated")
    for name in given:
        if decorator == "cache_async" and name in AsyncOptions.__annotations__ and name not in PER_CALL:
            raise UsageError(
                f"with_options({name}=...) does not travel with a call, the worker goes by the decorator: say it there, "
                f"or decorate a second function; with_options takes {', '.join(sorted(PER_CALL))}"
            )
    return check(given, decorator)


def _kept(name: str, value: Any, decorator: str) -> Any:
    """A generator is empty after the first look at it, and these are looked at for each call."""
    if name not in ("ignore", "tags") or isinstance(value, str) or (name == "tags" and callable(value)):
        return value
    try:
        return tuple(value)
    except TypeError:
        raise UsageError(f"{decorator}({name}={value!r}): pass several texts in a tuple") from None


def _check_values(options: Options, decorator: str) -> None:
    if options.timeout is not None and not callable(options.timeout):
        lifetime_ms(options.timeout)
    if options.key_fn is not None and not callable(options.key_fn):
        raise UsageError(f"{decorator}(key_fn={options.key_fn!r}): pass a function of (args, kwargs) that gives a str")
    ignore: Any = options.ignore  # what the annotation says is not what everybody passes
    if isinstance(ignore, str) or not all(isinstance(name, str) for name in ignore):
        raise UsageError(f'{decorator}(ignore={options.ignore!r}): pass parameter names, such as ignore=("self",)')
    if options.ignore and (options.key_fn is not None or decorator == "cached_property"):
        instead = "key_fn makes the whole key" if options.key_fn is not None else "it is kept for each object"
        raise UsageError(f"{decorator}(ignore={options.ignore!r}) would change nothing: {instead}; leave it out")
    if isinstance(options.tags, str):
        raise UsageError(f"{decorator}(tags={options.tags!r}): pass several, such as tags=({options.tags!r},)")
    if options.store_if is not None and not callable(options.store_if):
        raise UsageError(f"{decorator}(store_if={options.store_if!r}): pass a function of the result")
    for name, allowed in (("on_cache_error", ("inline", "raise")), ("on_broker_error", ("raise", "inline"))):
        if getattr(options, name) not in allowed:
            raise UsageError(f"{decorator}({name}={getattr(options, name)!r}): choose one of {', '.join(allowed)}")
    if not isinstance(options.batch, bool):
        raise UsageError(
            f"{decorator}(batch={options.batch!r}): pass True or False; how many calls is `chunk=` of `map`"
        )
    if options.inline_after is not None:
        to_ms(options.inline_after, "inline_after")
    if not isinstance(options.near, bool):
        to_ms(options.near, "near")
