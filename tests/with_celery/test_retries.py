"""This is where Celery's own retries belong to one flight: who waits hears the last word only."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType

import pytest
import redis

from taskcache import UsageError
from taskcache.protocol.entry import EntryKey
from tests.conftest import CACHE_DB
from tests.nodes.proxy import FaultProxy
from tests.nodes.server import ValkeyNode
from tests.nodes.waiting import wait_until
from tests.nodes.workers import WorkerNode

pytestmark = pytest.mark.usefixtures("shop", "worker")

LONG = 30

StartShop = Callable[..., tuple[WorkerNode, str]]


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


@pytest.mark.parametrize("others", ["args", "kwargs"])
def test_a_retry_with_other_arguments_is_refused(shop: ModuleType, name: str, others: str) -> None:
    """It would be another call: who waits for this one hears what to do instead, and the body is not run for ever."""
    retries_with = importlib.import_module("tests.with_celery.apps.mishaps").retries_with

    with pytest.raises(UsageError, match=r"leave args= and kwargs= out of retry\(\)"):
        retries_with(name, 1, others=others)(timeout=LONG)
    with pytest.raises(Exception, match=r"leave args= and kwargs= out of retry\(\)"):
        retries_with.delay(f"{name}-sent", 1, others=others).get(timeout=LONG)
    assert (1, 1) == (shop.ledger.runs(name), shop.ledger.runs(f"{name}-sent"))


@pytest.mark.parametrize("others", ["", "passed on"])
def test_a_retry_with_the_same_arguments_is_a_retry(shop: ModuleType, name: str, others: str) -> None:
    """Said again, or passed on as the request has them, they are still those of the call."""
    retries_with = importlib.import_module("tests.with_celery.apps.mishaps").retries_with

    assert f"{name} 1 2" == retries_with(name, 1, others=others)(timeout=LONG)
    assert f"{name}-sent 1 2" == retries_with.delay(f"{name}-sent", 1, others=others).get(timeout=LONG)


@pytest.mark.parametrize("is_sent_by_delay", [True, False], ids=["delay", "call"])
def test_a_retry_is_sent_while_the_cache_is_away(
    shop: ModuleType, start_shop: StartShop, valkey: ValkeyNode, name: str, is_sent_by_delay: bool
) -> None:
    """Its flight could not be given back before: it is free when its lease is over, and then somebody computes."""
    fails_once = importlib.import_module("tests.with_celery.apps.mishaps").fails_once
    with FaultProxy.before(valkey.url()) as proxy:
        node, queue = start_shop(env={"SHOP_CACHE": proxy.url(valkey.url(CACHE_DB))})
        if is_sent_by_delay:
            result = fails_once.apply_async((name,), queue=queue).get
        else:
            result = fails_once.with_options(queue=queue)(name)
        shop.ledger.wait_runs(name)
        proxy.refuse = True
        proxy.drop_all()
        shop.ledger.open(name)
        node.wait_for_log("Retry in 3", LONG)
        proxy.refuse = False

        assert f"{name} 2" == result(timeout=LONG)
        assert 2 == shop.ledger.runs(name)
