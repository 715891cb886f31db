"""This is where it begins: a value under a key, shared by every process that knows the address."""

from __future__ import annotations

import queue

from taskcache import Cache, NotReady, TaskCacheError
from tests.nodes.waiting import wait_until


def test_set_and_get(cache: Cache) -> None:
    """A value is stored under a key, and found there."""
    cache.set("greeting", "hello")

    assert "hello" == cache.get("greeting")


def test_what_is_not_there(cache: Cache) -> None:
    """A missing key gives None, or the default."""
    assert None is cache.get("nobody")
    assert "default" == cache.get("nobody", "default")


def test_a_value_has_a_lifetime(cache: Cache) -> None:
    """After its seconds a value is gone."""
    cache.set("greeting", "hello", timeout=0.2)

    wait_until(lambda: cache.get("greeting") is None, "the value to expire")


def test_delete(cache: Cache) -> None:
    """A value can be removed before."""
    cache.set("greeting", "hello")
    cache.delete("greeting")

    assert None is cache.get("greeting")


def test_many_at_once(cache: Cache) -> None:
    """One round trip for many keys."""
    cache.set_many({"one": 1, "two": 2})

    assert {"one": 1, "two": 2} == cache.get_many(["one", "two", "three"])


def test_counting(cache: Cache) -> None:
    """A counter begins at 0; nobody's step is lost."""
    cache.set("visits", 0)
    cache.incr("visits")
    cache.incr("visits", 10)

    assert 11 == cache.get("visits")


def test_types_come_back_as_they_were(cache: Cache) -> None:
    """A tuple is a tuple afterwards, a set a set, None is a value."""
    value = {"tuple": (1, 2), "set": {3, 4}, "none": None, 5: b"bytes"}
    cache.set("value", value)

    assert value == cache.get("value")


def test_flush(cache: Cache) -> None:
    """A cache can be emptied; others on the same server are not touched."""
    cache.set_many({"one": 1, "two": 2})
    cache.flush()

    assert [] == list(cache.keys())


async def test_the_same_awaited(cache: Cache) -> None:
    """Every command has a twin under `aio`."""
    await cache.aio.set("greeting", "hello")

    assert "hello" == await cache.aio.get("greeting")


def test_one_base_for_all_errors() -> None:
    """Catch TaskCacheError to catch everything; NotReady is also the queue.Empty that walrus raised."""
    assert issubclass(NotReady, TaskCacheError)
    assert issubclass(NotReady, queue.Empty)
