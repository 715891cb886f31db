"""This is where a batch function computes many calls at once, and each of them is a call like any other."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import redis

from taskcache import BoundCall, Cache, UsageError
from taskcache.protocol.entry import EntryKey
from tests.nodes.waiting import wait_until
from tests.nodes.workers import WorkerNode

pytestmark = pytest.mark.usefixtures("shop", "worker")

LONG = 30

StartShop = Callable[..., tuple[WorkerNode, str]]


def calls(name: str, *numbers: int) -> list[tuple[str, int]]:
    return [(name, number) for number in numbers]


def test_one_run_computes_many_calls(bulk: ModuleType, name: str) -> None:
    """The body gets one list; each call has its value, its entry and its hit."""
    values = bulk.prices.starmap(calls(name, *range(12)))()

    assert [number * 10 for number in range(12)] == values
    assert (1, 1) == (bulk.ledger.runs(name), bulk.ledger.runs(f"{name}:size:12"))
    assert ("hit", 30) == (bulk.prices(name, 3).source, bulk.prices(name, 3)(block=False))


def test_chunk_is_the_size_of_a_batch(bulk: ModuleType, name: str) -> None:
    """Twelve calls, five to a message: two batches of five and one of two; what is stored is in none of them."""
    bulk.prices(name, 0)(timeout=LONG)
    bulk.prices.starmap(calls(name, *range(13)), chunk=5)()

    assert (2, 1, 1) == tuple(bulk.ledger.runs(f"{name}:size:{size}") for size in (5, 2, 1))


def test_a_call_by_itself_is_a_batch_of_one(bulk: ModuleType, name: str) -> None:
    """`fn(x)` and `fn.delay(x)` call the body with a list of one, with the keywords of the call."""
    one = bulk.prices(name, 7, times=2)
    sent = bulk.prices.delay(name, 8)

    assert (14, 80) == (one(timeout=LONG), sent.get(timeout=LONG))
    assert 2 == bulk.ledger.runs(f"{name}:size:1")
    assert "hit" == bulk.prices(name, 8).source


def test_calls_are_what_they_are_spelled(bulk: ModuleType, name: str) -> None:
    """The body's own parameters say nothing of its calls: the key is that of `*args, **kwargs` as they are written."""
    assert bulk.prices.key_for(1, 2) != bulk.prices.key_for(1, times=2)
    assert bulk.prices.key_for(1, times=2) == bulk.prices.key_for(*(1,), times=2)
    assert [60] == bulk.prices.starmap([bulk.prices.call(name, 3, times=20)])()


def test_an_exception_among_the_values_fails_its_call(bulk: ModuleType, shop: ModuleType, name: str) -> None:
    """The others have their values; by itself such a call fails as any other does."""
    results = list(bulk.prices.starmap(calls(name, 1, 13, 2)))

    assert [10, 20] == [results[0](timeout=LONG), results[2](timeout=LONG)]
    for result in (results[1], bulk.prices(name, 13)):
        with pytest.raises(shop.OutOfStock, match="one: 13 left"):
            result(timeout=LONG)


def test_an_error_of_the_body_fails_all(bulk: ModuleType, shop: ModuleType, name: str) -> None:
    """All calls of that batch have it, and no other batch has."""
    results = list(bulk.prices.starmap(calls(name, 1, 666, 2, 3), chunk=2))

    assert [20, 30] == [result(timeout=LONG) for result in results[2:]]
    for result in results[:2]:
        with pytest.raises(shop.OutOfStock, match="all: 666 left"):
            result(timeout=LONG)


def test_a_value_is_missing(bulk: ModuleType, name: str) -> None:
    """A batch of another length is an error that names the function and both numbers."""
    for result in bulk.forgetful.starmap(calls(name, 1, 2, 3)):
        with pytest.raises(UsageError, match=r"bulk\.forgetful is a batch function: it got 3 calls and returned 2"):
            result(timeout=LONG)
    with pytest.raises(UsageError, match=r"got 1 call and returned 0 values"):
        bulk.forgetful(name, 1)(timeout=LONG)


def test_values_without_an_order(bulk: ModuleType, name: str) -> None:
    """A set or a dict of values belongs to no calls."""
    with pytest.raises(UsageError, match="returned set"):
        bulk.unordered.starmap(calls(name, 1, 2))()


def test_an_async_def_gets_a_list_too(bulk: ModuleType, name: str) -> None:
    """It is run to its end in the worker."""
    assert [10, 20, 30] == bulk.late_prices.starmap(calls(name, 1, 2, 3))()
    assert 40 == bulk.late_prices(name, 4)(timeout=LONG)
    assert 1 == bulk.ledger.runs(f"{name}:size:3")


def test_only_what_is_wanted_still_is_given_to_the_body(bulk: ModuleType, start_shop: StartShop, name: str) -> None:
    """What was cancelled or computed while the message was queued is in no list."""
    queue = f"later-{name}"
    held = list(bulk.prices.with_options(queue=queue).starmap(calls(name, 1, 2, 3, 4)))
    held[1].cancel()
    assert held[2].claim()
    start_shop(queue=queue)

    assert [10, 30, 40] == [held[place](timeout=LONG) for place in (0, 2, 3)]
    assert (1, 1) == (bulk.ledger.runs(f"{name}:size:1"), bulk.ledger.runs(f"{name}:size:2"))


def test_a_batch_is_retried_as_one(bulk: ModuleType, client: redis.Redis, name: str) -> None:
    """All its flights are given back, and the retry is one message with the same calls."""
    results = list(bulk.stubborn_prices.starmap(calls(name, 1, 2, 3)))

    assert [10, 20, 30] == [result(timeout=LONG) for result in results]
    assert (2, 2) == (bulk.ledger.runs(name), bulk.ledger.runs(f"{name}:size:3"))
    assert 40 == bulk.stubborn_prices(f"{name}!", 4)(timeout=LONG)


def test_the_last_failure_of_a_batch_is_told_to_all(bulk: ModuleType, shop: ModuleType, name: str) -> None:
    """When the tries are used up, each call has the error."""
    for result in bulk.hopeless_prices.starmap(calls(name, 1, 2, 3)):
        with pytest.raises(shop.OutOfStock, match="all: 3 left"):
            result(timeout=LONG)
    assert 2 == bulk.ledger.runs(name)


def test_what_a_batch_tells_is_told_of_each_call(bulk: ModuleType, shop: ModuleType, name: str) -> None:
    """`progress()` and the tags of `current()` are those of all calls of the batch."""
    results = list(bulk.counted_prices.starmap(calls(name, 1, 2)))
    wait_until(lambda: {"half of it"} == {result.progress.message for result in results}, "the progress", LONG)
    bulk.ledger.open(name)
    assert [10, 20] == [result(timeout=LONG) for result in results]
    assert "hit" == bulk.counted_prices(name, 1).source
    shop.cache.invalidate(f"bulk:{name}")

    assert [None, None] == [bulk.counted_prices.join(name, 1), bulk.counted_prices.join(name, 2)]
    assert ["led", "led"] == [result.source for result in bulk.counted_prices.starmap(calls(name, 1, 2))]


def test_a_dead_child_loses_no_batch_that_comes_again(bulk: ModuleType, start_shop: StartShop, name: str) -> None:
    """With acks_late and reject_on_worker_lost the batch is computed again, and everybody has its values."""
    node, queue = start_shop(pool="prefork", concurrency=1)
    results = list(bulk.safe_prices.with_options(queue=queue).starmap(calls(name, 1, 2, 3)))
    bulk.ledger.wait_runs(name)
    node.kill_pool_process(bulk.ledger.pids(name)[0])

    assert [[1, 2], [2, 2], [3, 2]] == [result(timeout=LONG) for result in results]


def test_a_long_batch_keeps_its_flights(
    bulk: ModuleType, start_shop: StartShop, client: redis.Redis, name: str
) -> None:
    """The main process renews all of them: none vanishes while the body runs for longer than a lease."""
    _, queue = start_shop(pool="prefork", concurrency=1)
    results = list(bulk.safe_prices.with_options(queue=queue).starmap(calls(name, 1, 2, 3)))
    bulk.ledger.wait_runs(name)
    flights = [EntryKey.of(f"fragile:{result.key}".encode()).flight for result in results]
    with pytest.raises(AssertionError):
        wait_until(lambda: client.exists(*flights) != 3, "a flight to vanish", 3)
    bulk.ledger.open(f"{name}:gate")

    assert [[1, 1], [2, 1], [3, 1]] == [result(timeout=LONG) for result in results]


def test_without_a_worker_batches_are_of_one(client: redis.Redis) -> None:
    """With debug, inline and by itself the body is called with a list of one."""
    testing = Cache(debug=True)
    sizes = []

    @testing.cache_async(batch=True)
    def doubled(calls: list[BoundCall]) -> list[int]:
        sizes.append(len(calls))
        return [2 * call.args[0] for call in calls]

    assert [2, 4] == doubled.map([1, 2])()
    assert (6, 8) == (doubled(3)(), doubled.uncached(4))
    assert [1, 1, 1, 1] == sizes


# What is refused


def test_the_body_takes_one_list(shop: ModuleType) -> None:
    """A method, or a function of several parameters, is refused where it is decorated."""
    decorate: Any = shop.cache.cache_async(batch=True)
    with pytest.raises(UsageError, match="one list of calls"):
        decorate(lambda self, calls: [])


def test_batch_is_yes_or_no(shop: ModuleType) -> None:
    """A number of calls is `chunk=`, for each `map`."""
    with pytest.raises(UsageError, match="chunk="):
        shop.cache.cache_async(batch=50)
    with pytest.raises(UsageError, match="belongs to cache_async"):
        shop.cache.cached(batch=True)


def test_batch_cannot_be_changed_for_some_calls(bulk: ModuleType) -> None:
    """It decides about the key."""
    with pytest.raises(UsageError, match="decorated"):
        bulk.prices.with_options(batch=False)


def test_a_parameter_of_a_batch_cannot_be_ignored(shop: ModuleType) -> None:
    """Its calls have no parameters with names."""
    cache: Cache = shop.cache
    with pytest.raises(UsageError, match="no such parameter"):

        @cache.cache_async(batch=True, ignore=("log",))
        def prices(calls: list[BoundCall]) -> list[int]:
            return []
