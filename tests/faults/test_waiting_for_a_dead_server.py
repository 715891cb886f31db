"""This is where the threads that serve every wait of a process are kept from being held up or ended by one of them."""

from __future__ import annotations

import time

import redis

from taskcache import Cache
from taskcache.calls.invocation import Invocation
from taskcache.drivers.inbox import OPEN_S, Inbox
from taskcache.drivers.topology import Server
from taskcache.protocol.flight import Ending
from taskcache.protocol.steps import Wait
from taskcache.protocol.watch import Sighting
from tests.nodes.proxy import FaultProxy


def test_a_subscription_that_does_not_come_is_waited_for_once(proxy: FaultProxy, redis_url: str) -> None:
    """The keeper asks for its channel at every look at every flight: only the first may wait."""
    proxy.blackhole = True
    inbox = Inbox(
        Server(proxy.url(redis_url)), on_message=lambda *_: None, on_reconnect=lambda: None, on_silence=lambda: None
    )
    began = time.monotonic()
    channels = {inbox.open() for _ in range(5)}
    took = time.monotonic() - began
    proxy.blackhole = False
    inbox.close()

    assert {inbox.channel} == channels
    assert took < 2 * OPEN_S


def test_a_waiter_that_fails_does_not_cost_the_others_their_value(redis_url: str, cache_name: str) -> None:
    """Two calls follow one flight; the first raises when it is told, and the second hears all the same."""
    cache = Cache(redis_url, name=cache_name)
    keeper = cache.station.keeper
    errand = Invocation.of(cache.settings, cache.codec, "key", "f", (), 1000).errand(cache.station, "")
    heard: list[Ending | BaseException] = []

    def fails(ending: Ending | BaseException) -> None:
        raise RuntimeError("its loop is closed")

    def notices(sighting: Sighting) -> None:
        pass

    wait = Wait("00000000-0000-4000-8000-000000000001", False)
    keeper.follow(errand, wait, None, fails, notices)
    keeper.follow(errand, wait, None, heard.append, notices)
    keeper._hear(wait.token, b"a value")
    cache.close()

    assert [b"a value"] == heard


def test_a_server_that_accepts_and_never_answers_costs_one_reply(proxy: FaultProxy, redis_url: str) -> None:
    """Not a second one for the connection, nor one for each of redis-py's own tries; the next call is not held up at all."""
    proxy.blackhole = True
    reply_s = 2.0
    client = redis.Redis.from_url(proxy.url(redis_url), socket_timeout=reply_s, socket_connect_timeout=reply_s)
    double = Cache(client, name="silent").cached(name="double")(lambda number: 2 * number)
    began = time.monotonic()
    values = [double(1), double(2)]
    took = time.monotonic() - began
    proxy.blackhole = False
    double.cache.close()

    assert [2, 4] == values
    assert reply_s <= took < 2 * reply_s
