"""
This is where a retry elected itself and stored what began before an invalidation (H27), and where nobody kept alive what a
late child had elected (H31).

H27: the arguments of a retry may hold work of its first attempt. Its flight is gone (its lease ended while the message
waited), an invalidation comes, the retry runs, hears `gone`, elects a flight of its own with fresh stamps, and stores.
Now a retry that hears `gone` is skipped. H31: a first attempt that hears `gone` does elect, under a token that its main
process has never heard of, so nobody renewed its lease and a second computation began beside it. Now the process that
elects renews.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import redis
from celery import Celery
from celery.exceptions import Ignore

from taskcache import Cache
from taskcache.calls.computing import new_owner
from taskcache.protocol.entry import new_token
from taskcache.worker.delivery import Delivery
from taskcache.worker.execution import _begin_sent


class Late:
    """A message whose flight is gone, in the process that runs it, with a body that looks around."""

    def __init__(self, url: str, name: str, retries: int, seen: Any, lease: float = 5) -> None:
        self.cache = Cache(url, name=name, app=Celery("late", broker="memory://", set_as_current=False), lease=lease)
        self.function: Any = self.cache.cache_async(timeout=30, name=f"races.{name}")(seen)
        self.token, self.owner = new_token(), new_owner()
        header = {"key": self.function.make_key((1,), {}), "token": self.token, "owner": self.owner}
        request: dict[str, Any] = {"retries": retries, "is_eager": False, "headers": {"taskcache": header}}
        self.delivery = Delivery(
            SimpleNamespace(request=Request(request), app=self.cache.app, name=f"races.{name}"),
            self.function,
            seen,
            (1,),
            {},
            header,
            self.function.invocation((1,), {}),
        )

    def run(self) -> Any:
        try:
            return _begin_sent(self.delivery)
        finally:
            self.cache.close()


class Request(SimpleNamespace):
    """What Celery's own does for a task that runs."""

    def __init__(self, fields: dict[str, Any]) -> None:
        super().__init__(**fields)

    def update(self, more: dict[str, Any]) -> None:
        self.__dict__.update(more)


def test_a_retry_whose_flight_is_gone_is_skipped(redis_url: str, client: redis.Redis, cache_name: str) -> None:
    """It runs no body and leaves no flight."""
    runs: list[int] = []
    late = Late(redis_url, cache_name, 1, runs.append)

    with pytest.raises(Ignore):
        late.run()

    assert ([], []) == (runs, client.keys(f"*{cache_name}:*"))


def test_a_late_first_attempt_is_renewed_by_who_elected_it(
    redis_url: str, client: redis.Redis, cache_name: str
) -> None:
    """While its body runs, this process keeps the lease of the new token, which is not that of the message."""
    renewed: list[tuple[bytes, bool]] = []

    def seen(number: int) -> int:
        flight: Any = client.hgetall(late.delivery.invocation.place().flight)
        lease = late.cache.station.renewer.find(flight[b"token"].decode(), flight[b"owner"].decode())
        renewed.append((flight[b"token"], lease is not None and lease.held))
        return number

    late = Late(redis_url, cache_name, 0, seen)

    assert 1 == late.run()
    assert [(True, True)] == [(token != late.token.encode(), held) for token, held in renewed]
