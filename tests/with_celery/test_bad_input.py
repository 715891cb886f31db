"""This is where something is wrong with what a call needs, and the caller is told what and how to cure it, in time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import ModuleType
from typing import Any

import psutil
import pytest
import redis
from celery import Celery

from taskcache import (
    Cache,
    ComputationLost,
    DispatchFailed,
    Expired,
    NoServer,
    NotReady,
    Revoked,
    TimeLimitExceeded,
    UncacheableArgument,
    UnknownTask,
    UnstorableValue,
)
from taskcache.launchers.celery import CeleryLauncher
from taskcache.protocol import flight
from tests.nodes.server import ValkeyNode, free_port
from tests.nodes.waiting import wait_until
from tests.nodes.workers import WorkerNode
from tests.with_celery.apps import SHOP
from tests.with_celery.apps.shop_types import Keyed

pytestmark = pytest.mark.usefixtures("shop")

LONG = 30
StartShop = Callable[..., tuple[WorkerNode, str]]


@pytest.fixture(scope="module")
def limits(_shop: ModuleType) -> Iterator[str]:
    """The queue of a prefork worker, which can end a running body."""
    with WorkerNode(SHOP, pool="prefork", concurrency=2, env={"SHOP_QUEUE": "limits"}):
        yield "limits"


# Arguments and results


def test_an_argument_without_identity_is_refused_at_the_call(shop: ModuleType, client: redis.Redis) -> None:
    """What cannot be keyed is an error that names the argument, and nothing is begun."""
    with pytest.raises(UncacheableArgument, match="thing"):
        shop.takes(shop.Opaque())
    assert [] == client.keys("*")


def test_an_argument_that_cannot_travel_is_refused_at_the_call(shop: ModuleType, client: redis.Redis) -> None:
    """What has an identity and cannot be written down is refused before anything is elected."""
    with pytest.raises(UnstorableValue, match="argument of .*takes"):
        shop.takes(Keyed())
    assert [] == client.keys("*")


async def test_an_argument_that_cannot_travel_is_refused_to_a_coroutine(shop: ModuleType, client: redis.Redis) -> None:
    """The same for `await fn.aio(...)`."""
    with pytest.raises(UnstorableValue, match="argument of .*takes"):
        await shop.takes.aio(Keyed())
    assert [] == client.keys("*")


def test_arguments_that_do_not_fit_are_pythons_own_error(shop: ModuleType) -> None:
    """A call that Python would refuse is refused at once, in Python's words."""
    with pytest.raises(TypeError, match="unexpected|takes|missing"):
        shop.gated(1, 2, 3)


@pytest.mark.usefixtures("worker")
def test_a_result_that_cannot_be_stored_is_told(shop: ModuleType, name: str) -> None:
    """A value that no codec writes is the caller's to know; the flight is over, and a new call begins anew."""
    with pytest.raises(UnstorableValue, match=r"lock|Opaque"):
        shop.opaque(name)(timeout=LONG)
    assert None is shop.opaque.join(name)
    with pytest.raises(UnstorableValue):
        shop.opaque(name)(timeout=LONG)

    assert 2 == shop.ledger.runs(name)


# Servers that are away


def test_without_a_cache_server_the_call_computes_here(shop: ModuleType) -> None:
    """A dead cache breaks nobody: the value is computed in place, in bounded time."""
    cache = Cache(f"redis://127.0.0.1:{free_port()}/0", name="nowhere", app=shop.app)

    @cache.cache_async(name="nowhere.double")
    def double(number: int) -> int:
        return 2 * number

    began = time.monotonic()
    result = double(21)
    assert (42, "inline", "done") == (result(), result.source, result.state)
    assert 43 != double(22)(block=False)
    assert time.monotonic() - began < 15


def test_without_a_cache_server_the_call_raises_where_asked_to(shop: ModuleType) -> None:
    """`on_cache_error="raise"` gives NoServer, which says what to check."""
    cache = Cache(f"redis://127.0.0.1:{free_port()}/0", name="nowhere", app=shop.app)

    @cache.cache_async(name="nowhere.strict", on_cache_error="raise")
    def strict() -> int:
        return 1

    with pytest.raises(NoServer, match="127.0.0.1"):
        strict()


class Unbrokered:
    """A function whose broker is away, or accepts and never answers."""

    def __init__(self, redis_url: str, broker: str, name: str) -> None:
        self.app: Any = Celery("unbrokered", broker=broker, backend="disabled://", set_as_current=False)
        # What the user says counts; without a word it is five seconds.
        self.app.conf.broker_transport_options = {"socket_timeout": 1}
        self.cache = Cache(redis_url, name="unbrokered", app=self.app)
        self.runs: list[str] = []

        def double(number: int) -> int:
            self.runs.append(name)
            return 2 * number

        self.raises = self.cache.cache_async(name=f"{name}.double", timeout=60)(double)
        self.inline = self.raises.with_options(on_broker_error="inline")


@pytest.fixture(params=["refuses", "never answers"])
def unbrokered(
    request: pytest.FixtureRequest, start_valkey: Callable[..., ValkeyNode], redis_url: str, name: str
) -> Iterator[Unbrokered]:
    """A function with a broker that nobody can reach."""
    if request.param == "refuses":
        yield Unbrokered(redis_url, f"redis://127.0.0.1:{free_port()}/0", name)
        return
    node = start_valkey()
    node.pause()
    yield Unbrokered(redis_url, node.url(), name)
    node.resume()


def test_a_broker_that_is_away_is_told_in_time(unbrokered: Unbrokered, client: redis.Redis) -> None:
    """DispatchFailed names the broker, within seconds; the flight is over, so nobody waits for it."""
    unbrokered.app.conf.broker_transport_options = {}
    began = time.monotonic()
    with pytest.raises(DispatchFailed, match=r"broker redis://.*127.0.0.1.*check broker_url"):
        unbrokered.raises(21)
    assert time.monotonic() - began < 20

    assert [] == client.keys("{unbrokered:*:flight")
    assert None is unbrokered.raises.join(21)
    assert [] == unbrokered.runs


async def test_a_broker_that_is_away_is_told_to_a_coroutine(unbrokered: Unbrokered, client: redis.Redis) -> None:
    """The same for `await fn.aio(...)`."""
    with pytest.raises(DispatchFailed):
        await unbrokered.raises.aio(21)
    assert [] == client.keys("{unbrokered:*:flight")


def test_without_a_broker_the_call_computes_here_where_asked_to(unbrokered: Unbrokered, client: redis.Redis) -> None:
    """`on_broker_error="inline"`: the caller computes, others may wait for it, and the value is stored."""
    result = unbrokered.inline(21)

    assert (42, "inline") == (result(timeout=LONG), result.source)
    assert (42, "hit") == (unbrokered.inline(21)(block=False), unbrokered.raises(21).source)
    assert 1 == len(unbrokered.runs)
    assert [] == client.keys("{unbrokered:*:flight")


def test_without_a_broker_many_calls_wait_for_it_once(unbrokered: Unbrokered, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first call of a `map` has heard that nobody is there; the others are computed at once."""
    tried, launch = [], CeleryLauncher.launch

    def counted(self: CeleryLauncher, token: str) -> None:
        # Another test's flight may be sent again by this process just now.
        if self._function.name == unbrokered.inline.name:
            tried.append(token)
        launch(self, token)

    monkeypatch.setattr(CeleryLauncher, "launch", counted)
    batch = unbrokered.inline.map(range(4))

    assert [0, 2, 4, 6] == batch()
    assert (1, 4, ["inline"] * 4) == (len(tried), len(unbrokered.runs), [result.source for result in batch])


async def test_without_a_broker_a_coroutine_gets_its_value_where_asked_to(unbrokered: Unbrokered) -> None:
    """The same for `await fn.aio(...)`; the loop goes on meanwhile."""
    result = await unbrokered.inline.aio(22)

    assert (44, "inline") == (await result, result.source)
    assert 44 == await (await unbrokered.raises.aio(22))
    assert 1 == len(unbrokered.runs)


# Workers that do not fit


def test_a_worker_that_does_not_know_the_task_is_named(shop: ModuleType, start_shop: StartShop, name: str) -> None:
    """A worker with older code ends the wait in seconds, with the cure."""
    _, queue = start_shop(env={"SHOP_CODE": "old"})
    result = shop.newest.with_options(queue=queue)(name)

    with pytest.raises(UnknownTask, match=r"newest.*import the module"):
        result(timeout=10)
    assert "lost" == result.state
    assert None is shop.newest.join(name)


@pytest.mark.parametrize("secret", ["", "another secret of these tests"])
def test_a_worker_without_the_secret_is_named(shop: ModuleType, start_shop: StartShop, name: str, secret: str) -> None:
    """What worker and caller cannot trust of each other ends the wait; the message names TASKCACHE_SECRET."""
    _, queue = start_shop(env={"SHOP_SECRET": secret})

    with pytest.raises(ComputationLost, match="TASKCACHE_SECRET"):
        shop.echo.with_options(queue=queue)("value", name)(timeout=LONG)


def test_a_worker_with_other_code_is_named(shop: ModuleType, start_shop: StartShop, name: str) -> None:
    """A worker where the same arguments make another key would store its value where nobody looks: it says so."""
    _, queue = start_shop(env={"SHOP_CODE": "other"})

    with pytest.raises(ComputationLost, match="another version of .*versioned"):
        shop.versioned.with_options(queue=queue)(name)(timeout=LONG)


# Celery's own ways to end a task


def test_a_hard_time_limit_is_told(shop: ModuleType, limits: str, name: str) -> None:
    """A body that is ended by its time limit is TimeLimitExceeded, with the limit."""
    result = shop.too_long.with_options(queue=limits)(name)

    with pytest.raises(TimeLimitExceeded, match="time limit of 1"):
        result(timeout=LONG)
    assert ("lost", 1) == (result.state, shop.ledger.runs(name))


def test_a_soft_time_limit_is_an_error_of_the_body(shop: ModuleType, limits: str, name: str) -> None:
    """Celery raises SoftTimeLimitExceeded inside the body; unhandled, it reaches the caller like any error."""
    with pytest.raises(Exception, match="SoftTimeLimitExceeded"):
        shop.rather_long.with_options(queue=limits)(name)(timeout=LONG)


def test_a_task_that_is_revoked_while_it_runs_is_told(shop: ModuleType, limits: str, name: str) -> None:
    """`revoke(terminate=True)` ends the wait with Revoked."""
    result = shop.gated.with_options(queue=limits)(name)
    shop.ledger.wait_runs(name)
    shop.app.control.revoke(result.task_id, terminate=True)

    with pytest.raises(Revoked, match="revoked while it ran"):
        result(timeout=LONG)


def test_a_task_that_is_revoked_in_its_queue_is_told(shop: ModuleType, start_shop: StartShop, name: str) -> None:
    """A worker that takes a revoked task from its queue says so."""
    node, queue = start_shop(concurrency=1)
    function = shop.gated.with_options(queue=queue)
    running = function(name)
    shop.ledger.wait_runs(name)
    # One more is in the worker's hands already, and Celery would run that one.
    _, waiting = function(f"{name}-prefetched"), function(f"{name}-waiting")
    shop.app.control.revoke(waiting.task_id)
    node.wait_for_log("flagged as revoked", LONG)
    shop.ledger.open(f"{name}-prefetched")
    shop.ledger.open(name)

    assert f"{name} 1" == running(timeout=LONG)
    with pytest.raises(Revoked, match="before it ran"):
        waiting(timeout=LONG)
    assert 0 == shop.ledger.runs(f"{name}-waiting")


@pytest.mark.usefixtures("worker")
def test_a_task_that_expires_in_its_queue_is_told(shop: ModuleType, worker: WorkerNode, name: str) -> None:
    """What no worker took in time is Expired, as soon as a worker looks at it."""
    queue = f"expiring-{name}"
    result = shop.gated.with_options(queue=queue, expires=0.2)(name)
    sent_at = time.monotonic()
    wait_until(lambda: time.monotonic() - sent_at > 0.3, "the message to expire")
    shop.app.control.add_consumer(queue, destination=[worker.name], reply=True, timeout=10)

    with pytest.raises(Expired, match="expires="):
        result(timeout=LONG)
    assert 0 == shop.ledger.runs(name)
    shop.app.control.cancel_consumer(queue, destination=[worker.name], reply=True, timeout=10)


@pytest.mark.usefixtures("worker")
def test_an_abandoned_task_is_revoked_where_asked_to(shop: ModuleType, limits: str, name: str) -> None:
    """With `revoke_when_abandoned` the last waiter who leaves ends the running body."""
    result = shop.abandoned.with_options(queue=limits)(name)
    shop.ledger.wait_runs(name)
    pid = shop.ledger.pids(name)[0]
    result.cancel()

    wait_until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie", "the body's end", LONG)
    shop.ledger.open(name)
    assert f"{name} 2" == shop.abandoned.with_options(queue=limits)(name)(timeout=LONG)


@pytest.mark.usefixtures("worker")
def test_whoever_comes_while_the_last_one_leaves_is_served(
    shop: ModuleType, limits: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the same process, between the decision to leave and the server's word: its flight is revoked, and it has a value."""
    abandoned, depart, joined = shop.abandoned.with_options(queue=limits), flight.depart, []

    def depart_late(*args: Any, **options: Any) -> Any:
        joined.append(abandoned(name))
        return depart(*args, **options)

    result = abandoned(name)
    shop.ledger.wait_runs(name)
    monkeypatch.setattr(flight, "depart", depart_late)
    result.cancel()
    shop.ledger.wait_runs(name, 2)
    shop.ledger.open(name)

    assert [f"{name} 2"] == [each(timeout=LONG) for each in joined]


# A queue that nobody serves


def test_a_queue_that_nobody_serves_is_queued_and_not_lost(shop: ModuleType, name: str) -> None:
    """Without a worker the call waits; its state says so, and it can be left."""
    result = shop.gated.with_options(queue="served by nobody")(name)
    wait_until(lambda: result.state == "queued", "the state")

    assert (False, "queued") == (result.ready(), result.state)
    assert True is result.cancel()


def test_a_queue_that_nobody_serves_is_served_by_the_waiter_where_asked_to(shop: ModuleType, name: str) -> None:
    """With `inline_after` the waiter claims the flight and computes it here."""
    shop.ledger.open(name)
    result = shop.gated.with_options(queue="served by nobody", inline_after=0.2)(name)

    assert f"{name} 1" == result(timeout=LONG)
    assert f"{name} 1" == shop.gated(name)(block=False)


def test_inline_after_counts_from_the_call(shop: ModuleType, name: str) -> None:
    """Who asks again and again with a short timeout computes it too, once it has been in the queue for so long."""
    shop.ledger.open(name)
    result = shop.gated.with_options(queue="served by nobody", inline_after=0.3)(name)
    for _ in range(60):
        if result(timeout=0.05, default=None) is not None:
            break

    assert f"{name} 1" == result(timeout=0)


async def test_inline_after_counts_from_the_call_on_a_loop(shop: ModuleType, name: str) -> None:
    """The same for those who await it."""
    shop.ledger.open(name)
    result = shop.gated.with_options(queue="served by nobody", inline_after=0.3)(name)
    for _ in range(60):
        with suppress(NotReady):
            await result.wait(timeout=0.05)
            break

    assert f"{name} 1" == result(timeout=0)


def test_a_waiter_that_computes_takes_the_arguments_of_the_call(shop: ModuleType) -> None:
    """What the caller does with its list afterwards is not computed under the old key."""
    items = [1, 2]
    late = shop.echo.with_options(queue="served by nobody", inline_after=0.2)
    result = late(items)
    items.append(3)

    assert [1, 2] == result(timeout=LONG)
    assert [1, 2] == shop.echo([1, 2])(timeout=LONG)


def test_one_who_looks_at_the_progress_may_compute_too(shop: ModuleType) -> None:
    """Inside a worker it would else wait for the slot that it is in."""
    result = shop.echo.with_options(queue="served by nobody", inline_after=0.2)("watched")

    assert ([], True) == (list(result.updates(timeout=LONG)), result.ready())
