"""This is where a wake-up channel is listened to by hand: what is said, a silence, a refusal, an end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
import redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError

from taskcache.drivers import subscription
from taskcache.drivers.subscription import SUBSCRIBED, ByHand, ByRedisPy, Subscription
from taskcache.drivers.topology import Server
from tests.nodes.proxy import FaultProxy
from tests.nodes.server import ValkeyNode

CHANNEL = "taskcache:inbox:test"


def listener(url: str, **options: object) -> ByHand:
    """A subscription that has heard that it is one."""
    listening = ByHand(redis.Redis.from_url(url, **options).connection_pool, CHANNEL)
    assert listening.hear() is SUBSCRIBED
    return listening


@pytest.fixture(params=[2, 3])
def listening(redis_url: str, request: pytest.FixtureRequest) -> Iterator[ByHand]:
    """A subscription in each version of the server's protocol."""
    with closing(listener(redis_url, protocol=request.param)) as listening:
        yield listening


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A silence is one after a second: long for a busy machine, too, and short for a test."""
    monkeypatch.setattr(subscription, "LISTEN_S", 1.0)


def test_messages_are_heard_in_their_order(listening: ByHand, client: redis.Redis) -> None:
    """Many at once, a large one among them, and none is lost or cut."""
    said = [b"a", b"", b"x" * 300_000, b"\r\n$5\r\n"]
    for each in said:
        client.publish(CHANNEL, each)

    assert said == [listening.hear() for _ in said]


def test_a_silence_is_no_end(impatient: None, redis_url: str, client: redis.Redis) -> None:
    """The server is asked whether it is there, and what it says next is heard."""
    with closing(listener(redis_url)) as listening:
        nothing, pong = listening.hear(), listening.hear()
        client.publish(CHANNEL, b"now")

        assert (None, None, b"now") == (nothing, pong, listening.hear())


def test_a_dead_connection_that_nobody_closed_is_noticed(impatient: None, proxy: FaultProxy, redis_url: str) -> None:
    """A ping without an answer ends it: a process must not stay deaf."""
    with closing(listener(proxy.url(redis_url))) as listening:
        proxy.blackhole = True
        try:
            assert listening.hear() is None
            with pytest.raises(RedisConnectionError, match="ping"):
                listening.hear()
        finally:
            proxy.blackhole = False


def test_a_closed_connection_is_an_error(proxy: FaultProxy, redis_url: str) -> None:
    """What listens makes a new one."""
    with closing(listener(proxy.url(redis_url))) as listening:
        proxy.drop_all()
        with pytest.raises((RedisConnectionError, OSError)):
            listening.hear()


def test_whoever_listens_hears_that_it_is_over(redis_url: str) -> None:
    """Another thread ends it, and nobody waits for the silence to end."""
    with closing(listener(redis_url)) as listening, ThreadPoolExecutor(1) as thread:
        heard = thread.submit(listening.hear)
        listening.hang_up()

        assert isinstance(heard.exception(timeout=subscription.LISTEN_S / 2), RedisConnectionError)


def test_a_refused_channel_is_an_error(start_valkey: Callable[..., ValkeyNode]) -> None:
    """The rights of a user name channels too."""
    rules = ["user default off", "user deaf on >pw ~* resetchannels +@all"]
    node = start_valkey(config=rules, username="deaf", password="pw")
    listening = ByHand(redis.Redis.from_url(node.url()).connection_pool, CHANNEL)
    with closing(listening), pytest.raises(NoPermissionError):
        listening.hear()


@pytest.mark.parametrize(("own_wire", "kind"), [(True, ByHand), (False, ByRedisPy)])
def test_redis_py_listens_the_same_way(
    redis_url: str, client: redis.Redis, own_wire: bool, kind: type[Subscription]
) -> None:
    """`transport="redis-py"` says and hears the same."""
    server = Server(redis_url, own_wire=own_wire)
    with closing(server.subscribe(CHANNEL)) as listening:
        assert isinstance(listening, kind)
        assert listening.hear() is SUBSCRIBED
        client.publish(CHANNEL, b"a")

        assert b"a" == listening.hear()
    server.close()
