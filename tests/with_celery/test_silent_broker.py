"""This is where a broker takes what it is told and never answers: one time of waiting for all of a process, and no more."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from celery import Celery
from kombu.exceptions import OperationalError

from taskcache import Cache, Result
from taskcache.launchers import producers
from tests.nodes.proxy import FaultProxy
from tests.nodes.server import ValkeyNode
from tests.nodes.waiting import wait_until
from tests.with_redis.gate import threads

# A broker that is asked for this long is asked for ever.
LONG = 20


@pytest.fixture
def app() -> Any:
    """An app whose broker is this process's memory, with a connection that is kept."""
    app = Celery("silent", broker="memory://", set_as_current=False)
    producers.send(app, lambda producer: None)
    return app


def silence() -> OperationalError:
    """What kombu makes of a reply that does not come."""
    error = OperationalError("Timeout reading from socket")
    error.__cause__ = redis.TimeoutError("Timeout reading from socket")
    return error


def test_it_is_asked_once(app: Any) -> None:
    """A connection that was kept may be stale, and then it breaks; one that hangs is no reason to hang twice."""
    asked = []

    def publish(producer: Any) -> None:
        asked.append(producer)
        raise silence()

    with pytest.raises(OperationalError):
        producers.send(app, publish)

    assert 1 == len(asked)


def test_those_who_wait_for_a_connection_hear_of_it(app: Any) -> None:
    """Ten may ask at once. Whoever waited for a place meanwhile need not wait for the broker, too."""
    asked, over = [], threading.Event()

    def publish(producer: Any) -> None:
        asked.append(producer)
        over.wait(LONG)
        raise silence()

    with ThreadPoolExecutor(30) as executor:
        sent = [executor.submit(producers.send, app, publish) for _ in range(30)]
        wait_until(lambda: len(asked) == producers._MOST, "ten to ask")
        over.set()
        errors = [each.exception(LONG) for each in sent]

    assert [OperationalError] * 30 == [type(error) for error in errors]
    assert producers._MOST == len(asked)
    with pytest.raises(OperationalError):
        producers.send(app, publish)
    assert producers._MOST + 1 == len(asked), "who comes later asks again"


@pytest.fixture
def cut_off(
    valkey: ValkeyNode, broker_url: str, redis_url: str, cache_name: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Result[int], FaultProxy]]:
    """A call in a queue, whose broker is behind a network that may be cut."""
    monkeypatch.setattr(producers, "REPLY_TIMEOUT_S", 0.5)
    with FaultProxy.before(valkey.url()) as proxy:
        app = Celery("silent", broker=proxy.url(broker_url), set_as_current=False)
        with Cache(redis_url, name=cache_name, app=app) as cache:
            double = cache.cache_async(timeout=60, revoke_when_abandoned=True, name="silent.double")(lambda x: 2 * x)
            yield double(7), proxy


def test_leaving_takes_no_longer_than_sending(cut_off: tuple[Result[int], FaultProxy]) -> None:
    """Celery's own `control.revoke` has no timeouts, and tries again for ever."""
    result, proxy = cut_off
    proxy.blackhole = True
    began = time.monotonic()
    with threads(1) as run:
        left = run(result.cancel).result(LONG)
        took = time.monotonic() - began
        proxy.blackhole = False

    assert True is left
    assert took < LONG
