"""This is where calls travel in chunks: fewer messages, and for each call all that a message of its own gives it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
import redis
from celery.signals import before_task_publish

from taskcache import Cancelled, ComputationLost, DispatchFailed, NoServer, UnknownTask, UsageError, as_completed
from taskcache.launchers import chunk as chunk_module
from taskcache.launchers import producers
from taskcache.launchers.celery import CeleryLauncher
from tests.nodes.waiting import wait_until
from tests.nodes.workers import WorkerNode
from tests.with_celery.apps import SHOP

pytestmark = pytest.mark.usefixtures("shop", "worker")

LONG = 30

StartShop = Callable[..., tuple[WorkerNode, str]]


@pytest.fixture
def sent() -> Iterator[list[dict[str, Any]]]:
    """The headers of all messages that this process sends."""
    seen: list[dict[str, Any]] = []

    def note(headers: dict[str, Any], **_: Any) -> None:
        seen.append(headers)

    before_task_publish.connect(note)
    yield seen
    before_task_publish.disconnect(note)


@pytest.fixture(scope="module")
def prefork(_shop: ModuleType) -> Iterator[tuple[WorkerNode, str]]:
    """A prefork worker on a queue of its own, whose pool processes may be killed."""
    with WorkerNode(SHOP, pool="prefork", concurrency=2, env={"SHOP_QUEUE": "bulk"}) as node:
        yield node, "bulk"


def calls(name: str, *numbers: int) -> list[tuple[str, int]]:
    return [(name, number) for number in numbers]


def test_calls_share_messages(bulk: ModuleType, name: str, sent: list[dict[str, Any]]) -> None:
    """Seven calls, three to a message: three messages, and every value in its place."""
    batch = bulk.part.starmap(calls(name, *range(7)), chunk=3)

    assert [number * 10 for number in range(7)] == batch.all()(timeout=LONG)
    assert 3 == len(sent)
    assert 7 == bulk.ledger.runs(name)
    assert {"led"} == {result.source for result in bulk.part.starmap([(f"{name}!", 1)], chunk=3)}


def test_calls_with_long_keys_need_more_messages(
    bulk: ModuleType, name: str, sent: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keys of a message's calls are in its header, which has its bounds."""
    monkeypatch.setattr(chunk_module, "HEADER_BYTES", 300)
    values = bulk.part.starmap(calls(name, *range(6)), chunk=6)()

    assert [number * 10 for number in range(6)] == values
    assert 2 <= len(sent) <= 6


def test_without_chunk_each_call_has_a_message(bulk: ModuleType, name: str, sent: list[dict[str, Any]]) -> None:
    """The default is one call to a message, whose id is the call's own."""
    results = list(bulk.part.starmap(calls(name, 1, 2)))

    assert [10, 20] == [result(timeout=LONG) for result in results]
    assert [result.task_id for result in results] == [each["id"] for each in sent]


def test_a_message_says_which_calls_it_carries(bulk: ModuleType, name: str, sent: list[dict[str, Any]]) -> None:
    """Celery's tools show the arguments of the first calls, in bounded length."""
    bulk.part.starmap(calls(name, *range(3)), chunk=3)()
    bulk.part.starmap(calls(f"{name}!", *range(20, 70)), chunk=50)()
    short, long = (each["argsrepr"] for each in sent)

    assert f"3 calls: ('{name}', 0), ('{name}', 1), ('{name}', 2)" == short
    assert long.startswith("50 calls: ")
    assert long.endswith(", ...")
    assert len(long) < 1100


def test_hits_and_calls_of_others_are_not_sent(bulk: ModuleType, name: str, sent: list[dict[str, Any]]) -> None:
    """Only what this process leads goes into a message."""
    bulk.part(name, 1)(timeout=LONG)
    bulk.part(name, 100)
    results = list(bulk.part.starmap(calls(name, 1, 2, 100, 3), chunk=10))
    bulk.ledger.open(f"{name}:100")

    assert [10, 20, 1000, 30] == [result(timeout=LONG) for result in results]
    assert ["hit", "led", "joined", "led"] == [result.source for result in results]
    assert sent[-1]["argsrepr"].startswith("2 calls: ")


def test_results_come_as_each_is_there(bulk: ModuleType, name: str) -> None:
    """A call that is held up at the end of a chunk holds up none before it."""
    results = list(bulk.part.starmap(calls(name, 1, 2, 100), chunk=3))
    first = [next(arrived)() for arrived in [iter(as_completed(results, timeout=LONG))] for _ in range(2)]
    waiting = results[2]
    wait_until(lambda: waiting.state == "running", "the last one to run", LONG)
    bulk.ledger.open(f"{name}:100")

    assert [10, 20] == first
    assert 1000 == waiting(timeout=LONG)


async def test_chunks_can_be_awaited(bulk: ModuleType, name: str) -> None:
    """`async for` and `await` take them like others; `aio.warm` does not block the loop."""
    warmed = await bulk.part.aio.warm(calls(name, 1, 2), chunk=2)

    assert [10, 20] == await warmed
    assert [10, 20, 30] == await bulk.part.starmap(calls(name, 1, 2, 3), chunk=2)
    assert [10, 40] == [await result async for result in bulk.part.starmap(calls(name, 1, 4), chunk=2)]


def test_one_failing_call_fails_alone(bulk: ModuleType, shop: ModuleType, worker: WorkerNode, name: str) -> None:
    """The others of its chunk have their values; Celery hears that its message had a failure."""
    results = list(bulk.part.starmap(calls(name, 1, 13, 2), chunk=3))

    assert [10, 20] == [results[0](timeout=LONG), results[2](timeout=LONG)]
    with pytest.raises(shop.OutOfStock, match="13 left"):
        results[1](timeout=LONG)
    worker.wait_for_log("1 of 3 calls of tests.with_celery.apps.bulk.part", LONG)


def test_a_body_without_its_own_cache_fails_alone(bulk: ModuleType, name: str, sent: list[dict[str, Any]]) -> None:
    """What it raises is what a worker raises that cannot reach ours, and then nobody could be told anything."""
    results = list(bulk.part.starmap(calls(name, 14, 1, 2), chunk=3))

    assert [10, 20] == [result(timeout=LONG) for result in results[1:]]
    with pytest.raises(NoServer, match="another cache"):
        results[0](timeout=LONG)
    assert 1 == len(sent)


def test_a_call_whose_arguments_fit_nothing_fails_alone(bulk: ModuleType, name: str) -> None:
    """It is never sent."""
    results = list(bulk.part.starmap([(name, 1), (name, 2, 3), (name, 4)], chunk=3))

    assert [10, 40] == [results[0](timeout=LONG), results[2](timeout=LONG)]
    assert isinstance(results[1].exception, TypeError)


def test_what_was_computed_meanwhile_is_skipped(bulk: ModuleType, name: str) -> None:
    """A call is claimed when its turn comes: what has its value by then is not run again."""
    results = list(bulk.part.starmap(calls(name, 100, 1, 2), chunk=3))
    bulk.ledger.wait_runs(f"{name}:100")
    assert results[1].claim()
    bulk.ledger.open(f"{name}:100")

    assert [1000, 10, 20] == [result(timeout=LONG) for result in results]
    assert [1, 1] == [bulk.ledger.runs(f"{name}:1"), bulk.ledger.runs(f"{name}:2")]


def test_a_cancelled_call_is_skipped_and_the_rest_goes_on(bulk: ModuleType, name: str) -> None:
    """Leaving one call, of a function that is revoked when it is abandoned, revokes no other call of its message."""
    results = list(bulk.fickle.starmap(calls(name, 1, 2, 3), chunk=3))
    bulk.ledger.wait_runs(f"{name}:1")
    results[1].cancel()
    bulk.ledger.open(name)

    assert [10, 30] == [results[0](timeout=LONG), results[2](timeout=LONG)]
    with pytest.raises(Cancelled):
        results[1]()
    assert 0 == bulk.ledger.runs(f"{name}:2")


def test_a_message_is_revoked_when_all_its_calls_are_left(
    bulk: ModuleType, prefork: tuple[WorkerNode, str], name: str
) -> None:
    """With revoke_when_abandoned, leaving every call of a chunk ends what runs."""
    node, queue = prefork
    results = list(bulk.fickle.with_options(queue=queue).starmap(calls(name, 1, 2), chunk=2))
    bulk.ledger.wait_runs(f"{name}:1")
    for result in results:
        result.cancel()

    node.wait_for_log("Terminating", LONG)
    assert 0 == bulk.ledger.runs(f"{name}:2")


def test_a_retry_is_of_one_call(bulk: ModuleType, name: str, sent: list[dict[str, Any]]) -> None:
    """Celery's own retry comes back as a message of that call alone; the chunk goes on meanwhile."""
    batch = bulk.stubborn.starmap(calls(name, 0, 1, 2, 3), chunk=4)

    assert [0, 10, 20, 30] == batch.all()(timeout=LONG)
    assert 6 == bulk.ledger.runs(name)
    assert 1 == len(sent)


def test_each_call_has_a_request_of_its_own(bulk: ModuleType, name: str) -> None:
    """Inside of the body Celery's task id is the call's."""
    results = list(bulk.part.starmap(calls(name, 1, 2), chunk=2))
    for result in results:
        result(timeout=LONG)

    assert [1, 1] == [bulk.ledger.runs(f"{name}:message:{result.task_id}") for result in results]


def test_a_body_that_maps_its_own_call_does_not_wait_for_itself(bulk: ModuleType, name: str) -> None:
    """As with a plain call, the same key inside of its own computation is computed without the cache."""
    assert ["inner"] == bulk.circle(name)(timeout=LONG)


def test_a_dead_child_loses_no_call_of_a_message_that_comes_again(
    bulk: ModuleType, prefork: tuple[WorkerNode, str], name: str, sent: list[dict[str, Any]]
) -> None:
    """With acks_late and reject_on_worker_lost the chunk is delivered again: one call runs twice, the others once."""
    node, queue = prefork
    results = list(bulk.safe.with_options(queue=queue).starmap(calls(name, *range(6)), chunk=6))
    bulk.ledger.wait_runs(f"{name}:3")
    node.kill_pool_process(bulk.ledger.pids(f"{name}:3")[0])

    assert [[0, 1], [1, 1], [2, 1], [3, 2], [4, 1], [5, 1]] == [result(timeout=LONG) for result in results]
    assert 7 == bulk.ledger.runs(name)
    assert 1 == len(sent)


def test_a_dead_child_loses_one_call_of_a_message_that_is_gone(
    bulk: ModuleType, prefork: tuple[WorkerNode, str], name: str
) -> None:
    """Without redelivery who waits for the running call is told; those whose turn had not come are sent by themselves."""
    node, queue = prefork
    results = list(bulk.unsafe.with_options(queue=queue).starmap(calls(name, *range(5)), chunk=5))
    bulk.ledger.wait_runs(f"{name}:3")
    node.kill_pool_process(bulk.ledger.pids(f"{name}:3")[0])

    assert [[0, 1], [1, 1], [2, 1]] == [result(timeout=LONG) for result in results[:3]]
    with pytest.raises(ComputationLost, match="died"):
        results[3](timeout=LONG)
    assert [4, 1] == results[4](timeout=LONG)


def test_a_dead_child_takes_no_call_with_it_that_waits_for_its_retry(
    bulk: ModuleType, prefork: tuple[WorkerNode, str], name: str
) -> None:
    """The retry of an earlier call is a message of its own, and comes whatever becomes of the chunk."""
    node, queue = prefork
    results = list(bulk.unsafe_stubborn.with_options(queue=queue).starmap(calls(name, 1, 2, 3), chunk=3))
    bulk.ledger.wait_runs(f"{name}:3")
    node.kill_pool_process(bulk.ledger.pids(f"{name}:3")[0])

    with pytest.raises(ComputationLost, match="died"):
        results[2](timeout=LONG)
    assert [[1, 2], [2, 1]] == [result(timeout=LONG) for result in results[:2]]


def test_a_body_that_keeps_the_gil_keeps_its_flight(
    bulk: ModuleType, prefork: tuple[WorkerNode, str], name: str
) -> None:
    """The main process renews whichever call of the chunk runs: none is computed twice."""
    _, queue = prefork
    results = list(bulk.gripping.with_options(queue=queue).starmap(calls(name, 1, 2, 3), chunk=3))

    assert [[1, 1], [2, 1], [3, 1]] == [result(timeout=LONG) for result in results]


def test_a_time_limit_is_for_each_call(bulk: ModuleType, prefork: tuple[WorkerNode, str], name: str) -> None:
    """Three calls have the time of three; the one that takes all of it is told of, and the third is sent again."""
    _, queue = prefork
    results = list(bulk.limited.with_options(queue=queue).starmap(calls(name, 0, 1, 2), chunk=3))

    assert [0, 1] == results[0](timeout=LONG)
    with pytest.raises(ComputationLost, match="time limit of 3"):
        results[1](timeout=LONG)
    assert [2, 1] == results[2](timeout=LONG)


def test_a_revoked_message_is_told_to_all_its_calls(
    bulk: ModuleType, shop: ModuleType, prefork: tuple[WorkerNode, str], name: str, sent: list[dict[str, Any]]
) -> None:
    """An operator ends the task: who waits for any of its calls hears so."""
    _, queue = prefork
    results = list(bulk.fickle.with_options(queue=queue).starmap(calls(name, 1, 2, 3), chunk=3))
    bulk.ledger.wait_runs(f"{name}:1")
    shop.app.control.revoke(sent[0]["id"], terminate=True)

    for result in results:
        with pytest.raises(ComputationLost, match="revoked"):
            result(timeout=LONG)


def test_a_chunk_that_is_delivered_twice_runs_once(
    bulk: ModuleType, start_shop: StartShop, lasting_broker_url: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second delivery finds calls taken or ended; a taken one is sent again by itself, to the queue it came from."""
    node, queue = start_shop(concurrency=2, env={"SHOP_QUEUE": f"other-{name}"}, queue=name, extra=["-Q", name])
    send = CeleryLauncher._send

    def twice(self: Any, *args: Any) -> None:
        send(self, *args)
        send(self, *args)

    monkeypatch.setattr(CeleryLauncher, "_send", twice)
    results = list(bulk.part.with_options(queue=queue).starmap(calls(name, 1, 100, 2), chunk=3))
    bulk.ledger.wait_runs(f"{name}:2")  # by the second one: the first is held up
    node.wait_for_log(f"[{results[1].task_id}] received", LONG)
    bulk.ledger.open(f"{name}:100")

    assert [10, 1000, 20] == [result(timeout=LONG) for result in results]
    assert [1, 1, 1] == [bulk.ledger.runs(f"{name}:{number}") for number in (1, 100, 2)]
    with redis.Redis.from_url(lasting_broker_url) as broker:
        assert 0 == broker.llen(f"other-{name}")


def test_a_lost_message_is_sent_again_whole(
    bulk: ModuleType,
    start_shop: StartShop,
    lasting_broker_url: str,
    name: str,
    sent: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody has taken it and its queue is empty: one message brings all of its calls again."""
    monkeypatch.setattr(chunk_module, "MISSING_S", 0.5)
    monkeypatch.setattr(chunk_module, "TOGETHER_S", 0.4)
    results = list(bulk.part.with_options(queue=name).starmap(calls(name, 1, 2, 3), chunk=3))
    with redis.Redis.from_url(lasting_broker_url) as broker:
        assert 1 == broker.delete(name)
    wait_until(lambda: len(sent) == 2, "the message to be sent again", LONG)
    start_shop(queue=name)

    assert [10, 20, 30] == [result(timeout=LONG) for result in results]
    assert [sent[0]["id"]] * 2 == [each["id"] for each in sent[:2]]
    assert 3 == bulk.ledger.runs(name)


def test_a_worker_that_does_not_know_the_function_is_told_of(
    shop: ModuleType, start_shop: StartShop, name: str
) -> None:
    """Celery keeps that word under the chunk's task id, and every call of it hears it."""
    _, queue = start_shop(env={"SHOP_CODE": "old"})
    for result in shop.newest.with_options(queue=queue).map([name, f"{name}!"], chunk=2):
        with pytest.raises(UnknownTask, match="newest"):
            result(timeout=LONG)


def test_a_worker_with_other_code_refuses_every_call(shop: ModuleType, start_shop: StartShop, name: str) -> None:
    """The same arguments make another key there; each call hears it."""
    _, queue = start_shop(env={"SHOP_CODE": "other"})
    for result in shop.versioned.with_options(queue=queue).map([name, f"{name}!"], chunk=2):
        with pytest.raises(ComputationLost, match="another version"):
            result(timeout=LONG)


def test_a_broker_that_is_away_fails_every_call(bulk: ModuleType, shop: ModuleType, name: str) -> None:
    """Each call of the chunk has the error and was ours; with "inline" each is computed here."""
    good = shop.app.conf.broker_write_url
    shop.app.conf.broker_write_url = "redis://127.0.0.1:1/0"
    producers._kept.clear()
    try:
        failed = list(bulk.part.starmap(calls(name, 1, 2), chunk=2))
        inline = list(bulk.part.with_options(on_broker_error="inline").starmap(calls(name, 3, 4), chunk=2))
    finally:
        shop.app.conf.broker_write_url = good
        producers._kept.clear()

    assert [(DispatchFailed, "led")] * 2 == [(type(result.exception), result.source) for result in failed]
    assert [30, 40] == [result(timeout=LONG) for result in inline]
    assert ["inline", "inline"] == [result.source for result in inline]


def test_eager_chunks_run_here(bulk: ModuleType, shop: ModuleType, name: str) -> None:
    """With task_always_eager the calls of a chunk have run when the map was read."""
    shop.app.conf.update(task_always_eager=True, task_store_eager_result=False)
    try:
        results = list(bulk.part.starmap(calls(name, 1, 13, 2), chunk=3))
        batch = list(bulk.prices.starmap(calls(f"{name}!", 1, 13, 2), chunk=3))
    finally:
        shop.app.conf.update(task_always_eager=False)

    assert [10, 20, 10, 20] == [result(timeout=1) for result in (results[0], results[2], batch[0], batch[2])]
    assert [shop.OutOfStock] * 2 == [type(result.exception) for result in (results[1], batch[1])]


@pytest.mark.parametrize("chunk", [0, -1, 1001, True, 2.0, "3"])
def test_a_chunk_is_a_number_of_calls(bulk: ModuleType, chunk: Any) -> None:
    """From 1 to 1000, the calls that are looked up together."""
    with pytest.raises(UsageError, match="from 1 to 1000"):
        bulk.part.map([1], chunk=chunk)


def test_cached_functions_send_nothing(shop: ModuleType) -> None:
    """`chunk=` of a function that is computed here is a mistake."""
    cached: Any = shop.cache.cached()(lambda number: number)
    with pytest.raises(UsageError, match="computed here"):
        cached.map([1], chunk=3)
