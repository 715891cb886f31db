"""This is where a worker cannot reach the cache for a moment, and each call is computed once, for those who wait."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest

from tests.conftest import CACHE_DB
from tests.nodes.proxy import FaultProxy
from tests.nodes.server import ValkeyNode
from tests.nodes.waiting import wait_until
from tests.nodes.workers import WorkerNode

LONG = 30
# Sooner than those who wait send a message again.
SOON = 5

StartShop = Callable[..., tuple[WorkerNode, str]]


@pytest.fixture
def proxy(valkey: ValkeyNode) -> Iterator[FaultProxy]:
    """What is between a worker and the cache; the callers in this process have a way of their own."""
    with FaultProxy.before(valkey.url()) as proxy:
        yield proxy


@pytest.fixture
def queue(start_shop: StartShop, valkey: ValkeyNode, proxy: FaultProxy) -> str:
    """The queue of a worker behind the proxy."""
    _, queue = start_shop(env={"SHOP_CACHE": proxy.url(valkey.url(CACHE_DB))})
    return queue


@pytest.mark.parametrize("function", ["gated", "prices"])
def test_a_call_is_claimed_when_the_cache_is_back(
    shop: ModuleType, bulk: ModuleType, proxy: FaultProxy, queue: str, name: str, function: str
) -> None:
    """Nobody could be told of its value before: it is not computed for nobody, and not sent again."""
    shop.ledger.open(name)
    called = {
        "gated": lambda: [shop.gated.with_options(queue=queue)(name)],
        "prices": lambda: list(bulk.prices.with_options(queue=queue).starmap([(name, 1), (name, 2)])),
    }
    proxy.refuse = True
    seen = proxy.connections_seen
    results = called[function]()
    wait_until(lambda: proxy.connections_seen > seen + 15, "the worker to have tried again and again", LONG)
    assert 0 == shop.ledger.runs(name)
    proxy.refuse = False

    expected = {"gated": [f"{name} 1"], "prices": [10, 20]}
    assert expected[function] == [result(timeout=SOON) for result in results]
    assert 1 == shop.ledger.runs(name)


def test_what_was_sent_by_delay_is_computed_without_the_cache(
    shop: ModuleType, proxy: FaultProxy, queue: str, name: str
) -> None:
    """Celery delivers its value, also that of a retry."""
    shop.ledger.open(name)
    proxy.refuse = True

    assert f"{name} 2" == shop.flaky.apply_async((name, 2), queue=queue).get(timeout=LONG)
    assert 2 == shop.ledger.runs(name)


def test_a_retry_without_the_cache_is_still_of_who_sent_it(
    shop: ModuleType, proxy: FaultProxy, queue: str, name: str
) -> None:
    """It finds no flight of its own when the cache is back: its value is Celery's to deliver."""
    fails_once = importlib.import_module("tests.with_celery.apps.mishaps").fails_once
    proxy.refuse = True
    sent = fails_once.apply_async((name,), queue=queue)
    shop.ledger.wait_runs(name)
    proxy.refuse = False
    shop.ledger.open(name)

    assert f"{name} 2" == sent.get(timeout=LONG)
