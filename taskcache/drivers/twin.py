"""This is where a synchronous client gets its asynchronous twin: same address, credentials and TLS."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import redis.asyncio
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.cluster import RedisCluster as SyncRedisCluster

# As many as redis-py's own blocking pool; more coroutines than that queue for a connection instead of failing.
CONNECTIONS = 50


def async_client(client: Any) -> Any:
    """Make a client for one event loop."""
    if isinstance(client, SyncRedisCluster):
        manager: Any = client.nodes_manager
        settings = manager.connection_kwargs
        # Any of them may be away when a loop begins.
        nodes = list(manager.nodes_cache.values()) or list(manager.startup_nodes.values())
        return RedisCluster(
            startup_nodes=[ClusterNode(node.host, node.port) for node in nodes],
            # Of an address it is left in the kind of connection, and of arguments as it was given.
            ssl=bool(settings.get("ssl")) or _is_tls(settings.get("connection_class")),
            address_remap=getattr(manager, "address_remap", None),
            **_shared(settings, RedisCluster),
        )
    pool = client.connection_pool
    is_tls = _is_tls(pool.connection_class)
    settings = _shared(pool.connection_kwargs, redis.asyncio.SSLConnection if is_tls else redis.asyncio.Connection)
    if hasattr(pool, "service_name"):
        manager = redis.asyncio.Sentinel(  # type: ignore[no-untyped-call]  # redis-py
            [
                (node.connection_pool.connection_kwargs["host"], node.connection_pool.connection_kwargs["port"])
                for node in pool.sentinel_manager.sentinels
            ],
            sentinel_kwargs=_shared(pool.sentinel_manager.sentinel_kwargs, redis.asyncio.SSLConnection),
        )
        return manager.master_for(pool.service_name, ssl=is_tls, **settings)
    kind: Any = redis.asyncio.SSLConnection if is_tls else redis.asyncio.Connection
    if "path" in pool.connection_kwargs:
        kind = redis.asyncio.UnixDomainSocketConnection
        settings["path"] = pool.connection_kwargs["path"]
    return redis.asyncio.Redis.from_pool(
        redis.asyncio.BlockingConnectionPool(connection_class=kind, max_connections=CONNECTIONS, **settings)
    )


def connections_of(client: Any) -> int:
    """How many connections the twin of a client may use at once; a Cluster's refuses, and does not queue, who wants more."""
    manager = getattr(client, "nodes_manager", None)
    own = manager.connection_kwargs.get("max_connections") if manager is not None else None
    return min(CONNECTIONS, own or CONNECTIONS)


async def close_client(client: Any) -> None:
    """Close a client that was made here, and those that it asks where its server is."""
    await client.aclose()
    manager = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
    for sentinel in manager.sentinels if manager is not None else ():
        await sentinel.aclose()


def _is_tls(connection_class: Any) -> bool:
    return "SSL" in getattr(connection_class, "__name__", "")


# What a synchronous connection is made with and its asynchronous twin in the same form, where it takes it.
_SHARED = frozenset(
    (
        *("host", "port", "db", "username", "password", "encoding", "protocol", "client_name"),
        *("socket_timeout", "socket_connect_timeout", "socket_keepalive", "socket_keepalive_options"),
        *("ssl_keyfile", "ssl_certfile", "ssl_password", "ssl_cert_reqs", "ssl_ca_certs", "ssl_ca_path", "ssl_ca_data"),
        *("ssl_check_hostname", "ssl_min_version", "ssl_ciphers", "ssl_include_verify_flags"),
        *("ssl_exclude_verify_flags", "credential_provider", "health_check_interval"),
    )
)


def _shared(settings: dict[str, Any], kind: type) -> dict[str, Any]:
    taken = _SHARED & _parameters(kind)
    return {name: value for name, value in settings.items() if name in taken and value is not None}


@functools.cache
def _parameters(kind: type) -> frozenset[str]:
    """The names that a class of redis-py's can be made with, its bases' among them; they differ between versions."""
    made = [vars(base)["__init__"] for base in kind.__mro__ if "__init__" in vars(base) and base is not object]
    return frozenset(name for each in made for name in inspect.signature(each).parameters)
