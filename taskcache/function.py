"""This is where a decorated function is a thing of its own: a name, a key for each call, and verbs about its entries."""

from __future__ import annotations

import functools
import inspect
import re
import string
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from msgspec import Struct

from taskcache import events
from taskcache.batching import BoundCall, chunk_size
from taskcache.bound import BoundFunction
from taskcache.calls.current import check_tags
from taskcache.calls.invocation import Invocation
from taskcache.calls.origin import Origin, origin_of
from taskcache.calls.primitives import Entry, check_keys, invalidated, looked_up, stored
from taskcache.drivers import blocking
from taskcache.errors import UsageError
from taskcache.keys.binding import Binding, compile_binding, signature_of
from taskcache.mapping import Batch, bound, bust
from taskcache.options import Options
from taskcache.protocol.stamps import bump, function_stamp
from taskcache.stats import stats_of_process

if TYPE_CHECKING:
    from taskcache.cache import Cache

P = ParamSpec("P")
R = TypeVar("R")


class Explanation(Struct, frozen=True):
    """How the key of one call came about. It shows arguments, so it is for eyes and not for logs."""

    function: str
    version: str
    parameters: tuple[tuple[str, str], ...]
    tags: tuple[str, ...]
    key: str
    redis_key: str

    def __str__(self) -> str:
        lines = [f"{self.function} (version {self.version or 'none'})"]
        lines += [f"  {name} = {form}" for name, form in self.parameters]
        if self.tags:
            lines.append(f"  tags: {', '.join(self.tags)}")
        return "\n".join([*lines, f"  key: {self.key}", f"  redis key: {self.redis_key}"])


class Function(Generic[P, R]):
    """What every decorator of taskcache makes of a function; calls are what the decorators add."""

    decorator = "cached"

    def __init__(self, cache: Cache, fn: Callable[..., Any], options: Options) -> None:
        origin = origin_of(fn, options, self.decorator)
        # First, because it lays the function's own attributes in, whatever their names are; but over no verb.
        functools.update_wrapper(self, origin.fn)  # type: ignore[arg-type]  # calls are the subclasses'
        for name in [name for name in vars(self) if not name.startswith("__") and hasattr(type(self), name)]:
            del self.__dict__[name]
        self.cache = cache
        self.options = options
        self.origin: Origin = origin
        self.__wrapped__ = origin.fn
        self.name = self.origin.name
        self.stats_counted = stats_of_process()
        self._binding: Binding | None = None
        if options.key_fn is None:
            self._binding = compile_binding(self.origin.body, ignore=options.ignore, salt=self.origin.salt)
        self._check_tags()
        self.stamp = function_stamp(cache.name, self.name)

    # -- keys -----------------------------------------------------------------------------------------

    @property
    def binding(self) -> Binding | None:
        """How arguments become keys; None with a `key_fn`."""
        return self._binding

    @property
    def digest(self) -> Callable[..., str] | None:
        """What makes 32 hex digits of a call's arguments; None with a `key_fn`."""
        return None if self._binding is None else self._binding.digest

    def key_for(self, /, *args: P.args, **kwargs: P.kwargs) -> str:
        """The key of this call: `cache.get(fn.key_for(x))` is its value, `cache.delete(fn.key_for(x))` busts it."""
        if self._binding is not None:
            return f"{self.name}:{self._binding.digest(*args, **kwargs)}"
        return self.make_key(args, kwargs)

    def make_key(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """`key_for` with the arguments as a tuple and a dict, as walrus has it."""
        if self._binding is not None:
            return f"{self.name}:{self._binding.digest(*args, **kwargs)}"
        assert self.options.key_fn is not None
        made = self.options.key_fn(args, kwargs)
        if not isinstance(made, str):
            raise UsageError(f"key_fn of {self.name} gave {type(made).__name__}; it has to give a str")
        check_keys((made,))
        version = self.origin.version
        return f"{self.name}:{version}:{made}" if version else f"{self.name}:{made}"

    def explain(self, /, *args: P.args, **kwargs: P.kwargs) -> Explanation:
        """Show how the key of this call comes about."""
        key = self.make_key(args, kwargs)
        if self._binding is not None:
            parameters = tuple(self._binding.explain(args, kwargs))
        else:
            parameters = (("key_fn", key[len(self.name) + 1 :]),)
        tags = self._tags(args, kwargs)
        return Explanation(self.name, self.origin.version, parameters, tags, key, self.cache.make_key(key))

    def invocation(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Invocation:
        """Describe one call; raises UncacheableArgument, and TypeError for arguments that do not fit."""
        key = self.make_key(args, kwargs)
        return self.described(key, self._tags(args, kwargs) if self.options.tags != () else ())

    def described(self, key: str, tags: tuple[str, ...] = ()) -> Invocation:
        """Describe the call that has this key."""
        cache, options = self.cache, self.options
        lifetime_ms = options.lifetime_ms(self._default_lifetime_ms)
        return Invocation.of(cache.settings, cache.codec, key, self.name, tags, lifetime_ms, options.near_ms)

    @property
    def _default_lifetime_ms(self) -> int:
        return self.cache.settings.default_timeout_ms

    def _check_tags(self) -> None:
        """Refuse a tag that is filled from what is no parameter: each call would fail with it."""
        if callable(self.options.tags):
            return
        for tag in self.options.tags:
            if "{" not in tag:
                continue
            known = signature_of(self.origin.body).parameters
            try:
                named = [name for _, name, _, _ in string.Formatter().parse(tag) if name is not None]
            except ValueError as error:
                raise UsageError(f"{self.name}: the tag {tag!r} is not a format of parameters: {error}") from error
            for name in named:
                if re.split(r"[.\[]", name, maxsplit=1)[0] not in known:
                    raise UsageError(
                        f"{self.name}: the tag {tag!r} names {name!r}; its parameters are {', '.join(known)}"
                    )

    def _tags(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str, ...]:
        tags = self.options.tags
        if callable(tags):
            # As they are: what a function made of arguments may hold braces of a user's.
            return check_tags(tags(*args, **kwargs))
        if any("{" in tag for tag in tags):
            bound = signature_of(self.origin.body).bind(*args, **kwargs)
            bound.apply_defaults()
            tags = [tag.format(**bound.arguments) for tag in tags]
        return check_tags(tags)

    # -- verbs about entries --------------------------------------------------------------------------

    def peek(self, /, *args: P.args, **kwargs: P.kwargs) -> Entry[R] | None:
        """The stored entry of this call, or None; computes and starts nothing."""
        cache = self.cache
        if cache.debug:
            return None
        steps = looked_up(self.invocation(args, kwargs))
        entry: Entry[R] | None = blocking.run(steps, cache.station.server)
        return entry

    def put(self, value: R, /, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Store `value` as the result of this call; a computation of it that is under way is not stored any more."""
        cache = self.cache
        if not cache.debug:
            invocation = self.invocation(args, kwargs)
            blocking.run(stored(invocation, value, self.lifetime_of(value)), cache.station.server)
        return True

    def lifetime_of(self, value: Any) -> int:
        from taskcache.settings import lifetime_ms

        timeout = self.options.timeout
        if callable(timeout):
            return lifetime_ms(timeout(value), "timeout(result)")
        return self.options.lifetime_ms(self._default_lifetime_ms)

    def bust(self, /, *args: P.args, **kwargs: P.kwargs) -> int:
        """
        Invalidate this call: a call that begins after this returned never gets a value computed before it.

        Returns 1 when an entry was there. Raises NoServer when it is not known to be done.
        """
        cache = self.cache
        if cache.debug:
            return 0
        key = self.make_key(args, kwargs)
        events.emit(events.Event("busted", self.name, key))
        gone: int = blocking.run(invalidated(cache.settings.name, key), cache.station.server)
        return gone

    def bust_all(self) -> None:
        """Invalidate every call of this function, whatever its arguments; one key is deleted, however many entries."""
        if not self.cache.debug:
            events.emit(events.Event("busted", self.name))
            blocking.run(bump((self.stamp,)), self.cache.station.server)

    def uncached(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function itself."""
        value: R = self.origin.body(*args, **kwargs)
        return value

    # -- many calls at once ---------------------------------------------------------------------------

    def call(self, /, *args: P.args, **kwargs: P.kwargs) -> BoundCall:
        """The arguments of one call, for `starmap` and `warm`; calls nothing."""
        return BoundCall(args, kwargs)

    def map(self, values: Iterable[Any], *, chunk: int | None = None) -> Batch[R]:
        """
        Call the function with each value; hits come in one round trip, the input is read as it is needed.

        What has to be computed is sent with `chunk` calls in a message, one by default, and 100 of a batch function.
        """
        return Batch(self, (BoundCall((value,), {}) for value in values), self._chunk(chunk))

    def starmap(self, calls: Iterable[tuple[Any, ...] | BoundCall], *, chunk: int | None = None) -> Batch[R]:
        """Call the function with each tuple of arguments, or with what `fn.call(...)` gave; `chunk` as for `map`."""
        return Batch(self, bound(calls), self._chunk(chunk))

    def warm(
        self, calls: Iterable[tuple[Any, ...] | BoundCall], force: bool = False, *, chunk: int | None = None
    ) -> Batch[R]:
        """Have these calls computed if they are not stored, or in any case with `force`; waits for none of them."""
        size = self._chunk(chunk)
        wanted = list(bound(calls))
        if force:
            bust(self, wanted)
        batch: Batch[R] = Batch(self, iter(wanted), size)
        batch.begin()
        return batch

    def _chunk(self, chunk: int | None) -> int:
        if chunk is not None and self.decorator == "cached":
            raise UsageError(f"chunk={chunk!r}: {self.name} is computed here and sends no messages; see cache_async")
        return chunk_size(chunk, is_batch=self.options.batch)

    def stats(self) -> dict[str, float]:
        """
        What this process counted for this function since it started.

        The averages are those of `timed_hits` and `timed_misses`, and 0.0 where there are none. Most hits of `cached` take a
        way too short for a clock, unless `metrics=True`; hits of `map`, and calls of `cache_async`, are not timed.
        """
        return self.stats_counted.as_dict()

    @property
    def metrics(self) -> dict[str, float]:
        """walrus's four counters; times in seconds, real averages. Only with `metrics=True`, as in walrus."""
        if not self.options.metrics:
            raise AttributeError(f"{self.name} keeps no metrics; decorate it with metrics=True, or use stats()")
        return self.stats_counted.as_walrus()

    # -- being a function -------------------------------------------------------------------------------

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if self.origin.kind == "static":
            return self
        if self.origin.kind == "class":
            return BoundFunction(self, owner if owner is not None else type(instance))
        return self if instance is None else BoundFunction(self, instance)

    @property
    def __signature__(self) -> inspect.Signature:
        return signature_of(self.origin.body)

    def __reduce__(self) -> Any:
        return self.origin.reduce(self)

    def __repr__(self) -> str:
        return f"<{self.decorator} {self.name}>"


__all__ = ["Explanation", "Function"]
