"""This is where cached tasks take part in Celery's own ways of calling: delay, chains, groups and chords."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import pytest
from celery import chain, chord, group

from taskcache import NoServer
from tests.nodes.waiting import wait_until

pytestmark = pytest.mark.usefixtures("shop", "worker")

LONG = 30


def test_delay_gives_celerys_result_and_uses_the_cache(shop: ModuleType, name: str) -> None:
    """The value of `.delay()` is in Celery's result backend as ever; a second one does not run the body."""
    first = shop.add.delay(1, 2, name)
    assert 3 == first.get(timeout=LONG)
    second = shop.add.task.delay(1, 2, name=name)

    assert type(first) is shop.app.AsyncResult
    assert (3, "SUCCESS") == (second.get(timeout=LONG), second.state)
    assert 1 == shop.ledger.runs(name)


def test_a_call_and_a_delay_share_one_value(shop: ModuleType, name: str) -> None:
    """What `fn(x)` had computed, `.delay(x)` finds, and the other way round."""
    assert 3 == shop.add(1, 2, name)(timeout=LONG)
    assert 3 == shop.add.delay(1, 2, name).get(timeout=LONG)
    assert 7 == shop.add.delay(3, 4, name).get(timeout=LONG)

    assert 7 == shop.add(3, 4, name)(block=False)
    assert 2 == shop.ledger.runs(name)


def test_delays_of_one_call_run_once(shop: ModuleType, name: str) -> None:
    """Two tasks and a call of the same arguments that come together are one computation."""
    sent = [shop.gated.delay(name), shop.gated.delay(name)]
    shop.ledger.wait_runs(name)
    called = shop.gated(name)
    assert "joined" == called.source
    shop.ledger.open(name)

    assert [f"{name} 1"] * 3 == [*(result.get(timeout=LONG) for result in sent), called(timeout=LONG)]


def test_a_delay_that_fails_says_so_to_celery(shop: ModuleType, name: str) -> None:
    """An error ends the Celery task as a failure, told the way Celery tells errors."""
    result = shop.raises.delay(name)
    with pytest.raises(Exception, match=f"OutOfStock.*{name}: 3 left"):
        result.get(timeout=LONG)

    assert "FAILURE" == result.state


def test_apply_async_takes_celerys_options(shop: ModuleType, name: str) -> None:
    """`apply_async` keeps its meaning: countdown, task_id, args and kwargs."""
    result = shop.add.apply_async((1,), {"y": 2, "name": name}, countdown=0.1, task_id=name)

    assert (name, 3) == (result.id, result.get(timeout=LONG))


def test_a_task_sent_by_name_uses_the_cache(shop: ModuleType, name: str) -> None:
    """A sender without taskcache, with Celery's json, gets the value and fills the cache."""
    result = shop.app.send_task(shop.add.name, (1, 2, name), serializer="json")
    assert 3 == result.get(timeout=LONG)

    assert 3 == shop.add(1, 2, name)(block=False)


def test_a_chain_of_cached_tasks(shop: ModuleType, name: str) -> None:
    """Each link gets the value before it; the second time no body runs."""
    links = chain(shop.add.s(1, 2, name), shop.add.s(10, name), shop.add.s(100, name))

    assert 113 == links.delay().get(timeout=LONG)
    assert 113 == links.delay().get(timeout=LONG)
    assert 3 == shop.ledger.runs(name)


def test_a_group_of_cached_tasks(shop: ModuleType, name: str) -> None:
    """A group gives the values in order, also of members that are stored or the same."""
    shop.add(0, 1, name)(timeout=LONG)
    members = group([shop.add.s(number, 1, name) for number in (0, 1, 2, 2)])

    assert [1, 2, 3, 3] == members.delay().get(timeout=LONG)
    assert [1, 2, 3, 3] == members.delay().get(timeout=LONG)
    assert 3 == shop.ledger.runs(name)


def test_a_chord_of_cached_tasks(shop: ModuleType, name: str) -> None:
    """Header and body of a chord are cached tasks; the second time no body runs."""
    work = chord([shop.add.s(number, 1, name) for number in range(3)], shop.total.s(f"{name}-total"))

    assert 6 == work.delay().get(timeout=LONG)
    assert 6 == work.delay().get(timeout=LONG)
    assert [3, 1] == [shop.ledger.runs(name), shop.ledger.runs(f"{name}-total")]


def test_links_are_called_for_hits_too(shop: ModuleType, name: str) -> None:
    """A callback of a task whose value is stored is sent as Celery promises."""
    shop.add(1, 2, name)(timeout=LONG)
    shop.add.apply_async((1, 2, name), link=shop.echo.s(f"{name}-linked"))

    wait_until(lambda: 1 == shop.ledger.runs(f"{name}-linked"), "the callback", LONG)
    assert 3 == shop.echo(3, f"{name}-linked")(timeout=LONG)


def test_an_immutable_signature_ignores_what_comes_before(shop: ModuleType, name: str) -> None:
    """`.si` and `.signature` are Celery's."""
    links = chain(shop.add.s(1, 2, name), shop.add.si(20, 20, name), shop.add.signature((2, name)))

    assert 42 == links.delay().get(timeout=LONG)


def test_a_lost_entry_is_computed_anew_by_delay(shop: ModuleType, name: str) -> None:
    """After `bust` a `.delay()` runs the body again."""
    shop.add.delay(1, 2, name).get(timeout=LONG)
    assert 1 == shop.add.bust(1, 2, name)
    shop.add.delay(1, 2, name).get(timeout=LONG)

    assert 2 == shop.ledger.runs(name)


def test_an_argument_may_have_any_name(shop: ModuleType, name: str) -> None:
    """Also that of Celery's own parameter, in a message, in a chunk, by `.delay()`, and eagerly."""
    fields = importlib.import_module("tests.with_celery.apps.mishaps").fields
    calls = [fields.call(name, self=number) for number in (2, 3)]

    assert {"self": 1} == fields(name, self=1)(timeout=LONG)
    assert [{"self": 2}, {"self": 3}] == fields.starmap(calls, chunk=2)()
    assert {"self": 4} == fields.delay(name, self=4).get(timeout=LONG)
    shop.app.conf.update(task_always_eager=True, task_store_eager_result=False)
    try:
        assert {"self": 5} == fields(name, self=5)(timeout=LONG)
        assert [{"self": 6}] == fields.starmap([fields.call(name, self=6)], chunk=2)()
    finally:
        shop.app.conf.update(task_always_eager=False)
    assert 6 == shop.ledger.runs(name)


def test_delay_runs_no_body_again_that_had_no_cache_of_its_own(
    shop: ModuleType, bulk: ModuleType, client: Any, name: str
) -> None:
    """It waited for a call that failed, and its error is that of the call, whatever its type."""
    result = bulk.cut_off(name)
    shop.ledger.wait_runs(name)
    sent = bulk.cut_off.delay(name)
    flight = bulk.cut_off.invocation((name,), {}).place().flight
    wait_until(lambda: sum(field.startswith(b"w:") for field in client.hkeys(flight)) == 2, "the task to wait", LONG)
    shop.ledger.open(name)

    with pytest.raises(NoServer, match="another cache"):
        result(timeout=LONG)
    with pytest.raises(NoServer, match="another cache"):
        sent.get(timeout=LONG)
    assert 1 == shop.ledger.runs(name)
