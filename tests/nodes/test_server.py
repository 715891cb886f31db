"""This is where we check that the servers of the tests do what their names say."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis

from tests.nodes.server import ServerNode

Start = Callable[..., ServerNode]


def test_each_test_gets_an_empty_database(client: redis.Redis) -> None:
    """The shared server is empty when a test begins."""
    size = client.dbsize()

    assert 0 == size


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
def test_a_server_can_be_killed_and_started_again(start_valkey: Start, unix: bool) -> None:
    """A killed server comes back at the same address, without what it had not saved."""
    node = start_valkey(password="p w/:@", unix=unix)
    url = node.url()
    with node.client() as client:
        client.set("a", 1)

    node.kill()
    node.start()

    with node.client() as client:
        assert url == node.url()
        assert None is client.get("a")


def test_a_server_can_restart_with_its_data(start_valkey: Start) -> None:
    """A restart keeps the data or loses it, as the test says."""
    node = start_valkey()
    with node.client() as client:
        client.set("a", 1)

    node.restart(keep_data=True)
    with node.client() as client:
        kept = client.get("a")
    node.restart(keep_data=False)
    with node.client() as client:
        lost = client.get("a")

    assert (b"1", None) == (kept, lost)


def test_a_paused_server_does_not_answer(start_valkey: Start) -> None:
    """A paused server keeps its connections and answers when it is resumed."""
    node = start_valkey()
    with redis.Redis.from_url(node.url(), socket_timeout=0.1, retry=None) as client:
        client.ping()
        node.pause()
        with pytest.raises(redis.TimeoutError):
            client.ping()
        node.resume()

        assert client.ping()


def test_a_server_can_have_users(start_valkey: Start) -> None:
    """A server with an access list is reached with the user's name and password."""
    rules = ["user default off", "user reader on >pw ~* &* +@read +@connection"]
    node = start_valkey(config=rules, username="reader", password="pw")

    with node.client() as client, pytest.raises(redis.exceptions.NoPermissionError):
        client.set("a", 1)


def test_redis_speaks_tls(start_redis: Start) -> None:
    """The Redis of this machine is reached over TLS with the certificate made for it."""
    node = start_redis(tls=True, password="pw")

    with node.client() as client:
        assert client.ping()
