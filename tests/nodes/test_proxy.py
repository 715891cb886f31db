"""This is where we check each fault the proxy can make, as redis-py sees it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.nodes.proxy import FaultProxy


@pytest.fixture
def through(proxy: FaultProxy, redis_url: str) -> Iterator[redis.Redis]:
    """A client behind the proxy that gives up early and does not retry."""
    with redis.Redis.from_url(proxy.url(redis_url), socket_timeout=0.3, retry=Retry(NoBackoff(), 0)) as client:
        client.set("long", b"x" * 10_000, ex=60)
        yield client


def test_a_delay_is_added_to_each_direction(proxy: FaultProxy, through: redis.Redis) -> None:
    """A command takes at least twice the delay."""
    proxy.delay = 0.05
    began = time.perf_counter()
    through.ping()

    assert 0.1 <= time.perf_counter() - began


def test_a_black_hole_times_out_and_heals(proxy: FaultProxy, through: redis.Redis) -> None:
    """In a black hole commands time out; afterwards they work again."""
    proxy.blackhole = True
    with pytest.raises(redis.TimeoutError):
        through.ping()
    proxy.blackhole = False

    assert through.ping()


def test_a_reply_can_be_cut_in_the_middle(proxy: FaultProxy, through: redis.Redis) -> None:
    """A reply that ends before its length is a connection error, never a short value."""
    proxy.truncate_after = 100
    with pytest.raises(redis.ConnectionError):
        through.get("long")
    proxy.truncate_after = None

    assert b"x" * 10_000 == through.get("long")


def test_new_connections_can_be_refused(proxy: FaultProxy, through: redis.Redis) -> None:
    """While the proxy refuses, an open connection goes on and a new one does not."""
    proxy.refuse = True

    assert through.ping()
    proxy.drop_all()
    with pytest.raises(redis.ConnectionError):
        through.ping()


def test_all_connections_can_be_dropped(proxy: FaultProxy, through: redis.Redis) -> None:
    """After a drop the next connection is a new one."""
    seen = proxy.connections_seen
    subscriber = through.pubsub()  # type: ignore[no-untyped-call] # redis-py has no types here
    subscriber.subscribe("channel")
    subscriber.get_message(timeout=1)

    proxy.drop_all()

    with pytest.raises(redis.ConnectionError):
        subscriber.get_message(timeout=1)
    subscriber.close()
    through.ping()
    assert seen < proxy.connections_seen
