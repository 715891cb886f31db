"""This is where Celery's own retries belong to one flight: who waits hears the last word only."""

from __future__ import annotations

from types import ModuleType

import pytest
import redis

from taskcache.protocol.entry import EntryKey
from tests.nodes.waiting import wait_until

pytestmark = pytest.mark.usefixtures("shop", "worker")

LONG = 30


def wait_for_retry(shop: ModuleType, client: redis.Redis, name: str) -> None:
    """Wait until the first try of `later` has failed and given its flight back."""
    flight = EntryKey.of(shop.cache.make_key(shop.later.key_for(name)).encode()).flight
    wait_until(lambda: client.hget(flight, "state") == b"retrying", "the retry", LONG)


def test_waiters_get_the_value_of_the_try_that_succeeds(shop: ModuleType, name: str) -> None:
    """Two failed tries are nobody's business; the flight is one and the same."""
    shop.ledger.open(name)
    result = shop.flaky(name, 3)

    assert f"{name} 3" == result(timeout=LONG)
    assert 3 == shop.ledger.runs(name)
    assert f"{name} 3" == shop.flaky(name, 3)(block=False)


def test_waiters_get_the_last_failure(shop: ModuleType, name: str) -> None:
    """When all tries have failed, the error of the last one arrives, at all who wait."""
    result = shop.flaky(name, 9)
    shop.ledger.wait_runs(name)
    joined = shop.flaky(name, 9)
    shop.ledger.open(name)

    for each in (result, joined):
        with pytest.raises(shop.OutOfStock, match="3 left"):
            each(timeout=LONG)
    assert 3 == shop.ledger.runs(name)


def test_a_call_between_two_tries_joins(shop: ModuleType, client: redis.Redis, name: str) -> None:
    """While a task waits for its next try, its flight is `retrying`, and a new call starts nothing."""
    result = shop.later(name)
    wait_for_retry(shop, client, name)
    joined = shop.later(name)

    wait_until(lambda: joined.state == "retrying", "the state", LONG)
    assert ("joined", result.task_id) == (joined.source, joined.task_id)
    assert f"{name} 2" == joined(timeout=LONG) == result(timeout=LONG)


def test_a_bust_between_two_tries_is_obeyed(shop: ModuleType, client: redis.Redis, name: str) -> None:
    """
    A call after a bust gets a computation of its own; who called before gets the old flight's value.

    Also of a body that adds a tag, which has no stamps to go with any more: its waiters heard of a UsageError.
    """
    old = shop.later(name)
    wait_for_retry(shop, client, name)
    shop.later.bust(name)
    new = shop.later(name)

    assert old.task_id != new.task_id
    values = {old(timeout=LONG), new(timeout=LONG)}
    assert {f"{name} 2", f"{name} 3"} == values
    assert new() == shop.later(name)(block=False)


def test_delay_retries_as_celery_does(shop: ModuleType, name: str) -> None:
    """A task sent by `.delay()` retries under its own id, and its value is stored in both places."""
    shop.ledger.open(name)
    sent = shop.flaky.delay(name, 2)

    assert f"{name} 2" == sent.get(timeout=LONG)
    assert f"{name} 2" == shop.flaky(name, 2)(block=False)
    assert 2 == shop.ledger.runs(name)


def test_a_nested_call_retries(shop: ModuleType, name: str, worker: object) -> None:
    """The retries of a call inside a call are waited for as well."""
    shop.ledger.open(name)

    assert f"nested {name} 2" == shop.nested_flaky(name)(timeout=LONG)
