"""This is where an invalidation meets a worker that is computing: the next call is new, who waited gets theirs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import ModuleType

import pytest

pytestmark = pytest.mark.usefixtures("shop", "worker")

LONG = 30

Invalidation = Callable[[ModuleType, str], object]


async def _bust_aio(shop: ModuleType, name: str) -> None:
    await shop.gated.aio.bust(name)


WAYS: dict[str, Invalidation] = {
    "bust": lambda shop, name: shop.gated.bust(name),
    "aio.bust": lambda shop, name: asyncio.run(_bust_aio(shop, name)),
    "delete": lambda shop, name: shop.cache.delete(shop.gated.key_for(name)),
    "delete_many": lambda shop, name: shop.cache.delete_many([shop.gated.key_for(name)]),
    "flush": lambda shop, name: shop.cache.flush(),
    "bust_all": lambda shop, name: shop.gated.bust_all(),
    "tag": lambda shop, name: shop.cache.invalidate("gated"),
    "tag of an argument": lambda shop, name: shop.cache.invalidate(f"gated:{name}"),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_call_after_an_invalidation_is_new(shop: ModuleType, name: str, way: str) -> None:
    """The running computation goes on for those who waited before; the next call begins another, and that is stored."""
    old = shop.gated(name)
    shop.ledger.wait_runs(name)
    WAYS[way](shop, name)
    new = shop.gated(name)
    shop.ledger.wait_runs(name, 2)
    shop.ledger.open(name)

    assert (f"{name} 1", f"{name} 2") == (old(timeout=LONG), new(timeout=LONG))
    assert (f"{name} 2", "hit") == (shop.gated(name)(timeout=LONG), shop.gated(name).source)
    assert 2 == shop.ledger.runs(name)


@pytest.mark.parametrize("way", WAYS)
def test_a_late_value_is_not_stored(shop: ModuleType, name: str, way: str) -> None:
    """Without a new call the old value reaches its waiters, and the cache stays empty."""
    old = shop.gated(name)
    shop.ledger.wait_runs(name)
    WAYS[way](shop, name)
    shop.ledger.open(name)

    assert f"{name} 1" == old(timeout=LONG)
    assert None is shop.gated.peek(name)
    assert f"{name} 2" == shop.gated(name)(timeout=LONG)


def test_a_value_that_is_put_beats_the_running_computation(shop: ModuleType, name: str) -> None:
    """`put` while a worker computes: the next call gets what was put, also after the worker is done."""
    old = shop.gated(name)
    shop.ledger.wait_runs(name)
    shop.gated.put("put by hand", name)
    before = shop.gated(name)(block=False)
    shop.ledger.open(name)

    assert f"{name} 1" == old(timeout=LONG)
    assert ("put by hand", "put by hand") == (before, shop.gated(name)(block=False))
    assert 1 == shop.ledger.runs(name)


def test_a_key_that_is_set_is_not_overwritten_by_the_running_computation(shop: ModuleType, name: str) -> None:
    """`cache.set` of a function's key while a worker computes: the old value does not come back."""
    key = shop.gated.key_for(name)
    old = shop.gated(name)
    shop.ledger.wait_runs(name)
    shop.cache.set(key, "set by hand", 60)
    shop.ledger.open(name)

    assert f"{name} 1" == old(timeout=LONG)
    assert "set by hand" == shop.cache.get(key)
    assert f"{name} 1" != shop.gated(name)(timeout=LONG)


def test_a_bust_of_a_queued_call_needs_no_second_message(shop: ModuleType, name: str) -> None:
    """What nobody has begun will begin after the bust: the call that follows joins it."""
    queued = shop.gated.with_options(queue="served by nobody")
    first = queued(name)
    shop.gated.bust(name)
    second = queued(name)

    assert (first.task_id, "joined") == (second.task_id, second.source)
    first.cancel()
    second.cancel()


def test_other_calls_are_left_alone(shop: ModuleType, name: str) -> None:
    """A bust is of one call, a tag of those that carry it."""
    shop.ledger.open(name)
    shop.ledger.open(f"{name}-other")
    values = [shop.gated(name)(timeout=LONG), shop.gated(f"{name}-other")(timeout=LONG)]
    shop.gated.bust(name)
    shop.cache.invalidate(f"gated:{name}")

    assert None is shop.gated.peek(name)
    assert values[1] == shop.gated(f"{name}-other")(block=False)


def test_refresh_computes_anew(shop: ModuleType, name: str) -> None:
    """`refresh` gives a result of a computation that begins now."""
    shop.ledger.open(name)
    shop.gated(name)(timeout=LONG)

    assert f"{name} 2" == shop.gated.refresh(name)(timeout=LONG)
    assert f"{name} 2" == shop.gated(name)(block=False)


def test_a_nested_value_that_was_busted_is_computed_again(shop: ModuleType, name: str) -> None:
    """An outer call after the bust of the inner one and its own gets new values all the way down."""
    assert f"branch leaf {name}" == shop.branch(name)(timeout=LONG)
    shop.leaf.bust(name)
    shop.branch.bust(name)
    assert f"branch leaf {name}" == shop.branch(name)(timeout=LONG)

    assert 2 == shop.ledger.runs(f"leaf:{name}")
