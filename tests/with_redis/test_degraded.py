"""This is where the cache is away, slow, or not let in, and calls work all the same."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from typing import Any

import pytest
from celery import Celery
from redis.exceptions import OutOfMemoryError

from taskcache import Cache, NoServer, TaskCacheError, current
from tests.nodes.proxy import FaultProxy
from tests.nodes.server import ValkeyNode
from tests.nodes.waiting import wait_until
from tests.with_redis.gate import Counter, Gate, threads, wait_for_followers


@pytest.fixture
def proxied(proxy: FaultProxy, redis_url: str, cache_name: str) -> Iterator[Cache]:
    """A cache behind a network that the test can break; what it sends to workers runs here."""
    app = Celery("eager", set_as_current=False)
    app.conf.task_always_eager = True
    with Cache(proxy.url(redis_url), name=cache_name, default_timeout=60, app=app) as cache:
        yield cache


def test_a_call_without_a_server_computes(away: Cache) -> None:
    """Each call runs the function and is counted, also where many are made together."""
    runs = 0

    @away.cached()
    def f(number: int) -> int:
        nonlocal runs
        runs += 1
        return number

    assert [7, 7, 7] == [f(7) for _ in range(3)]
    assert [0, 1] == f.map(range(2))()
    assert (5, 5) == (runs, f.stats()["degraded"])


def test_the_log_says_once_what_is_wrong(away: Cache, caplog: pytest.LogCaptureFixture) -> None:
    """One warning with the address and the cure, not one for every call."""
    caplog.set_level(logging.WARNING, "taskcache")
    f = away.cached()(lambda: 1)
    for _ in range(5):
        f()
    cannot = [record.getMessage() for record in caplog.records if "cannot be reached" in record.getMessage()]

    assert 1 == len(cannot)
    assert "127.0.0.1" in cannot[0]
    assert "check the address" in cannot[0]


def said(cache: Cache) -> str:
    """What is wrong with the server, as it says so now."""
    with pytest.raises(NoServer) as raised:
        cache.get("key")
    return str(raised.value)


def test_an_outage_with_several_errors_is_said_once(
    proxied: Cache, proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    """First the connection breaks, then nobody answers: it is one server that is away."""
    caplog.set_level(logging.WARNING, "taskcache")
    f = proxied.cached()(lambda number: number)
    f(1)
    proxy.refuse = True
    proxy.drop_all()
    f(2)
    first = said(proxied)
    proxy.close()
    wait_until(lambda: said(proxied) != first, "another error of the same server")
    f(3)

    assert 1 == sum("calls are computed without the cache" in record.getMessage() for record in caplog.records)


def test_a_strict_function_raises(away: Cache) -> None:
    """on_cache_error="raise": NoServer, which is a ConnectionError, and the function does not run."""
    runs = 0

    @away.cached(on_cache_error="raise")
    def f() -> int:
        nonlocal runs
        runs += 1
        return 1

    with pytest.raises(NoServer) as caught:
        f()
    assert isinstance(caught.value, ConnectionError)
    assert isinstance(caught.value, TaskCacheError)
    assert 0 == runs


def test_the_functions_own_connection_error_is_its_own(away: Cache) -> None:
    """An error of the body is not taken for an error of the cache: it runs once."""
    runs = 0

    @away.cached()
    def f() -> int:
        nonlocal runs
        runs += 1
        raise NoServer("the function's own")

    with pytest.raises(NoServer, match="own"):
        f()
    assert 1 == runs


def test_an_error_of_the_body_that_looks_like_ours_runs_it_once(cache: Cache) -> None:
    """The same with a server that is there."""
    runs = 0

    @cache.cached()
    def f() -> int:
        nonlocal runs
        runs += 1
        raise NoServer("the function's own")

    with pytest.raises(NoServer, match="own"):
        f()
    assert (1, 0) == (runs, f.stats()["degraded"])


def test_a_dead_server_is_left_alone_for_a_moment(proxied: Cache, proxy: FaultProxy) -> None:
    """After a failure the next calls do not knock again: many calls cost few connections."""
    f = proxied.cached()(lambda: 1)
    f()
    proxy.refuse = True
    proxy.drop_all()
    before = proxy.connections_seen
    began = time.monotonic()
    for _ in range(200):
        f()
    took = time.monotonic() - began

    # The listener reconnects by itself; what must not happen is a connection for each call.
    assert proxy.connections_seen - before < 20 + 10 * took


def test_it_comes_back_by_itself(proxied: Cache, proxy: FaultProxy) -> None:
    """When the server answers again, calls are cached again; nobody has to restart anything."""
    runs = 0

    @proxied.cached()
    def f() -> int:
        nonlocal runs
        runs += 1
        return 1

    f()
    proxy.refuse = True
    proxy.drop_all()
    f()
    proxy.refuse = False
    wait_until(lambda: f() and f.stats()["hits"] >= 2, "calls to be hits again")

    assert runs >= 2


def test_a_server_that_never_answers_costs_bounded_time(proxied: Cache, proxy: FaultProxy) -> None:
    """A black hole: the call gives its value within the time limit of a reply, and the next ones at once."""
    f = proxied.cached()(lambda number: number)
    f(0)
    proxy.blackhole = True
    began = time.monotonic()
    first = f(1)
    took = time.monotonic() - began
    began = time.monotonic()
    second = f(2)
    took_then = time.monotonic() - began

    assert (1, 2) == (first, second)
    assert took < 15
    assert took_then < 1


@pytest.mark.parametrize("kind", ["def", "async def", "task"])
def test_a_tag_that_cannot_be_stamped_costs_the_entry_and_not_the_value(
    proxied: Cache, proxy: FaultProxy, kind: str, counter: Counter
) -> None:
    """Nobody could invalidate such an entry, so it is delivered and not stored; the body hears nothing of it."""

    def body() -> int:
        if counter() == 1:
            proxy.refuse = True
            proxy.drop_all()
            current().tags.add("supplier:3", "supplier:4")
            proxy.refuse = False
        return counter.runs

    async def coroutine() -> int:
        return body()

    def call() -> Any:
        if kind == "task":
            return task()()
        return asyncio.run(awaited()) if kind == "async def" else cached()

    cached, awaited = proxied.cached(name="cached")(body), proxied.cached(name="awaited")(coroutine)
    task = proxied.cache_async(name="task")(body)
    functions: dict[str, Any] = {"def": cached, "async def": awaited, "task": task}
    first = call()
    wait_until(lambda: call() == call(), "calls to be stored again")

    assert 1 == first
    assert call() > 1
    assert 1 <= functions[kind].stats()["degraded"]


def test_a_tag_that_cannot_be_stamped_is_raised_where_that_is_asked_for(proxied: Cache, proxy: FaultProxy) -> None:
    """on_cache_error="raise": the body hears it, and so does the caller."""

    @proxied.cached(on_cache_error="raise")
    def f() -> None:
        proxy.refuse = True
        proxy.drop_all()
        current().tags.add("supplier:3")

    with pytest.raises(NoServer, match="cannot be reached"):
        f()


def test_a_server_that_goes_in_the_middle_costs_the_value_nothing(
    proxied: Cache, proxy: FaultProxy, gate: Gate
) -> None:
    """The leader cannot publish: its caller has the value all the same, computed once."""
    f = proxied.cached()(gate.pass_first)
    with threads(1) as run:
        leader = run(lambda: f())
        gate.wait_reached()
        proxy.refuse = True
        proxy.drop_all()
        gate.open()

        assert (1, 1) == (leader.result(30), gate.visits)


def test_followers_survive_a_cut_connection(proxied: Cache, proxy: FaultProxy, gate: Gate) -> None:
    """All connections reset while they wait: the listener reconnects and looks, and one computation serves all."""
    f = proxied.cached()(gate.pass_first)
    with threads(5) as run:
        leader = run(lambda: f())
        gate.wait_reached()
        followers = [run(lambda: f()) for _ in range(4)]
        wait_for_followers(proxied, 4)
        proxy.drop_all()
        gate.open()

        assert ([1] * 4, 1, 1) == ([each.result(30) for each in followers], leader.result(30), gate.visits)


def test_no_more_than_a_limit_compute_at_once_without_the_cache(away: Cache) -> None:
    """A herd without a cache does not fall upon the database: 64 at a time."""
    import threading

    running, most, lock, full = 0, 0, threading.Lock(), threading.Event()

    @away.cached()
    def f(number: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            if running == 64:
                full.set()
        assert full.wait(30)
        with lock:
            running -= 1
        return number

    with threads(100) as run:
        wait([run(lambda number=number: f(number)) for number in range(100)], 60)  # type: ignore[misc]  # a lambda's default has no type

    assert 64 == most


def test_a_degraded_function_may_call_itself(away: Cache) -> None:
    """Deeper than the limit of computations at once: a computation inside of a computation takes no place of its own."""

    @away.cached()
    def depth(n: int) -> int:
        return 0 if n == 0 else depth(n - 1) + 1

    with threads(1) as run:
        assert 100 == run(lambda: depth(100)).result(20)


def test_a_wrong_password(start_valkey: Callable[..., ValkeyNode], cache_name: str) -> None:
    """Calls work; commands say that the password is wrong, and do not show it."""
    node = start_valkey(password="right-password")
    address = f"redis://:wrong-password@127.0.0.1:{node.port}/0"
    cache = Cache(address, name=cache_name)
    strict = cache.cached(on_cache_error="raise")(lambda: 1)

    assert 1 == cache.cached()(lambda: 1)()
    for ask in (lambda: cache.get("key"), strict):
        wait_until(lambda ask=ask: _refusal(ask), "the refusal itself, and not that the server is left alone")  # type: ignore[misc]  # a lambda's default has no type
    assert "wrong-password" not in repr(cache)


def _refusal(ask: Callable[[], Any]) -> bool:
    with pytest.raises(NoServer) as caught:
        ask()
    said = str(caught.value)
    assert "wrong-password" not in said
    return "password" in said and "URL" in said


def test_no_password_where_one_is_needed(start_valkey: Callable[..., ValkeyNode], cache_name: str) -> None:
    """The same words when the address has none."""
    node = start_valkey(password="right-password")
    cache = Cache(f"redis://127.0.0.1:{node.port}/0", name=cache_name)

    with pytest.raises(NoServer, match="password"):
        cache.get("key")
    assert 1 == cache.cached()(lambda: 1)()


def test_a_full_server(start_valkey: Callable[..., ValkeyNode], cache_name: str) -> None:
    """A server that may not evict refuses writes: calls compute, nothing hangs."""
    node = start_valkey(config=["maxmemory 3mb", "maxmemory-policy noeviction"])
    with node.client() as client:
        number = 0
        with pytest.raises(OutOfMemoryError):
            while True:
                client.set(f"fill-{number}", bytes(100_000), ex=600)
                number += 1
    cache = Cache(node.url(), name=cache_name, default_timeout=60)

    assert [1, 1] == [cache.cached()(lambda: 1)() for _ in range(2)]
    with pytest.raises(NoServer, match="cannot serve"):
        cache.set("key", bytes(100_000))


def test_a_restarted_server_is_used_again(start_valkey: Callable[..., ValkeyNode], cache_name: str) -> None:
    """An emptied server has no scripts and no stamps: the next calls bring them back."""
    node = start_valkey()
    runs = 0
    with Cache(node.url(), name=cache_name, default_timeout=60) as cache:

        @cache.cached()
        def f() -> int:
            nonlocal runs
            runs += 1
            return runs

        f()
        node.restart(keep_data=False)
        wait_until(lambda: f() and f.stats()["hits"] >= 1, "calls to be hits again")

        assert f() == runs
        assert 2 <= runs <= 4


def test_scripts_that_were_flushed_are_loaded_again(cache: Cache, client: Any) -> None:
    """SCRIPT FLUSH is nothing a caller notices."""
    f = cache.cached()(lambda number: number)
    f(1)
    client.script_flush()

    assert (2, 1, 0) == (f(2), f.bust(1), f.stats()["degraded"])
    client.script_flush()
    assert 1 == cache.delete_many([f.key_for(2), "other"])


@pytest.mark.parametrize("kind", ["def", "async def", "task"])
def test_a_server_that_restarted_empty_between_two_commands_costs_nothing(
    proxied: Cache, proxy: FaultProxy, client: Any, kind: str, counter: Counter
) -> None:
    """The publishing finds its connection closed, and then a server that knows no script."""

    def body() -> int:
        proxy.drop_all()
        client.script_flush()
        return counter()

    async def coroutine() -> int:
        return body()

    cached, awaited = proxied.cached(name="cached")(body), proxied.cached(name="awaited")(coroutine)
    task = proxied.cache_async(name="task")(body)
    calls: dict[str, Any] = {"def": cached, "async def": lambda: asyncio.run(awaited()), "task": lambda: task()()}

    assert (1, 1, 1) == (calls[kind](), calls[kind](), counter.runs)
