"""This is where plain reads meet a server that does not answer: they end in the client's own time, whoever keeps it."""

from __future__ import annotations

import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from taskcache import Cache
from taskcache.drivers.wire import SILENT, Borrowed, Wire, pack, wire_to
from tests.nodes.proxy import FaultProxy
from tests.nodes.server import RedisNode

KEY = b"key"


def wire_of(url: str, seconds: float | None) -> Wire:
    """A wire to a server, with the client's timeout."""
    wire = wire_to(redis.Redis.from_url(url, socket_timeout=seconds))
    assert wire is not None
    return wire


def kernels_time(connected: socket.socket) -> bytes:
    """How long the kernel lets a receive of this socket wait; zeros are for ever."""
    return connected.getsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, 16)


def test_a_silent_server_ends_a_read(proxy: FaultProxy, redis_url: str) -> None:
    """It is told from a broken one, and the connection with the late answer is not used again."""
    wire = wire_of(proxy.url(redis_url), 1.0)
    read = pack(b"MGET", KEY)
    try:
        assert [None] == wire.mget(read, 1)
        proxy.blackhole = True
        with pytest.raises(SILENT):
            wire.mget(read, 1)
        proxy.blackhole = False

        assert [None] == wire.mget(read, 1)
        assert 2 == proxy.connections_seen
    finally:
        wire.close()


def test_the_kernel_keeps_the_time_of_a_plain_socket(redis_url: str) -> None:
    """Python would ask poll before each send and each receive."""
    pool = redis.Redis.from_url(redis_url, socket_timeout=1.5).connection_pool
    borrowed = Borrowed(pool)
    connected: Any = borrowed.connection._sock
    try:
        assert connected.gettimeout() is None
        assert 1 == int.from_bytes(kernels_time(connected)[:8], "little")
        assert 500_000 == int.from_bytes(kernels_time(connected)[8:], "little")
    finally:
        pool.release(borrowed.connection)
        pool.disconnect()


def test_a_client_that_waits_for_ever_does(redis_url: str) -> None:
    """Without a timeout there is none to give to the kernel."""
    pool = redis.Redis.from_url(redis_url, socket_timeout=None).connection_pool
    borrowed = Borrowed(pool)
    try:
        assert bytes(16) == kernels_time(borrowed.connection._sock)
    finally:
        pool.release(borrowed.connection)
        pool.disconnect()


def test_a_connection_given_back_serves_redis_py(redis_url: str) -> None:
    """What the wire has borrowed and returned is a connection like any other."""
    client = redis.Redis.from_url(redis_url, socket_timeout=1.0)
    pool = client.connection_pool
    try:
        for _ in range(2):
            borrowed = Borrowed(pool)
            pool.release(borrowed.connection)
            assert client.ping()

            assert 1 == len(pool._available_connections)
    finally:
        client.close()
        pool.disconnect()


@pytest.mark.parametrize("kind", [redis.ConnectionPool, redis.BlockingConnectionPool])
def test_threads_queue_for_as_many_connections_as_the_client_may_have(
    redis_url: str, cache_name: str, kind: type[redis.ConnectionPool]
) -> None:
    """Sixty threads and four connections: nobody is refused, as the client's own pool would do it, and no more are made."""
    name = f"of-{cache_name}"
    pool = kind.from_url(redis_url, max_connections=4, client_name=name)
    with redis.Redis(connection_pool=pool) as client, Cache(client, cache_name, 60) as cache:
        f = cache.cached(name="f")(lambda number: number)
        with ThreadPoolExecutor(60) as threads:
            found = list(threads.map(f, [number % 50 for number in range(3_000)]))
        mine = [each for each in client.client_list() if each["name"] == name]

        assert [number % 50 for number in range(3_000)] == found
        assert 0 == f.stats_counted.degraded
    # And one that hears of ended flights, and the client's own, which has asked for the list.
    assert len(mine) <= 4 + 1 + 1


def test_who_queues_in_vain_is_told(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """When all connections stay with others for too long, redis-py is asked for one."""
    monkeypatch.setattr("taskcache.drivers.wire.QUEUE_S", 0.2)
    wire = wire_to(redis.Redis.from_url(redis_url, max_connections=1))
    assert wire is not None
    pages = wire.pages([KEY])
    assert [None] == next(pages)
    with pytest.raises(redis.exceptions.MaxConnectionsError):
        wire.mget(pack(b"MGET", KEY), 1)
    pages.close()  # not read to its end, it loses its connection, and the next may make one

    assert [None] == wire.mget(pack(b"MGET", KEY), 1)
    wire.close()


def test_tls_keeps_its_time_itself(start_redis: Callable[..., RedisNode]) -> None:
    """A TLS read may need several of the socket's: only Python can time it."""
    node = start_redis(tls=True)
    pool = redis.Redis.from_url(node.url(), socket_timeout=1.5).connection_pool
    borrowed = Borrowed(pool)
    try:
        assert 1.5 == borrowed.connection._sock.gettimeout()
        borrowed.send(pack(b"PING"))
        assert 7 == borrowed.receive(borrowed.buffer)
    finally:
        pool.release(borrowed.connection)
        pool.disconnect()
