"""This is where workers die in the middle of a computation, and those who wait get its value or are told why not."""

from __future__ import annotations

import importlib
import signal
import time
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
import redis

from taskcache import ComputationLost
from taskcache.protocol.entry import EntryKey
from tests.nodes.prompt import Prompt
from tests.nodes.waiting import wait_until
from tests.nodes.workers import Pool, WorkerNode
from tests.with_celery.apps import SHOP

pytestmark = pytest.mark.usefixtures("shop", "worker")

LONG = 30
LEASE_S = 2.0
# What the contract allows after a death; the first look of a waiter may be late on a busy machine.
TOLD_S = LEASE_S + 5

StartShop = Callable[..., tuple[WorkerNode, str]]


@pytest.fixture
def rescue(shop: ModuleType, worker: WorkerNode) -> Iterator[Callable[[str], None]]:
    """Let the shared worker serve another queue too: `rescue(queue)`."""
    queues = []

    def serve(queue: str) -> None:
        queues.append(queue)
        replies = shop.app.control.add_consumer(queue, destination=[worker.name], reply=True, timeout=10)
        assert replies, f"{worker!r} did not answer"

    yield serve
    for queue in queues:
        shop.app.control.cancel_consumer(queue, destination=[worker.name], reply=True, timeout=10)


@pytest.fixture(scope="module")
def prefork(_shop: ModuleType) -> Iterator[tuple[WorkerNode, str]]:
    """A prefork worker on a queue of its own, whose pool processes may be killed."""
    with WorkerNode(SHOP, pool="prefork", concurrency=2, env={"SHOP_QUEUE": "mortal"}) as node:
        yield node, "mortal"


def begin(shop: ModuleType, queue: str, name: str, function: str = "mortal") -> Any:
    """Call a function on a queue and wait until its body runs."""
    result = getattr(shop, function).with_options(queue=queue)(name)
    shop.ledger.wait_runs(name)
    return result


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_another_worker_takes_over(
    shop: ModuleType, start_shop: StartShop, rescue: Callable[[str], None], name: str, pool: Pool
) -> None:
    """A whole worker is killed; one waiter sees the flight vanish and has it computed by the worker that is left."""
    victim, queue = start_shop(pool=pool)
    result = begin(shop, queue, name)
    joined = shop.mortal(name)
    rescue(queue)
    shop.ledger.open(name)  # for the next one
    # The body looks every 10 ms: it is stopped before it sees the open gate only if it is killed first.
    victim.kill()
    died_at = time.monotonic()

    assert result(timeout=TOLD_S) == joined(timeout=TOLD_S)
    assert time.monotonic() - died_at < TOLD_S
    assert result() == shop.mortal(name)(block=False)


def test_a_worker_that_comes_back_takes_over(shop: ModuleType, start_shop: StartShop, name: str) -> None:
    """With no worker left the call is queued again, not lost; the worker that is started then computes it."""
    victim, queue = start_shop()
    result = begin(shop, queue, name)
    victim.kill()
    wait_until(lambda: result.state == "queued", "the call to be queued again", TOLD_S)
    shop.ledger.open(name)
    victim.start()

    assert f"{name} 2" == result(timeout=TOLD_S)


def test_a_frozen_worker_is_replaced_and_its_late_value_refused(
    shop: ModuleType, start_shop: StartShop, rescue: Callable[[str], None], name: str
) -> None:
    """A worker stopped for longer than its lease wakes up as a zombie: what it publishes is not stored."""
    frozen, queue = start_shop()
    result = begin(shop, queue, name)
    frozen.pause()
    rescue(queue)
    shop.ledger.wait_runs(name, 2, timeout=TOLD_S)
    shop.ledger.open(name)
    value = result(timeout=LONG)
    frozen.resume()
    wait_until(lambda: "succeeded" in frozen.log() or "ignored" in frozen.log(), "the zombie to finish", LONG)

    assert f"{name} 2" == value
    assert f"{name} 2" == shop.mortal(name)(block=False)


def test_a_pool_process_that_is_killed_is_told_of(shop: ModuleType, prefork: tuple[WorkerNode, str], name: str) -> None:
    """The worker's main process sees its child die and says so to all who wait."""
    node, queue = prefork
    result = begin(shop, queue, name)
    joined = shop.mortal(name)
    node.kill_pool_process(shop.ledger.pids(name)[0])

    for each in (result, joined):
        with pytest.raises(ComputationLost, match=r"died.*SIGKILL"):
            each(timeout=TOLD_S)
        assert "lost" == each.state


def test_a_call_after_a_death_computes(shop: ModuleType, prefork: tuple[WorkerNode, str], name: str) -> None:
    """A lost computation is no value: the next call begins another."""
    node, queue = prefork
    lost = begin(shop, queue, name)
    node.kill_pool_process(shop.ledger.pids(name)[0])
    with pytest.raises(ComputationLost):
        lost(timeout=TOLD_S)
    shop.ledger.open(name)

    assert f"{name} 2" == shop.mortal.with_options(queue=queue)(name)(timeout=LONG)


def test_a_message_that_comes_again_is_computed_again(
    shop: ModuleType, prefork: tuple[WorkerNode, str], name: str
) -> None:
    """With acks_late and reject_on_worker_lost the broker delivers again, and the waiters get that value."""
    node, queue = prefork
    result = begin(shop, queue, name, "redelivered")
    node.kill_pool_process(shop.ledger.pids(name)[0])
    shop.ledger.wait_runs(name, 2, timeout=TOLD_S)
    shop.ledger.open(name)

    assert f"{name} 2" == result(timeout=TOLD_S)
    assert 2 == shop.ledger.runs(name)


def test_a_message_that_celery_tries_again_is_waited_for(
    shop: ModuleType, prefork: tuple[WorkerNode, str], name: str
) -> None:
    """With retry_on_worker_lost the waiters get the value of Celery's next try, and are told when there is none."""
    node, queue = prefork
    tried_again = importlib.import_module("tests.with_celery.apps.mishaps").tried_again.with_options(queue=queue)
    result, lost = tried_again(name), tried_again(f"{name}-lost")
    shop.ledger.wait_runs(name)
    shop.ledger.wait_runs(f"{name}-lost")
    node.kill_pool_process(shop.ledger.pids(name)[0])
    shop.ledger.open(f"{name}:2")
    assert f"{name} 2" == result(timeout=LONG)
    for run in (1, 2):
        shop.ledger.wait_runs(f"{name}-lost", run)
        node.kill_pool_process(shop.ledger.pids(f"{name}-lost")[run - 1])

    with pytest.raises(ComputationLost, match=r"died.*SIGKILL"):
        lost(timeout=LONG)
    assert (2, 2) == (shop.ledger.runs(name), shop.ledger.runs(f"{name}-lost"))


def test_a_delay_that_celery_tries_again_ends_without_its_flight(
    shop: ModuleType, prefork: tuple[WorkerNode, str], client: redis.Redis, name: str
) -> None:
    """Who reads the value from Celery gets that of the next try, also when the server has forgotten the flight."""
    node, queue = prefork
    tried_again = importlib.import_module("tests.with_celery.apps.mishaps").tried_again
    sent = tried_again.apply_async((name,), queue=queue)
    shop.ledger.wait_runs(name)
    flight = EntryKey.of(shop.fragile.make_key(tried_again.key_for(name)).encode()).flight
    shop.ledger.open(f"{name}:2")
    node.kill_pool_process(shop.ledger.pids(name)[0])
    wait_until(lambda: client.hget(flight, "state") == b"retrying", "the flight to be given back")
    client.delete(flight)

    assert f"{name} 2" == sent.get(timeout=LONG)


def test_pool_processes_without_a_main_process_hold_nobody_up(
    shop: ModuleType, start_shop: StartShop, rescue: Callable[[str], None], name: str
) -> None:
    """When the main process alone dies, nobody renews the lease: another worker computes."""
    victim, queue = start_shop(pool="prefork", concurrency=1)
    result = begin(shop, queue, name)
    victim.kill_main()
    rescue(queue)
    shop.ledger.wait_runs(name, 2, timeout=TOLD_S)
    shop.ledger.open(name)

    assert f"{name} 2" == result(timeout=LONG)
    assert f"{name} 2" == shop.mortal(name)(block=False)


def test_a_worker_that_is_asked_to_end_finishes_first(shop: ModuleType, start_shop: StartShop, name: str) -> None:
    """A warm shutdown is no death: the lease is kept until the body has ended, and the value is stored."""
    node, queue = start_shop()
    result = begin(shop, queue, name)
    node.send(signal.SIGTERM)
    node.wait_for_log("Warm shutdown", LONG)
    with pytest.raises(AssertionError):
        wait_until(result.ready, "nothing, for longer than a lease", LEASE_S + 1)
    shop.ledger.open(name)

    assert f"{name} 1" == result(timeout=LONG)
    assert 1 == shop.ledger.runs(name)


def test_a_caller_that_dies_takes_nothing_with_it(shop: ModuleType, name: str) -> None:
    """The one who led the flight is killed; who joined it gets the value."""
    with Prompt(f"from {SHOP} import mortal") as prompt:
        prompt.ask(f"run('leader = mortal({name!r})')".replace(f"{name!r}", f'"{name}"'))
        shop.ledger.wait_runs(name)
        joined = shop.mortal(name)
        prompt.kill()
    shop.ledger.open(name)

    assert ("joined", f"{name} 1") == (joined.source, joined(timeout=LONG))
