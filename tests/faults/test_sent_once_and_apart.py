"""This is where several questions go their own ways: to nodes of which one is away, and over connections that break."""

from __future__ import annotations

import pytest
import redis

from taskcache import Cache, NoServer
from taskcache.drivers.topology import Server
from taskcache.protocol.steps import Call
from tests.nodes.proxy import FaultProxy
from tests.nodes.topology import ClusterNodes


@pytest.mark.parametrize("transport", ["auto", "redis-py"])
def test_a_count_whose_answer_is_lost_is_counted_once(
    proxy: FaultProxy, redis_url: str, cache_name: str, client: redis.Redis, transport: str
) -> None:
    """The connection breaks after the command has arrived: whoever counts is told, and nobody sends it again."""
    with Cache(proxy.url(redis_url), name=cache_name, transport=transport, default_timeout=60) as cache:  # type: ignore[arg-type]
        cache.incr("count")
        client.expire(cache.make_key("count"), 60)
        proxy.truncate_after = 0
        with pytest.raises(NoServer):
            cache.incr("count")
        proxy.truncate_after = None

        assert [b"2", 3] == [client.get(cache.make_key("count")), cache.incr("count")]


def test_a_count_notices_a_connection_that_was_closed_meanwhile(
    proxy: FaultProxy, redis_url: str, cache_name: str, client: redis.Redis
) -> None:
    """Nothing was sent on it, so nobody hears of it."""
    with Cache(proxy.url(redis_url), name=cache_name, default_timeout=60) as cache:
        cache.incr("count")
        client.expire(cache.make_key("count"), 60)
        proxy.drop_all()

        assert 2 == cache.incr("count")


def test_a_node_that_is_away_costs_its_own_keys_only() -> None:
    """The leases and the waits of all other nodes are asked about as ever."""
    calls = [Call("GET", (f"key-{number}".encode(),)) for number in range(30)]
    with ClusterNodes() as nodes, nodes.client() as client:
        for member in nodes.members:
            with member.client() as one:
                one.config_set("cluster-require-full-coverage", "no")
        server = Server(client)
        lost = nodes.primaries[2]
        away = [client.get_node_from_key(call.keys[0]).port == lost.port for call in calls]
        lost.kill()
        replies = server.replies(calls)

    assert [NoServer if is_away else type(None) for is_away in away] == [type(reply) for reply in replies]
    assert {True, False} == set(away)
