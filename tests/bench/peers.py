"""
This is where the peers are set up, each as its own documentation sets it up best for a function with arguments.

All of them speak to the same server through redis-py with hiredis on TCP loopback, store with a lifetime of an hour, are
called with positional arguments, and keep their default serializer (pickle, but where noted). A peer that is not installed
is left out: `pip install 'taskcache[bench]'`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from tests.bench.ground import HOUR_S, PEERS_DB, Ground

Function = Callable[[int, str], Any]
AsyncFunction = Callable[[int, str], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Peer:
    """Another cache: how a function is decorated with it, and how it is called in the table."""

    key: str
    text: str
    decorate: Callable[[Ground, ExitStack, Function], Function]


def _walrus(ground: Ground, stack: ExitStack, fn: Function) -> Function:
    from walrus import Database

    database = Database(host="127.0.0.1", port=ground.server.port, db=PEERS_DB)
    stack.callback(database.close)
    decorated: Function = database.cache(name="walrus").cached(timeout=HOUR_S)(fn)
    return decorated


def _dogpile(ground: Ground, stack: ExitStack, fn: Function) -> Function:
    # The configuration of its Redis backend's documentation, which wants distributed_lock for several processes and
    # Redis's own expiration longer than dogpile's; neither costs a hit anything.
    from dogpile.cache import make_region

    region = make_region().configure(
        "dogpile.cache.redis",
        expiration_time=HOUR_S,
        arguments={
            "host": "127.0.0.1",
            "port": ground.server.port,
            "db": PEERS_DB,
            "redis_expiration_time": 2 * HOUR_S,
            "distributed_lock": True,
            "thread_local_lock": False,
        },
    )
    decorated: Function = region.cache_on_arguments(namespace="dogpile")(fn)
    return decorated


def _flask_caching(ground: Ground, stack: ExitStack, fn: Function) -> Function:
    # `memoize` is its decorator for functions with arguments. It wants an application context, which a request has:
    # the context is entered once, outside of what is timed.
    from flask import Flask
    from flask_caching import Cache

    app = Flask("bench")
    cache = Cache(
        config={
            "CACHE_TYPE": "RedisCache",
            "CACHE_REDIS_HOST": "127.0.0.1",
            "CACHE_REDIS_PORT": ground.server.port,
            "CACHE_REDIS_DB": PEERS_DB,
            "CACHE_DEFAULT_TIMEOUT": HOUR_S,
        }
    )
    cache.init_app(app)
    stack.enter_context(app.app_context())
    decorated: Function = cache.memoize(timeout=HOUR_S)(fn)
    return decorated


def _django_redis(ground: Ground, stack: ExitStack, fn: Function) -> Function:
    # Django has no decorator for functions: this is `cache.get` with the shortest key a user could write by hand, which
    # flatters it. django-redis is the peer with Django's API that uses redis-py's own pool and hiredis.
    from django.conf import settings

    if not settings.configured:
        settings.configure()
    from django_redis.cache import RedisCache

    cache = RedisCache(f"redis://127.0.0.1:{ground.server.port}/{PEERS_DB}", {"TIMEOUT": HOUR_S})
    stack.callback(cache.close)
    prefix = fn.__name__

    def decorated(number: int, name: str) -> Any:
        value = cache.get(f"{prefix}:{number}:{name}")
        if value is None:
            value = fn(number, name)
            cache.set(f"{prefix}:{number}:{name}", value)
        return value

    return decorated


def _cachier(ground: Ground, stack: ExitStack, fn: Function) -> Function:
    import redis
    from cachier import cachier

    client = redis.Redis(host="127.0.0.1", port=ground.server.port, db=PEERS_DB)
    stack.callback(client.close)
    decorated: Function = cachier(backend="redis", redis_client=client, stale_after=timedelta(hours=1))(fn)
    return decorated


def _diskcache(ground: Ground, stack: ExitStack, fn: Function) -> Function:
    # SQLite in a file of this machine: no server, so nothing is shared between machines. It shows what a local file costs.
    from diskcache import Cache

    cache = stack.enter_context(Cache(stack.enter_context(tempfile.TemporaryDirectory())))
    decorated: Function = cache.memoize(expire=HOUR_S, typed=True)(fn)
    return decorated


PEERS = (
    Peer("walrus", "walrus `cached`", _walrus),
    Peer("dogpile", "dogpile.cache `cache_on_arguments`", _dogpile),
    Peer("flask-caching", "Flask-Caching `memoize`", _flask_caching),
    Peer("django-redis", "django-redis `cache.get`, key by hand", _django_redis),
    Peer("cachier", "cachier", _cachier),
    Peer("diskcache", "diskcache `memoize` (local file)", _diskcache),
)


@dataclass(frozen=True, slots=True)
class AsyncPeer:
    """Another cache for coroutines."""

    key: str
    text: str
    decorate: Callable[[Ground, Callable[[int, str], Awaitable[Any]]], AsyncFunction]
    # What closes its connections, awaited on the loop it was used on.
    close: Callable[[AsyncFunction], Awaitable[object]]


def _aiocache(ground: Ground, fn: AsyncFunction) -> AsyncFunction:
    # Its default serializer keeps nothing but strings; PickleSerializer is what its documentation names for objects.
    from aiocache import RedisCache, cached
    from aiocache.serializers import PickleSerializer

    # A pool that waits: with the default one, a thousand coroutines raise MaxConnectionsError.
    from redis.asyncio import BlockingConnectionPool

    decorated: AsyncFunction = cached(
        ttl=HOUR_S,
        cache=RedisCache,
        endpoint="127.0.0.1",
        port=ground.server.port,
        db=PEERS_DB,
        namespace="aiocache",
        serializer=PickleSerializer(),
        pool_max_size=50,
        connection_pool_class=BlockingConnectionPool,
    )(fn)
    return decorated


def _close_aiocache(decorated: Any) -> Awaitable[object]:
    closing: Awaitable[object] = decorated.cache.close()
    return closing


def _cashews(ground: Ground, fn: AsyncFunction) -> AsyncFunction:
    # A key template, as all its examples have. Its client-side cache is a near cache and compared with ours.
    from cashews import Cache

    cache = Cache()
    cache.setup(
        f"redis://127.0.0.1:{ground.server.port}/{PEERS_DB}", max_connections=50, wait_for_connection_timeout=30
    )
    decorated: Any = cache(ttl="1h", key="cashews:{number}:{name}")(fn)
    decorated.bench_cache = cache
    return decorated  # type: ignore[no-any-return]  # the peer has no types here


def _close_cashews(decorated: Any) -> Awaitable[object]:
    closing: Awaitable[object] = decorated.bench_cache.close()
    return closing


ASYNC_PEERS = (
    AsyncPeer("aiocache", "aiocache `cached`", _aiocache, _close_aiocache),
    AsyncPeer("cashews", "cashews `cache`", _cashews, _close_cashews),
)

# Shown with the versions of the run.
PACKAGES = (
    *("taskcache", "redis", "hiredis", "celery", "kombu", "msgspec", "zstandard", "gevent"),
    *("walrus", "dogpile.cache", "Flask-Caching", "django-redis", "Django", "cachier", "diskcache"),
    *("aiocache", "cashews"),
)


def installed(ground: Ground, stack: ExitStack, fn: Callable[[str], Function]) -> dict[str, Function]:
    """Decorate a function with each peer that is installed; `fn` makes one by its name, as some keys are made of it."""
    found: dict[str, Function] = {}
    for peer in PEERS:
        with suppress(ImportError):
            found[peer.key] = peer.decorate(ground, stack, fn(peer.key))
    return found
