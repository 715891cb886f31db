"""This is where a client of redis-py is made from an address, or taken as the user has made it."""

from __future__ import annotations

import re
from contextlib import suppress
from inspect import signature
from typing import Any, Final

import redis
from redis.backoff import ExponentialBackoff
from redis.cluster import RedisCluster
from redis.connection import BlockingConnectionPool, ConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from taskcache.errors import UsageError

# Long enough for a slow network, short enough that a caller is told before its user gives up.
CONNECT_TIMEOUT_S: Final = 3.0
REPLY_TIMEOUT_S: Final = 5.0
# More threads than that queue for a connection. redis-py's own default refuses the 101st caller of a herd.
CONNECTIONS: Final = 64
# With notifications of maintenance, its default, redis-py does not look whether a connection has an answer to somebody
# else's question before it lends it.
_UNNOTIFIED: dict[str, Any] = {}
with suppress(ImportError):
    from redis.maint_notifications import MaintNotificationsConfig

    _UNNOTIFIED["maint_notifications_config"] = MaintNotificationsConfig(enabled=False)


def client_of(database: Any) -> Any:
    """Make a client whose replies are bytes; one that the user passes is never changed."""
    if isinstance(database, str):
        return _from_url(database)
    if isinstance(database, RedisCluster):
        if _encoder(database).decode_responses:
            raise UsageError("this RedisCluster decodes its replies; make it without decode_responses=True")
        return database
    pool = _pool_of(database)
    if not pool.connection_kwargs.get("decode_responses"):
        return database
    if type(pool) not in (ConnectionPool, BlockingConnectionPool):
        raise UsageError(
            f"this client decodes its replies and its {type(pool).__name__} cannot be copied; "
            "make it without decode_responses=True"
        )
    settings = {**pool.connection_kwargs, "decode_responses": False}
    return redis.Redis(
        connection_pool=ConnectionPool(
            connection_class=pool.connection_class, max_connections=pool.max_connections, **settings
        )
    )


def hang_up_idle(client: Any) -> None:
    """
    Close the connections that nobody uses, after an interruption by a signal's handler.

    redis-py gives a connection back whose answer was not read, and with its default settings the next one who borrows it
    reads that answer as its own.
    """
    own: Any = getattr(client, "connection_pool", None)
    clients = [client] if own is not None else [node.redis_connection for node in client.get_nodes()]
    for each in clients:
        if each is not None:  # a node that nobody has asked yet
            close_idle(each.connection_pool)


def close_idle(pool: Any) -> None:
    """Close what nobody has borrowed of a pool; whatever goes wrong with that must not hide why it is done."""
    with suppress(Exception):
        if (
            isinstance(pool, BlockingConnectionPool)
            and "inuse_connections" not in signature(pool.disconnect).parameters
        ):
            # redis-py before 7.
            for connection in list(pool.pool.queue):
                if connection is not None:
                    connection.disconnect()
        else:
            pool.disconnect(inuse_connections=False)


def _encoder(cluster: Any) -> Any:
    return cluster.get_encoder()


def _pool_of(client: Any) -> Any:
    pool = getattr(client, "connection_pool", None)
    if pool is None:
        raise UsageError(
            f"{type(client).__name__} is not a Redis client; pass a URL, redis.Redis, redis.RedisCluster or a client "
            "that redis.Sentinel made"
        )
    return pool


def _from_url(url: str) -> Any:
    if not re.match(r"(rediss?|unix|valkeys?)://", url):
        raise UsageError(
            f"{without_password(url)!r} is not a Redis URL; write redis://host:6379/0, rediss:// or unix://"
        )
    address = re.sub(r"^valkey(s?)://", r"redis\1://", url)
    try:
        pool = BlockingConnectionPool.from_url(
            address,
            max_connections=CONNECTIONS,
            timeout=REPLY_TIMEOUT_S,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            socket_timeout=REPLY_TIMEOUT_S,
            # One quick second try: a connection that died while idle is no reason to compute without the cache. Who did
            # not answer in time has had it.
            retry=Retry(ExponentialBackoff(cap=0.2, base=0.05), 1, supported_errors=(RedisConnectionError,)),
            **_UNNOTIFIED,
        )
        # An address may ask for texts, but keys and envelopes are bytes.
        pool.connection_kwargs["decode_responses"] = False
        pool.connection_class(**pool.connection_kwargs)  # nothing is connected yet: it looks at what it was given
        return redis.Redis.from_pool(pool)
    except TypeError as error:
        raise UsageError(
            f"{without_password(url)!r} has an option that redis-py does not know ({error}); take it off, or correct its name"
        ) from None
    except ValueError:
        # Without redis-py's own words, which may quote a part of a password that is not percent-encoded.
        raise UsageError(
            f"{without_password(url)!r} is not a Redis URL; signs such as / # ? @ in a password are written %2F %23 %3F %40"
        ) from None


def describe(client: Any) -> str:
    """Name a server in errors and reprs, without its password."""
    if isinstance(client, RedisCluster):
        node: Any = client.get_default_node()  # type: ignore[no-untyped-call]  # redis-py
        return f"redis-cluster://{node.host}:{node.port}" if node else "redis-cluster://"
    pool = _pool_of(client)
    settings = pool.connection_kwargs
    if hasattr(pool, "service_name"):
        return f"sentinel://{pool.service_name}/{settings.get('db', 0)}"
    if "path" in settings:
        return f"unix://{settings['path']}?db={settings.get('db', 0)}"
    scheme = "rediss" if "SSL" in pool.connection_class.__name__ else "redis"
    return f"{scheme}://{settings.get('host', 'localhost')}:{settings.get('port', 6379)}/{settings.get('db', 0)}"


def without_password(url: str) -> str:
    """An address that may be shown; of a wrong one rather too little than a part of a password."""
    return re.sub(r"(password=)[^&]*", r"\1***", re.sub(r"^(\w*://)?.*@", r"\1", url, flags=re.DOTALL))
