"""This is where a message went with a worker that died, while others keep its queue busy; no worker runs in these tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis
from celery import Celery

from taskcache import Cache
from taskcache.launcher import Launcher, MessageMissing
from taskcache.launchers import chunk as launchers
from taskcache.protocol.entry import new_token
from tests.nodes.waiting import wait_until


class Queue:
    """A queue that nobody serves, a function that is computed there, and what the queue holds."""

    def __init__(self, client: redis.Redis, redis_url: str, broker_url: str, name: str) -> None:
        self.client, self.name = client, f"queue of {name}"
        app: Any = Celery(name, broker=broker_url)
        app.conf.task_default_queue = self.name
        self.cache = Cache(redis_url, name=name, app=app)

        @self.cache.cache_async(name="slow")
        def slow(number: int) -> int:
            return number

        self.slow: Any = slow

    def sent(self, number: int) -> tuple[Launcher, str]:
        """A call that is sent, and looked after by nobody but the test."""
        launcher = self.slow.launcher((number,), {}, self.slow.invocation((number,), {}))
        token = new_token()
        launcher.launch(token)
        return launcher, token

    def waiting(self, token: str) -> int:
        """How many messages of a flight wait in the queue."""
        return sum(token.encode() in message for message in self.client.lrange(self.name, 0, -1))

    def lose(self) -> None:
        """A worker takes the oldest message, and dies."""
        assert self.client.rpop(self.name)


@pytest.fixture
def queue(redis_url: str, broker_url: str, cache_name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Queue]:
    monkeypatch.setattr(launchers, "MISSING_S", 0.1)
    with redis.Redis.from_url(broker_url) as client:
        found = Queue(client, redis_url, broker_url, cache_name)
        with found.cache:
            yield found


def says_missing(launcher: Launcher, token: str) -> None:
    """Ask as a watch does until the message is said to be missing."""
    wait_until(lambda: isinstance(launcher.inquire(token), MessageMissing), "the message to be missed", 10)


def says_nothing(launcher: Any, token: str) -> None:
    """Ask as a watch does until it has looked several times."""

    def has_looked() -> bool:
        assert launcher.inquire(token) is None
        return bool(launcher._message._patience_s > 1)

    wait_until(has_looked, "several looks", 10)


def test_a_message_that_later_ones_have_overtaken_is_missing(queue: Queue) -> None:
    """Its queue is never empty, and what was sent after it has been served."""
    (first, token), (second, later) = queue.sent(1), queue.sent(2)
    queue.lose()
    queue.sent(3)
    second.note_served(later)

    says_missing(first, token)
    # Not again at once, but later.
    assert first.inquire(token) is None
    says_missing(first, token)


def test_a_message_in_a_long_queue_is_not(queue: Queue) -> None:
    """What was sent before it is served before it: the queue is long, and nothing is lost."""
    (first, earlier), (second, token) = queue.sent(1), queue.sent(2)
    first.note_served(earlier)

    says_nothing(second, token)


def test_a_message_that_was_sent_again_is_as_young_as_that(queue: Queue) -> None:
    """Those that overtook the first copy say nothing of the second."""
    (first, token), (second, later) = queue.sent(1), queue.sent(2)
    second.note_served(later)
    says_missing(first, token)
    first.launch(token)

    says_nothing(first, token)


def test_its_waiter_sends_it_again(queue: Queue) -> None:
    """Under the same token, so that it costs a message and never a second run."""
    first, second = queue.slow(1), queue.slow(2)
    wait_until(lambda: queue.waiting(second.task_id), "both messages")
    queue.lose()
    assert 0 == queue.waiting(first.task_id)
    second._pending.launcher.note_served(second.task_id)

    wait_until(lambda: queue.waiting(first.task_id), "the message to be sent again", 20)
    assert 1 == queue.waiting(second.task_id)
