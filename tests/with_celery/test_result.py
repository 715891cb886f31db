"""This is where a caller holds a result: calls it, awaits it, asks it, shares it, and leaves it."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from datetime import timedelta
from types import ModuleType
from typing import Any

import pytest
from celery.exceptions import TimeoutError as CeleryTimeout
from msgspec.structs import replace

from taskcache import Cache, Cancelled, NotReady, Result, UsageError
from taskcache.calls.current import Progress
from tests.nodes.prompt import Prompt
from tests.nodes.waiting import wait_until
from tests.with_celery.apps import SHOP

pytestmark = pytest.mark.usefixtures("shop", "worker")

LONG = 30


# Calling it


def test_calling_waits_for_the_value(shop: ModuleType, held: Result[str], name: str) -> None:
    """A call without arguments blocks until the value is there."""
    threading.Timer(0.2, shop.ledger.open, [name]).start()

    assert f"{name} 1" == held()


def test_the_value_is_the_same_object_every_time(shop: ModuleType, worker: object, name: str) -> None:
    """However often a result is called, it gives one object."""
    result = shop.echo(["mutable"], name)

    assert result(timeout=LONG) is result()
    assert result(block=False) is result(timeout=0)


def test_what_is_not_there_is_an_empty_queue(held: Result[str]) -> None:
    """Without waiting, a call raises NotReady, which code written for queues catches as `queue.Empty`."""
    with pytest.raises(queue.Empty):
        held(block=False)
    with pytest.raises(NotReady, match="not there yet"):
        held(False)


def test_a_timeout_limits_the_wait_and_not_the_computation(shop: ModuleType, held: Result[str], name: str) -> None:
    """After `timeout` seconds NotReady is raised, and later the value is there all the same."""
    began = time.monotonic()
    with pytest.raises(NotReady):
        held(timeout=0.2)
    with pytest.raises(NotReady):
        held(timeout=timedelta(milliseconds=100))
    waited = time.monotonic() - began
    shop.ledger.open(name)

    assert 0.3 <= waited < 5
    assert f"{name} 1" == held(timeout=LONG)


def test_a_timeout_of_zero_looks_once(shop: ModuleType, held: Result[str], name: str) -> None:
    """Zero does not wait, and gives the value where it is there."""
    with pytest.raises(NotReady):
        held(timeout=0)
    shop.ledger.open(name)
    held(timeout=None)

    assert f"{name} 1" == held(timeout=0)


@pytest.mark.parametrize("timeout", [-1, "4", True, float("nan"), [1]])
def test_a_timeout_that_is_no_duration_is_refused(held: Result[str], timeout: Any) -> None:
    """Negative numbers, texts and the like are mistakes of the caller, told at once."""
    with pytest.raises(UsageError, match="timeout"):
        held(timeout=timeout)
    with pytest.raises(TypeError, match="timeout"):
        held(block=False, timeout=timeout)


def test_block_is_true_or_false(held: Result[str]) -> None:
    """`result(4)` was meant as a timeout; the error says so."""
    with pytest.raises(UsageError, match="timeout="):
        held(4)  # type: ignore[call-overload]  # the mistake


def test_a_default_stands_in_for_not_ready(shop: ModuleType, held: Result[str], name: str) -> None:
    """With `default=` nothing is raised, and None is a default as good as any."""
    assert "soon" == held(block=False, default="soon")
    assert None is held(timeout=0.05, default=None)
    shop.ledger.open(name)
    assert f"{name} 1" == held(timeout=LONG, default="soon")


def test_a_default_does_not_hide_an_error(shop: ModuleType, name: str) -> None:
    """An error of the function is raised also where a default is given."""
    result = shop.raises(name)
    with pytest.raises(shop.OutOfStock):
        result(timeout=LONG, default="fine")
    with pytest.raises(shop.OutOfStock):
        result(block=False, default="fine")


def test_an_error_does_not_grow_with_each_call(shop: ModuleType, name: str) -> None:
    """It is one object, as a value is; its traceback is that of the latest call alone."""
    result, ways = shop.raises(name), []
    for _ in range(3):
        with pytest.raises(shop.OutOfStock) as raised:
            result(timeout=LONG)
        ways.append(len(raised.traceback))

    assert raised.value is result.exception
    assert [ways[0]] * 3 == ways


# Asking it


def test_it_says_where_it_stands(shop: ModuleType, held: Result[str], name: str) -> None:
    """State, source and ready() tell what is known before and after."""
    wait_until(lambda: held.state == "running", "the state", LONG)

    assert (False, "led") == (held.ready(), held.source)
    assert "joined" == shop.gated(name).source
    shop.ledger.open(name)
    held(timeout=LONG)
    assert (True, "done", "led") == (held.ready(), held.state, held.source)
    hit = shop.gated(name)
    assert (True, "done", "hit") == (hit.ready(), hit.state, hit.source)


def test_it_says_how_old_and_how_lasting_the_value_is(shop: ModuleType, held: Result[str], name: str) -> None:
    """Age counts from the beginning of the computation, `expires_in` is what is left of its lifetime."""
    before = (held.age, held.expires_in)
    shop.ledger.open(name)
    held(timeout=LONG)

    assert (None, None) == before
    assert held.age is not None
    assert 0 <= held.age < 30
    assert held.expires_in is not None
    assert 30 < held.expires_in <= 60


def test_progress_is_told_as_it_comes(shop: ModuleType, name: str) -> None:
    """`updates()` yields every step that the body waits at, and ends with the body."""
    result = shop.told(name)
    seen = []
    for progress in result.updates(timeout=LONG):
        seen.append(progress)
        shop.ledger.open(f"{name}:{int(progress.done)}")

    assert [Progress(done, 3, f"step {done}") for done in (1, 2, 3)] == seen
    assert name == result(timeout=LONG)
    assert [] == list(shop.told(name).updates())


def test_updates_leave_nothing_behind(held: Result[str]) -> None:
    """However often they are asked for, as by a page that shows them."""
    for _ in range(10):
        assert [] == list(held.updates(timeout=0.01))

    assert [] == held._pending._callbacks


def test_updates_end_in_time(held: Result[str]) -> None:
    """A body that tells nothing does not hold up who listens."""
    assert [] == list(held.updates(timeout=0.1))


def test_the_exception_is_asked_for_without_raising(shop: ModuleType, held: Result[str], name: str) -> None:
    """`exception` is the error, or None; while nothing is known it says so."""
    with pytest.raises(NotReady):
        _ = held.exception
    shop.ledger.open(name)
    held(timeout=LONG)
    failing = shop.raises(name)
    wait_until(failing.ready, "the error", LONG)

    assert None is held.exception
    assert (shop.OutOfStock, "failed") == (type(failing.exception), failing.state)


def test_the_key_leads_to_the_value(shop: ModuleType, held: Result[str], name: str) -> None:
    """What `key` names, `cache.get` gives."""
    shop.ledger.open(name)

    assert held(timeout=LONG) == shop.cache.get(held.key)


# Celery's own handle


def test_the_task_id_is_celerys(shop: ModuleType, held: Result[str], name: str) -> None:
    """Celery's tools know the computation by `task_id`; a hit has none."""
    active = shop.app.control.inspect(timeout=5).active()
    shop.ledger.open(name)
    held(timeout=LONG)

    assert held.task_id in [task["id"] for tasks in active.values() for task in tasks]
    assert None is shop.gated(name).task_id
    assert None is shop.gated(name).async_result


def test_the_async_result_gives_the_value(shop: ModuleType, held: Result[str], name: str) -> None:
    """Celery's AsyncResult waits for the flight and never gives a silent None."""
    handle = held.async_result
    with pytest.raises(CeleryTimeout):
        handle.get(timeout=0.05)
    assert (False, "STARTED") == (handle.ready(), wait_until(lambda: handle.state == "STARTED" and "STARTED", "it"))
    shop.ledger.open(name)

    assert f"{name} 1" == handle.get(timeout=LONG)
    assert (held.task_id, True, True, f"{name} 1") == (handle.id, handle.ready(), handle.successful(), handle.result)


def test_the_async_result_raises_the_error(shop: ModuleType, name: str) -> None:
    """An error comes through Celery's handle as itself."""
    handle = shop.raises(name).async_result
    with pytest.raises(shop.OutOfStock):
        handle.get(timeout=LONG)

    assert (True, "FAILURE") == (handle.failed(), handle.state)
    assert isinstance(handle.get(propagate=False), shop.OutOfStock)


def test_the_async_result_says_under_both_names_what_came(shop: ModuleType, held: Result[str], name: str) -> None:
    """`info` is Celery's other name of `result`: None until the value is there, and then the value."""
    handle = held.async_result
    assert (None, None) == (handle.info, handle.result)
    shop.ledger.open(name)
    handle.get(timeout=LONG)
    failed = shop.raises(f"{name}-failed").async_result
    failed.get(timeout=LONG, propagate=False)

    assert f"{name} 1" == handle.info
    assert isinstance(failed.info, shop.OutOfStock)


# From another process


def test_an_id_finds_the_result_in_another_process(shop: ModuleType, held: Result[str], name: str) -> None:
    """The pattern of a web service: hand out an id, poll by it; both processes get the one value."""
    with Prompt(f"from {SHOP} import cache; from tests.nodes.waiting import wait_until") as prompt:
        statement = f"found = cache.result({held.id!r})"
        prompt.ask(f"run({statement!r})")
        assert [False, "joined"] == prompt.ask("[found.ready(), found.source]")
        shop.ledger.open(name)
        assert f"{name} 1" == prompt.ask("found(timeout=30)")
        assert f"{name} 1" == prompt.ask(f"cache.result({held.id!r})(block=False)")

    assert f"{name} 1" == held(timeout=LONG)
    assert 1 == shop.ledger.runs(name)


def test_an_id_finds_the_error_too(shop: ModuleType, name: str) -> None:
    """An error stays for a minute with those who know the id, and is nothing that a new call gets."""
    result = shop.raises(name)
    wait_until(result.ready, "the error", LONG)

    with pytest.raises(shop.OutOfStock):
        shop.cache.result(result.id)(timeout=LONG)


def test_a_wrong_id_is_refused(shop: ModuleType) -> None:
    """Nonsense is a mistake, told at once."""
    with pytest.raises(UsageError, match="not the id of a result"):
        shop.cache.result("nonsense")


# Without blocking


async def test_two_hundred_awaiters_need_no_thread_each(shop: ModuleType, held: Result[str], name: str) -> None:
    """Awaiting costs a future; the process's threads stay as they are."""
    others = [shop.gated(name) for _ in range(9)]
    before = threading.active_count()
    waiting = [asyncio.ensure_future(_awaited(result)) for result in (held, *others) for _ in range(20)]
    await asyncio.sleep(0)
    during = threading.active_count()
    shop.ledger.open(name)

    assert {f"{name} 1"} == set(await asyncio.wait_for(asyncio.gather(*waiting), LONG))
    assert during <= before + 1


async def test_awaiting_has_a_timeout_of_its_own(shop: ModuleType, held: Result[str], name: str) -> None:
    """`wait(timeout=)` raises NotReady and the computation goes on."""
    with pytest.raises(NotReady):
        await held.wait(timeout=0.05)
    with pytest.raises(NotReady):
        await held.wait(timeout=0)
    with pytest.raises(UsageError):
        await held.wait(timeout=-1)
    shop.ledger.open(name)

    assert f"{name} 1" == await held.wait(timeout=LONG)
    assert f"{name} 1" == await held


def test_a_callback_is_called_once(shop: ModuleType, held: Result[str], name: str) -> None:
    """A callback gets the result when it is there, and at once when it is there already."""
    heard: queue.Queue[Result[str]] = queue.Queue()
    held.add_done_callback(heard.put)
    shop.ledger.open(name)

    assert held is heard.get(timeout=LONG)
    held.add_done_callback(heard.put)
    assert held is heard.get(timeout=0)
    assert heard.empty()


def test_a_future_ends_with_the_value_or_the_error(shop: ModuleType, held: Result[str], name: str) -> None:
    """Code that knows `concurrent.futures` gets a future."""
    future, failing = held.future(), shop.raises(name).future()
    assert not future.done()
    shop.ledger.open(name)

    assert f"{name} 1" == future.result(LONG)
    assert isinstance(failing.exception(LONG), shop.OutOfStock)


# Leaving


def test_the_last_waiter_to_leave_ends_what_has_not_begun(shop: ModuleType, name: str) -> None:
    """A queued computation that nobody waits for any more is never run; its result is cancelled."""
    result = shop.gated.with_options(queue="served by nobody")(name)

    assert True is result.cancel()
    assert ("cancelled", "led", True) == (result.state, result.source, result.ready())
    with pytest.raises(Cancelled):
        result()
    assert False is result.cancel()
    assert None is shop.gated.join(name)


def test_one_who_has_just_come_is_not_ended_by_one_who_leaves(shop: ModuleType, name: str) -> None:
    """It is known before its first look, a second later; a browser asks by id, and the one who called goes away."""
    result = shop.gated.with_options(queue="served by nobody")(name)
    # With a station of its own, as another process has.
    settings = replace(shop.cache.settings, lease_ms=7_000)
    with Cache.from_settings(shop.cache.database, settings) as elsewhere:
        found = elsewhere.result(result.id)
        result.cancel()

        with pytest.raises(NotReady):
            found(timeout=2)
        assert found.cancel()


def test_one_who_leaves_does_not_stop_the_others(shop: ModuleType, held: Result[str], name: str) -> None:
    """Cancelling one result leaves the other of the same computation as it was."""
    other = shop.gated(name)
    other.cancel()
    shop.ledger.open(name)

    assert f"{name} 1" == held(timeout=LONG)
    assert ("cancelled", "joined") == (other.state, other.source)


def test_one_process_that_leaves_does_not_stop_another(shop: ModuleType, name: str) -> None:
    """The waiters of other processes count as well."""
    result = shop.gated.with_options(queue="served by nobody")(name)
    with Prompt(f"from {SHOP} import gated") as prompt:
        assert True is prompt.ask(f"gated({name!r}).cancel()")

    assert not result.ready()
    assert result.task_id == shop.gated.join(name).task_id
    result.cancel()


def test_what_runs_may_notice_that_it_is_abandoned(shop: ModuleType, name: str) -> None:
    """After the last waiter left, a running body is outdated: the next call begins a new one."""
    left = shop.gated(name)
    shop.ledger.wait_runs(name)
    left.cancel()
    fresh = shop.gated(name)
    shop.ledger.wait_runs(name, 2)
    shop.ledger.open(name)

    assert f"{name} 2" == fresh(timeout=LONG)


async def _awaited(result: Result[str]) -> str:
    return await result
