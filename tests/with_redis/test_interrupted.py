"""
This is where an exception comes out of nowhere, as a signal's handler may raise it (Ctrl-C, a soft time limit), and still no
answer is given to another question than its own, and no invalidation is missed.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
import redis
from celery.exceptions import SoftTimeLimitExceeded
from redis.connection import Connection

from taskcache import Cache
from tests.nodes.waiting import wait_until
from tests.with_redis.near import bring_near, near_of


class Interrupts:
    """Raises instead of the first call, and lets the others be."""

    def __init__(self, of: Any, error: type[BaseException] = KeyboardInterrupt) -> None:
        self.of, self.error = of, error
        self.has_raised = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self.has_raised:
            self.has_raised = True
            raise self.error
        return self.of(*args, **kwargs)


@pytest.fixture
def by_redis_py(redis_url: str, cache_name: str) -> Any:
    cache = Cache(redis_url, name=cache_name, default_timeout=60, transport="redis-py")
    yield cache
    cache.close()


def test_an_answer_that_nobody_read_is_nobodys(by_redis_py: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """redis-py gives the connection back with the answer on its way; the next one who asks has one of its own."""
    cache = by_redis_py
    cache.set_many({"a": "value of a", "b": "value of b"})
    client = cache.station.server.client
    monkeypatch.setattr(client, "parse_response", Interrupts(client.parse_response))
    with pytest.raises(KeyboardInterrupt):
        cache.get("a")

    assert ["value of b", "value of a"] == [cache.get("b"), cache.get("a")]


def test_our_own_clients_are_looked_at_before_they_are_lent(redis_url: str, cache_name: str) -> None:
    """With notifications of maintenance, its default, redis-py does not see that an answer is waiting to be read."""
    with Cache(redis_url, name=cache_name) as cache:
        pool = cache.station.server.client.connection_pool
        connection = pool.get_connection()
        connection.send_command("ECHO", "for nobody")
        wait_until(connection.can_read, "the answer to come")
        pool.release(connection)

        assert b"for me" == cache.station.server.client.echo("for me")


@pytest.mark.parametrize("error", [KeyboardInterrupt, SoftTimeLimitExceeded])
def test_a_connection_is_introduced_or_not_there(
    redis_url: str,
    cache_name: str,
    client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    error: type[BaseException],
) -> None:
    """Interrupted before it has chosen its database, it would write to another one from then on."""
    other = redis_url.rsplit("/", 1)[0] + "/9"
    interrupts = Interrupts(Connection.on_connect_check_health, error)
    monkeypatch.setattr(Connection, "on_connect_check_health", lambda *args, **kwargs: interrupts(*args, **kwargs))
    with Cache(other, name=cache_name, default_timeout=60) as cache:
        with pytest.raises(error):
            cache.get("key")
        cache.set("key", "value")

        assert [] == client.keys(f"{cache_name}*")
        assert "value" == cache.get("key")
        cache.delete("key")


class InterruptedOnce(deque[Any]):
    """A queue whose first new member is never entered."""

    has_raised = False

    def append(self, member: Any) -> None:
        if not self.has_raised:
            self.has_raised = True
            raise KeyboardInterrupt
        super().append(member)


async def test_a_line_with_a_question_too_many_is_given_up(cache: Cache) -> None:
    """Coroutines share it and get their answers in turn: each would have that of the one before."""
    cache.set_many({"a": "value of a", "b": "value of b"}, 60)
    assert "value of a" == await cache.aio.get("a")
    (link,) = cache.station.loops._links.values()
    assert link.line is not None
    link.line._waiting = InterruptedOnce()
    with pytest.raises(KeyboardInterrupt):
        link.line.send(b"*1\r\n$4\r\nTIME\r\n")

    assert ["value of b", "value of a"] == [await cache.aio.get("b"), await cache.aio.get("a")]


def test_what_was_reported_and_not_taken_in_is_not_missed(cache: Cache, client: redis.Redis) -> None:
    """Near values are dropped with the connection on which their invalidation came."""
    runs = iter(range(100))

    @cache.cached(near=True, name="price", version=1)
    def price(number: int) -> int:
        return next(runs)

    old, near = bring_near(cache, price, 7), near_of(cache)
    tracking = near._tracking
    assert tracking is not None
    tracking._changed = Interrupts(tracking._changed)

    def is_interrupted() -> bool:
        try:
            price(7)
        except KeyboardInterrupt:
            return True
        return False

    # The thread that listens could take it in first.
    with near.lock:
        client.delete(cache.make_key(price.key_for(7)))
        wait_until(is_interrupted, "the report to come")
    assert price(7) != old
