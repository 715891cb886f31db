"""This is where the Celery verbs of a method get its object too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from celery import Celery

from taskcache import Cache
from taskcache.bound import BoundFunction


@dataclass(frozen=True)
class Warehouse:
    """An object that is known by its fields, and travels."""

    city: str


@pytest.fixture
def area(redis_url: str, cache_name: str) -> Iterator[BoundFunction]:
    """A method of a warehouse in Bonn, in an app that computes here."""
    app = Celery("methods", broker="memory://", set_as_current=False)
    app.conf.task_always_eager = True
    with Cache(redis_url, name=cache_name, app=app) as cache:

        @cache.cache_async(timeout=60)
        def area(self: Warehouse, width: int, depth: int = 10) -> tuple[str, int]:
            return self.city, width * depth

        yield area.__get__(Warehouse("Bonn"))


def test_apply_async_of_a_method_gets_the_object(area: BoundFunction) -> None:
    """The object is no part of `args`, as it is no part of a call; `kwargs`, an id and options follow as ever."""
    assert ("Bonn", 12) == area.apply_async((3, 4)).get()
    assert ("Bonn", 30) == area.apply_async([3]).get()
    assert ("Bonn", 6) == area.apply_async((3,), {"depth": 2}, priority=1).get()
    assert "my-id" == area.apply_async((3,), {}, "my-id", priority=1).id
    assert ("Bonn", 8) == area.apply_async(kwargs={"width": 4, "depth": 2}).get()


def test_signatures_of_a_method_hold_the_object(area: BoundFunction) -> None:
    """`signature`, `s`, `si` and `delay` alike."""
    assert ("Bonn", 12) == area.signature((3, 4)).apply_async().get()
    assert ("Bonn", 6) == area.signature(args=(3,), kwargs={"depth": 2}).delay().get()
    assert [("Bonn", 12)] * 3 == [
        each.get() for each in (area.s(3, 4).delay(), area.si(3, 4).delay(), area.delay(3, 4))
    ]
