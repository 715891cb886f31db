"""This is where a value is longer than the server takes, which hangs up in the middle of it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery

from taskcache import BoundCall, Cache, NoServer, Result, ValueTooLarge
from taskcache.drivers.lengths import ALWAYS_BYTES
from tests.nodes.server import ValkeyNode
from tests.nodes.topology import ClusterNodes
from tests.with_redis.gate import Counter, Gate, threads, wait_for_followers

# More than sockets hold: what the server says of it is lost to who is still sending. And less.
SIZES = (20_000_000, 1_100_000)


@pytest.fixture
def node(start_valkey: Callable[..., ValkeyNode]) -> ValkeyNode:
    """A server that takes a megabyte at a time."""
    return start_valkey(config=[f"proto-max-bulk-len {ALWAYS_BYTES}"])


@pytest.fixture(params=["auto", "redis-py"])
def cache(node: ValkeyNode, cache_name: str, request: pytest.FixtureRequest) -> Iterator[Cache]:
    """A cache on that server; what it sends to workers runs here."""
    app = Celery("eager", set_as_current=False)
    app.conf.task_always_eager = True
    with Cache(node.url(), name=cache_name, default_timeout=60, app=app, transport=request.param) as cache:
        yield cache


@pytest.mark.parametrize("size", SIZES)
def test_a_plain_value_is_refused_in_our_words(cache: Cache, size: int) -> None:
    """With the cure, to threads and to coroutines; and the server is as well as ever."""
    value = os.urandom(size)
    with pytest.raises(ValueTooLarge, match="raise its `proto-max-bulk-len`, return a reference"):
        cache.set("key", value)
    with pytest.raises(ValueTooLarge, match="proto-max-bulk-len"):
        cache.set_many({"other": 1, "key": value})
    with pytest.raises(ValueTooLarge, match="proto-max-bulk-len"):
        asyncio.run(cache.aio.set("key", value))

    assert cache.get("key") is None
    assert cache.set("key", b"short")
    assert b"short" == cache.get("key")


@pytest.mark.parametrize("size", SIZES)
def test_who_calls_and_who_waits_hear_it(cache: Cache, gate: Gate, size: int) -> None:
    """As where the value cannot be sealed: its flight ends with that error, and nobody runs the body again for it."""

    @cache.cached()
    def f() -> bytes:
        gate.pass_first()
        return os.urandom(size)

    with threads(2) as run:
        calls = [run(f), run(f)]
        wait_for_followers(cache, 1)
        gate.open()
        errors = [call.exception(30) for call in calls]

    assert [ValueTooLarge, ValueTooLarge] == [type(error) for error in errors]
    assert 1 == gate.visits


async def test_who_awaits_hears_it(cache: Cache, counter: Counter) -> None:
    """The same from an `async def`."""

    @cache.cached()
    async def f() -> bytes:
        counter()
        return os.urandom(SIZES[0])

    answers = await asyncio.gather(f(), f(), return_exceptions=True)

    assert [ValueTooLarge, ValueTooLarge] == [type(error) for error in answers]
    assert 1 == counter.runs


def test_a_worker_tells_who_waits(cache: Cache, counter: Counter) -> None:
    """At once, and not after lease upon lease, once for each call that was too large."""

    @cache.cache_async()
    def f(size: int) -> bytes:
        counter()
        return os.urandom(size)

    @cache.cache_async(batch=True)
    def many(calls: list[BoundCall]) -> list[Any]:
        counter()
        return [os.urandom(call.args[0]) for call in calls]

    with pytest.raises(ValueTooLarge, match="proto-max-bulk-len"):
        f(SIZES[0])(timeout=10)
    results: list[Result[Any]] = list(many.map([1, SIZES[0], 2, SIZES[1], 3]))

    assert [None, ValueTooLarge, None, ValueTooLarge, None] == [error_of(result) for result in results]
    assert [1, 2, 3] == [len(result()) for result in results[::2]]
    assert 2 == counter.runs


def error_of(result: Result[Any]) -> type[BaseException] | None:
    """The kind of error that a result ends with."""
    try:
        result(timeout=10)
    except Exception as error:
        return type(error)
    return None


def test_a_cluster_says_the_same(cache_name: str) -> None:
    """Of the node that the key belongs to, to threads and to coroutines."""
    value = os.urandom(SIZES[0])
    with ClusterNodes() as nodes, nodes.client() as client, Cache(client, name=cache_name, default_timeout=60) as cache:
        for member in nodes.primaries:
            with member.client() as node:
                node.config_set("proto-max-bulk-len", ALWAYS_BYTES)
        with pytest.raises(ValueTooLarge, match="proto-max-bulk-len"):
            cache.set("key", value)
        with pytest.raises(ValueTooLarge, match="proto-max-bulk-len"):
            asyncio.run(cache.aio.set("key", value))

        assert cache.set("key", 1)
        assert 1 == cache.get("key")


def test_a_connection_that_breaks_by_itself_is_no_length(cache: Cache, node: ValkeyNode) -> None:
    """A server that is away is away, however long the value."""
    node.kill()
    with pytest.raises(NoServer, match="cannot be reached"):
        cache.set("key", os.urandom(SIZES[0]))
