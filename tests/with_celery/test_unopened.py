"""This is where a worker cannot open a call that it was sent, and who waits is told why instead of waiting for ever."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType

import pytest

from tests.nodes.workers import WorkerNode

pytestmark = pytest.mark.usefixtures("shop", "worker")

LONG = 30
# Sooner than a lease is over.
SOON = 4

StartShop = Callable[..., tuple[WorkerNode, str]]


@pytest.fixture
def mishaps(shop: ModuleType) -> ModuleType:
    """The functions of `shop` whose calls end in unusual ways."""
    return importlib.import_module("tests.with_celery.apps.mishaps")


def test_a_row_that_is_gone_is_told(mishaps: ModuleType, shop: ModuleType, name: str) -> None:
    """What loading an argument raises in the worker is the error of the call; the body does not run."""
    with pytest.raises(shop.OutOfStock, match="row: 404 left"):
        mishaps.row_number(name, mishaps.Row(404))(timeout=LONG)

    assert 0 == shop.ledger.runs(name)
    assert None is mishaps.row_number.join(name, mishaps.Row(404))


def test_a_row_that_is_gone_is_told_to_who_sent_it_with_celery(
    mishaps: ModuleType, shop: ModuleType, name: str
) -> None:
    """`.delay()` has the error from Celery, in the form that Celery gives it."""
    with pytest.raises(Exception, match="row: 404 left"):
        mishaps.row_number.delay(name, mishaps.Row(404)).get(timeout=LONG)


def test_a_row_that_is_gone_is_told_by_the_waiter_that_computes(
    mishaps: ModuleType, shop: ModuleType, name: str
) -> None:
    """It has claimed the call: all who wait for it hear of the row, and not in vain of four workers that were killed."""
    row_number = mishaps.row_number.with_options(queue="served by nobody", inline_after=0.2)
    result, joined = row_number(name, mishaps.Row(404)), mishaps.row_number(name, mishaps.Row(404))

    for each in (result, joined):
        with pytest.raises(shop.OutOfStock, match="row: 404 left"):
            each(timeout=SOON)


@pytest.mark.parametrize("function", ["row_number", "row_numbers"])
def test_a_row_that_is_gone_is_that_of_one_call(
    mishaps: ModuleType, shop: ModuleType, name: str, function: str
) -> None:
    """The others of its message are computed, one after another or together."""
    rows = [(name, mishaps.Row(number)) for number in (1, 404, 2)]
    results = list(getattr(mishaps, function).starmap(rows, chunk=3))

    assert [1, 2] == [results[0](timeout=LONG), results[2](timeout=LONG)]
    with pytest.raises(shop.OutOfStock, match="row: 404 left"):
        results[1](timeout=LONG)
    assert shop.ledger.runs(f"{name}:size:2") == (function == "row_numbers")


@pytest.mark.parametrize("chunk", [1, 2])
def test_a_parameter_that_the_worker_has_not_got_is_told(
    mishaps: ModuleType, start_shop: StartShop, name: str, chunk: int
) -> None:
    """While new callers meet old workers, the error says which parameter it is."""
    _, queue = start_shop(env={"SHOP_CODE": "other"})
    calls = [mishaps.grown.call(name, more="!"), mishaps.grown.call(name, more="?")]

    for result in mishaps.grown.with_options(queue=queue).starmap(calls, chunk=chunk):
        with pytest.raises(TypeError, match="more"):
            result(timeout=LONG)
