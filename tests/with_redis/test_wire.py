"""This is where plain reads meet a server that does not answer: they end in the client's own time, whoever keeps it."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest
import redis

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
