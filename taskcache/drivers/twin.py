"""This is where a synchronous client gets its asynchronous twin: same address, credentials and TLS."""

from __future__ import annotations

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
            **_shared(settings),
        )
    pool = client.connection_pool
    settings = _shared(pool.connection_kwargs)
    if hasattr(pool, "service_name"):
        manager = redis.asyncio.Sentinel(  # type: ignore[no-untyped-call]  # redis-py
            [
                (node.connection_pool.connection_kwargs["host"], node.connection_pool.connection_kwargs["port"])
                for node in pool.sentinel_manager.sentinels
            ],
            sentinel_kwargs=_shared(pool.sentinel_manager.sentinel_kwargs),
        )
        return manager.master_for(pool.service_name, ssl=_is_tls(pool.connection_class), **settings)
    kind: Any = redis.asyncio.Connection
    if "path" in settings:
        kind = redis.asyncio.UnixDomainSocketConnection
    elif _is_tls(pool.connection_class):
        kind = redis.asyncio.SSLConnection
    return redis.asyncio.Redis.from_pool(
        redis.asyncio.BlockingConnectionPool(connection_class=kind, max_connections=CONNECTIONS, **settings)
    )


async def close_client(client: Any) -> None:
    """Close a client that was made here, and those that it asks where its server is."""
    await client.aclose()
    manager = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
    for sentinel in manager.sentinels if manager is not None else ():
        await sentinel.aclose()


def _is_tls(connection_class: Any) -> bool:
    return "SSL" in getattr(connection_class, "__name__", "")


# What a synchronous connection is made with that its asynchronous twin takes in the same form.
_SHARED = frozenset(
    (
        *("host", "port", "db", "username", "password", "path", "encoding", "protocol", "client_name"),
        *("socket_timeout", "socket_connect_timeout", "socket_keepalive", "health_check_interval"),
        *("ssl_keyfile", "ssl_certfile", "ssl_cert_reqs", "ssl_ca_certs", "ssl_ca_data", "ssl_check_hostname"),
        *("ssl_min_version", "ssl_ciphers", "credential_provider"),
    )
)


def _shared(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name in _SHARED and value is not None}
