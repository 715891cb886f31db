"""This is where `task_always_eager` runs everything in the caller's process, through the cache all the same."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import pytest
from celery import chain, chord, group

LONG = 10


@pytest.fixture
def eager(shop: ModuleType) -> Iterator[ModuleType]:
    """The shop with eager tasks; there is no worker on its queue."""
    shop.app.conf.update(task_always_eager=True, task_store_eager_result=False)
    yield shop
    shop.app.conf.update(task_always_eager=False, task_eager_propagates=False)


def test_an_eager_call_computes_here_once(eager: ModuleType, name: str) -> None:
    """The body has run when the call returns; the second call is a hit."""
    result = eager.echo([1, 2], name)
    again = eager.echo([1, 2], name)

    assert ([1, 2], "led") == (result(timeout=LONG), result.source)
    assert ([1, 2], "hit") == (again(block=False), again.source)
    assert 1 == eager.ledger.runs(name)


def test_an_eager_error_is_delivered_by_the_result(eager: ModuleType, name: str) -> None:
    """The call itself does not raise; the result does, with the type of the error."""
    result = eager.raises(name)

    with pytest.raises(eager.OutOfStock, match="3 left"):
        result(timeout=LONG)
    assert 1 == eager.ledger.runs(name)


def test_an_eager_error_is_delivered_where_celery_propagates(eager: ModuleType, name: str) -> None:
    """With `task_eager_propagates` as well: what the caller asked is asked of the result, after each of its retries."""
    eager.app.conf.task_eager_propagates = True
    for retried in ("retried", "again", "hopeless"):
        eager.ledger.open(f"{name}-{retried}")
    result = eager.raises(name)

    with pytest.raises(eager.OutOfStock):
        result(timeout=LONG)
    assert f"{name}-retried 2" == eager.flaky(f"{name}-retried", 2)(timeout=LONG)
    assert f"{name}-again 3" == eager.flaky(f"{name}-again", 3)(timeout=LONG)
    with pytest.raises(eager.OutOfStock, match="3 left"):
        eager.flaky(f"{name}-hopeless", 9)(timeout=LONG)
    with pytest.raises(eager.OutOfStock):
        eager.raises.delay(f"{name}-direct")


def test_an_eager_call_that_is_interrupted_while_it_begins_holds_nothing(
    eager: ModuleType, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C between the lease and the body: else it would be renewed as long as this process lives, for nobody."""

    def interrupted() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(eager.cache.station.renewer._wanted, "set", interrupted)
        with pytest.raises(KeyboardInterrupt):
            eager.echo(1, name)

    assert {} == eager.cache.station.renewer._leases
    assert 1 == eager.echo(1, name)(timeout=LONG)


def test_eager_retries_end_in_the_value(eager: ModuleType, name: str) -> None:
    """`autoretry_for` runs the body again, here, and its value is what counts."""
    eager.ledger.open(name)

    assert f"{name} 3" == eager.flaky(name, 3)(timeout=LONG)
    assert 3 == eager.ledger.runs(name)
    assert f"{name} 3" == eager.flaky(name, 3)(block=False)


def test_eager_retries_end_in_the_last_error(eager: ModuleType, name: str) -> None:
    """When all tries failed, the last error is the answer."""
    eager.ledger.open(name)

    with pytest.raises(eager.OutOfStock, match="3 left"):
        eager.flaky(name, 9)(timeout=LONG)
    assert 3 == eager.ledger.runs(name)


def test_eager_nested_calls(eager: ModuleType, name: str) -> None:
    """Calls inside of eager calls work, also of the same key, and `async def`."""
    assert [f"branch leaf {name}", f"branch leaf {name}!"] == eager.tree(name)(timeout=LONG)
    assert "outer inner" == eager.itself(name)(timeout=LONG)
    assert 42 == eager.late(41)(timeout=LONG)


async def test_an_eager_call_from_a_coroutine(eager: ModuleType, name: str) -> None:
    """`await fn.aio(...)` works eagerly too, for `def` and `async def`."""
    assert "value" == await (await eager.echo.aio("value", name))
    assert 43 == await (await eager.late.aio(42))


def test_eager_canvas(eager: ModuleType, name: str) -> None:
    """delay, chain, group and chord give their values, and use the cache."""
    assert 3 == eager.add.delay(1, 2, name).get()
    assert 3 == eager.add.delay(1, 2, name).get()
    assert 1 == eager.ledger.runs(name)
    assert 13 == chain(eager.add.s(1, 2, name), eager.add.s(10, name)).delay().get()
    assert [1, 2] == group([eager.add.s(0, 1, name), eager.add.s(1, 1, name)]).delay().get()
    assert 3 == chord([eager.add.s(0, 1, name), eager.add.s(1, 1, name)], eager.total.s(name)).delay().get()
