"""This is where users begin: a Cache, its plain keys, and the decorators it gives."""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, overload

from msgspec.structs import replace

from taskcache import opening
from taskcache.aio import AsyncCache
from taskcache.calls import calling, following
from taskcache.calls.alone import Alone
from taskcache.calls.current import check_tags
from taskcache.calls.invocation import Invocation
from taskcache.calls.primitives import (
    Plain,
    added,
    check_keys,
    entry_pattern,
    invalidated,
    is_entry,
    removals,
    replacements,
    text_of,
)
from taskcache.codec.sealing import Codec
from taskcache.decorating import AsyncDecorator, BatchDecorator, CachedDecorator, PropertyDecorator
from taskcache.decorators import AsyncFunction, CachedFunction, cached_function
from taskcache.drivers import blocking
from taskcache.errors import UsageError
from taskcache.options import AsyncOptions, CachedOptions, check, defaults_of, over_defaults
from taskcache.properties import CachedProperty
from taskcache.protocol.stamps import bump, stamp_pattern, tag_stamp
from taskcache.result import Result
from taskcache.settings import (
    PERSIST,
    Duration,
    Lifetime,
    Settings,
    check_app,
    lifetime_ms,
    parse_secrets,
    read_environment,
    to_ms,
)

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from taskcache.drivers.station import Station

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Cache:
    """
    A cache in Redis or Valkey whose slow calls are computed once, by workers or here, and shared by every process.

    `database` is a URL or a client; without one TASKCACHE_URL or REDIS_URL counts, and without those a private server
    is started (extra `embedded`). Nothing is connected, started or imported before the first command.
    """

    def __init__(
        self,
        database: Any = None,
        name: str | None = None,
        default_timeout: Lifetime | None = None,
        debug: bool | None = None,
        *,
        app: Any = None,
        secret: str | bytes | None = None,
        defaults: CachedOptions | None = None,
        codec: Literal["auto", "safe", "pickle"] = "auto",
        compress_above: int | None = 4096,
        lease: Duration = 5,
        transport: Literal["auto", "redis-py"] = "auto",
    ) -> None:
        environment = read_environment()
        self.database = database if database is not None else environment.url
        self._defaults = defaults_of(defaults or {})
        # What a view of `with_options` stands on.
        self._root: Cache = self
        self._app = check_app(app)
        self.settings = Settings(
            name=name or environment.name or "cache",
            default_timeout_ms=PERSIST if default_timeout is None else lifetime_ms(default_timeout, "default_timeout"),
            debug=environment.debug if debug is None else debug,
            secrets=parse_secrets(secret if secret is not None else environment.secret),
            codec=codec,
            compress_above_bytes=2**62 if compress_above is None else compress_above,
            lease_ms=to_ms(lease, "lease"),
            transport=transport,
        )
        self._counts: dict[str, int] = {}
        self.renew()
        self._opened: opening.Opened | None = None
        opening.remember(self)

    def renew(self) -> None:
        """Make locks, permits and counts anew in a forked child, too: they are those of the parent's threads."""
        self._counts.update(hits=0, misses=0, writes=0)
        self._alone = Alone()
        self._lock = threading.Lock()

    @classmethod
    def from_settings(cls, database: Any, settings: Settings) -> Cache:
        """A cache with the settings of another process; secrets, and an address if need be, from the environment."""
        cache = cls(database, settings.name)
        cache.settings = replace(settings, secrets=cache.settings.secrets)
        return cache

    # -- what it stands on ---------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """What the keys of this cache begin with."""
        return self.settings.name

    @property
    def default_timeout(self) -> float | None:
        """How long `set` stores when nothing is said, in seconds; None: for ever."""
        milliseconds = self.settings.default_timeout_ms
        return None if milliseconds < 0 else milliseconds / 1000

    @property
    def debug(self) -> bool:
        """True: nothing is read or stored, and every call is computed where it is made."""
        return self.settings.debug

    @property
    def station(self) -> Station:
        """This process's side of the server; made by the first command."""
        return self._open().station

    @property
    def app(self) -> Any:
        """The Celery app that calls are sent with, or its name; None: the current one. May be set later."""
        return self._root._app

    @app.setter
    def app(self, app: Any) -> None:
        self._root._app = check_app(app)

    @property
    def is_open(self) -> bool:
        """True once a command has been run."""
        return self._root._opened is not None

    @property
    def alone(self) -> Alone:
        """How calls share computations while the server is away."""
        return self._root._alone

    @property
    def codec(self) -> Codec:
        """What seals and opens values; with `debug` it needs no server."""
        return Codec(self.settings) if self.debug else self._open().codec

    @property
    def embedded(self) -> Any:
        """The private server, when that is what this cache stands on; else None."""
        return self._open().embedded

    def _open(self) -> opening.Opened:
        root = self._root
        if root._opened is None:
            with root._lock:
                if root._opened is None:
                    root._opened = opening.open_server(self.database, self.settings)
        return root._opened

    @property
    def plain(self) -> Plain:
        """The commands on plain keys, as steps."""
        return Plain(self.name, self.codec, bool(self._open().settings.secrets))

    @property
    def aio(self) -> AsyncCache:
        """The same commands, awaitable."""
        return AsyncCache(self)

    # -- plain keys ------------------------------------------------------------------------------------

    def make_key(self, key: str) -> str:
        """The Redis key of what `get(key)` reads."""
        return f"{self.name}:" + key

    def unmake_key(self, redis_key: str) -> str:
        """The key that `get` takes, from a Redis key."""
        return redis_key[len(self.name) + 1 :]

    def get(self, key: str, default: Any = None) -> Any:
        """The value of `key`, or `default`."""
        return self.get_many((key,)).get(key, default)

    def get_many(self, keys: Sequence[str]) -> dict[str, Any]:
        """The values that are there, by key; one round trip for each 4,000 keys, and one more for stamps of functions."""
        wanted = check_keys(keys)
        if self.debug or not wanted:
            return {}
        plain, station = self.plain, self.station
        found = plain.from_pages(wanted, station.read_many, lambda steps: blocking.run(steps, station.server))
        self.count(hits=len(found), misses=len({*wanted}) - len(found))
        return found

    def set(self, key: str, value: Any, timeout: Lifetime | None = None) -> bool:
        """
        Store `value` for `timeout` seconds; None: the default of this cache; 0: store nothing and remove what is there.

        A computation of this key that is under way is not stored any more. Raises UnstorableValue.
        """
        return self.set_many({key: value}, timeout)

    def set_many(self, data: Mapping[str, Any] | None = None, /, timeout: Lifetime | None = None, **more: Any) -> bool:
        """Store several values, each with its lifetime in the same command as its value."""
        values = {**(data or {}), **more}
        check_keys(list(values))
        ttl_ms = self.ttl_ms(timeout)
        if not self.debug and values:
            entries, station = self.plain.seal(values, ttl_ms), self.station
            if not (ttl_ms and station.store_many(entries, ttl_ms)):
                station.server.calls(replacements(entries, ttl_ms))
            self.count(writes=len(values))
        return True

    @overload
    def get_or_set(self, key: str, value: Callable[[], T], timeout: Lifetime | None = None) -> T: ...
    @overload
    def get_or_set(self, key: str, value: T, timeout: Lifetime | None = None) -> T: ...
    def get_or_set(self, key: str, value: Any, timeout: Lifetime | None = None) -> Any:
        """The value of `key`; when there is none, `value`, or what it returns, computed once for all who ask."""
        check_keys((key,))
        compute: Callable[[], Any] = value if callable(value) else lambda: value
        if self.debug:
            return compute()
        invocation = Invocation.of(self.settings, self.codec, key, "", (), self.ttl_ms(timeout))
        return calling.answer(calling.PlainCallee(self, compute), invocation, (), {})

    def delete(self, key: str) -> int:
        """Remove `key`; 1 when it was there. Raises NoServer when it is not known to be done."""
        check_keys((key,))
        if self.debug:
            return 0
        return int(blocking.run(invalidated(self.name, key), self.station.server))

    def delete_many(self, keys: Sequence[str]) -> int:
        """Remove several keys; how many were there."""
        wanted = check_keys(keys)
        if self.debug or not wanted:
            return 0
        return sum(self.station.server.calls(removals(self.name, wanted)))

    def incr(self, key: str, delta: int = 1) -> int:
        """Add to a counter, which begins at 0; `get` gives its value."""
        addition = added(self.name, key, delta)
        if self.debug:
            return delta
        return int(self.station.server.call(addition))

    def keys(self, strip_prefix: bool = False) -> Iterator[str]:
        """The keys of all entries; as Redis has them, or with `strip_prefix` as `get` takes them. Never blocks others."""
        if self.debug:
            return
        seen: set[bytes] = set()
        for page in self.station.server.scan(entry_pattern(self.name)):
            for redis_key in page:
                if is_entry(redis_key) and redis_key not in seen:
                    seen.add(redis_key)
                    text = text_of(redis_key)
                    yield self.unmake_key(text) if strip_prefix else text

    def flush(self) -> int:
        """Invalidate everything in this cache, computations under way too, and remove it; how many entries there were."""
        if self.debug:
            return 0
        server, gone = self.station.server, 0
        # First the stamps: from here on no old value is valid, however long removing the bytes takes.
        for page in server.scan(stamp_pattern(self.name)):
            server.unlink(page)
        for page in server.scan(entry_pattern(self.name)):
            gone += server.unlink([key for key in page if is_entry(key)])
        return gone

    def invalidate(self, *tags: str) -> None:
        """Invalidate everything that carries one of these tags, however much; one key is deleted for each tag."""
        if (named := check_tags(tags)) and not self.debug:
            blocking.run(bump([tag_stamp(self.name, tag) for tag in named]), self.station.server)

    def ttl_ms(self, timeout: Lifetime | None) -> int:
        """A lifetime in milliseconds; None is this cache's default."""
        return self.settings.default_timeout_ms if timeout is None else lifetime_ms(timeout)

    def count(self, hits: int = 0, misses: int = 0, writes: int = 0) -> None:
        """Add to `metrics`."""
        self._counts["hits"] += hits
        self._counts["misses"] += misses
        self._counts["writes"] += writes

    @property
    def metrics(self) -> dict[str, int]:
        """walrus's counters of the plain commands of this process."""
        return self._counts

    def stats(self) -> dict[str, int]:
        """What this process counted, and how many flights it waits for now."""
        waits = self.station.waiting() if self.is_open else 0
        return {**self._counts, "waits": waits}

    # -- decorators ------------------------------------------------------------------------------------

    @overload
    def cached(self, fn: Callable[P, R], /) -> CachedFunction[P, R]: ...
    @overload
    def cached(self, /, **options: Unpack[CachedOptions]) -> CachedDecorator: ...
    def cached(self, fn: Any = None, /, **options: Any) -> Any:
        """Compute calls where they are made, once for all who ask meanwhile, and share the value."""
        return self._decorate(cached_function, "cached", fn, options)

    @overload
    def cached_property(self, fn: Callable[[Any], R], /) -> CachedProperty[R]: ...
    @overload
    def cached_property(self, /, **options: Unpack[CachedOptions]) -> PropertyDecorator: ...
    def cached_property(self, fn: Any = None, /, **options: Any) -> Any:
        """A property computed once for each object; `del obj.name` busts it."""
        return self._decorate(CachedProperty, "cached_property", fn, options)

    @overload
    def cache_async(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncFunction[P, R]: ...
    @overload
    def cache_async(self, fn: Callable[P, R], /) -> AsyncFunction[P, R]: ...
    @overload
    def cache_async(self, /, *, batch: Literal[False] = ..., **options: Unpack[AsyncOptions]) -> AsyncDecorator: ...
    @overload
    def cache_async(self, /, *, batch: Literal[True], **options: Unpack[AsyncOptions]) -> BatchDecorator: ...
    def cache_async(self, fn: Any = None, /, **options: Any) -> Any:
        """
        Have calls computed by a Celery worker; a call gives a `Result` at once. Replaces `@app.task`.

        With `batch=True` the body gets a list of calls (`BoundCall`) and returns a list of their values.
        """
        return self._decorate(AsyncFunction, "cache_async", fn, options)

    def _decorate(self, kind: Any, decorator: str, fn: Any, given: dict[str, Any]) -> Any:
        options = check(over_defaults(self._defaults, given, decorator), decorator)
        if fn is None:
            return lambda decorated: kind(self, decorated, options)
        return kind(self, fn, options)

    def with_options(self, **defaults: Any) -> Cache:
        """A view of this cache whose decorators have other defaults: a profile."""
        view = object.__new__(Cache)
        view.__dict__.update(self.__dict__)
        view._defaults = {**self._defaults, **defaults_of(defaults)}
        return view

    def result(self, result_id: str) -> Result[Any]:
        """The result that another process knows by this id; starts nothing."""
        key, label, tags, token = following.read_id(result_id)
        if self.debug:
            raise UsageError("with debug=True nothing is stored, so there are no results to find")
        invocation = Invocation.of(self.settings, self.codec, key, label, tags, 0)
        return Result(None, invocation, following.found(self.station, invocation, token), cache=self)

    # -- being an object -------------------------------------------------------------------------------

    def close(self) -> None:
        """Close this process's connections."""
        if self._root._opened is not None:
            self._root._opened.station.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aio.close()

    def __reduce__(self) -> Any:
        address = opening.address_of(self.database)
        return _reference, (address, opening.has_password(self.database), self.settings.without_secrets())

    def __repr__(self) -> str:
        where = opening.describe(self._root._opened, self.database)
        app = f" app={self.app if isinstance(self.app, str) else self.app.main!r}" if self.app is not None else ""
        return f"<Cache {self.name!r} {where}{app}>"


def _reference(address: str | None, is_guarded: bool, settings: Settings) -> Cache:
    """The cache that was pickled: this process's own with that name, else a new one from address and environment."""
    known = opening.known(address, settings)
    return known if known is not None else Cache.from_settings(opening.arrived(address, is_guarded), settings)
