"""This is where everything is done that a cache does: each action is tried with the rights of `deploy/users.acl`."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping
from typing import Any

from celery import Celery

from taskcache import FOREVER, Cache
from taskcache.cli import main as command_line
from taskcache.protocol.steps import Call
from tests.nodes.waiting import wait_until
from tests.with_celery.apps.ledger import Ledger

_numbers = itertools.count(1)


def fresh() -> int:
    """A number nobody has used."""
    return next(_numbers)


# What the callers know of the functions of tests/security/app.py: the worker has their bodies.
def double(number: int) -> int:
    raise NotImplementedError


def held(name: str) -> str:
    raise NotImplementedError


def retried(name: str) -> str:
    raise NotImplementedError


class Caller:
    """A process's side of the application whose worker is tests/security/app.py."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self.app: Any = Celery("caller", broker=env["ATTACKED_BROKER"], backend="disabled://", set_as_current=False)
        self.app.conf.task_default_queue = "attacked"
        self.ledger = Ledger(env["ATTACKED_LEDGER"])
        self.url = env["ATTACKED_CACHE"]
        self.cache = Cache(self.url, name="cache", app=self.app, secret=env["ATTACKED_SECRET"])
        self.double, self.held, self.retried = map(self._task, (double, held, retried))

    def _task(self, body: Any) -> Any:
        return self.cache.cache_async(name=f"rights.{body.__name__}", timeout=60)(body)

    def close(self) -> None:
        self.cache.close()
        self.app.close()


def primitives(cache: Cache) -> None:
    n = fresh()
    cache.set(f"k{n}", [n], timeout=60)
    cache.set_many({f"a{n}": 1, f"b{n}": [2]}, timeout=60)
    cache.set(f"s{n}", n, timeout=60)
    assert {f"a{n}": 1, f"b{n}": [2]} == cache.get_many([f"a{n}", f"b{n}", "none"])
    assert [n] == cache.get(f"k{n}")
    assert n == cache.get_or_set(f"c{n}", lambda: n, timeout=60)
    assert (1, 1, 0) == (cache.delete(f"k{n}"), cache.delete_many([f"a{n}", "none"]), cache.delete("none"))
    cache.incr(f"i{n}")
    assert 3 == cache.incr(f"i{n}", 2)
    cache.delete(f"i{n}")


def awaitable(cache: Cache) -> None:
    async def run() -> None:
        n = fresh()
        await cache.aio.set(f"k{n}", [n], timeout=60)
        assert [n] == await cache.aio.get(f"k{n}")
        await cache.aio.delete(f"k{n}")
        assert n == await cache.aio.incr(f"i{n}", n)
        await cache.aio.delete(f"i{n}")

    asyncio.run(run())


def functions(cache: Cache) -> None:
    @cache.cached(name="acl.cached", timeout=60, tags=("t",))
    def square(number: int) -> int:
        return number * number

    @cache.cached(name="acl.forever", timeout=FOREVER)
    def cube(number: int) -> int:
        return number**3

    n = fresh()
    assert (n * n, n * n) == (square(n), square(n))
    entry = square.peek(n)
    assert entry is not None
    assert entry.value == n * n
    square.bust(n)
    square.put(5, n)
    assert 5 == square(n)
    cache.invalidate("t")
    square.bust_all()
    assert (n**3, n**3) == (cube(n), cube(n))
    cube.bust(n)
    cube.bust_all()


def near(cache: Cache) -> None:
    @cache.cached(name="acl.near", timeout=60, near=True)
    def square(number: int) -> int:
        return number * number

    n = fresh()
    assert [n * n] * 3 == [square(n) for _ in range(3)]


def workers(caller: Caller) -> None:
    n = fresh()
    double = caller.double(n)
    again = caller.cache.result(double.id)
    assert (2 * n, 2 * n, 2 * n) == (double(timeout=20), again(timeout=20), caller.double(n)(block=False))
    assert n * 2 == asyncio.run(_awaited(caller, n))
    assert f"{n}"[::-1] == caller.retried(f"{n}")(timeout=20)
    caller.double.bust(n)
    assert [2 * n, 2 * n + 2] == caller.double.map([n, n + 1])(timeout=20)


async def _awaited(caller: Caller, number: int) -> Any:
    caller.double.bust(number)
    return await (await caller.double.aio(number)).wait(timeout=20)


def waiting(caller: Caller) -> None:
    """Progress, joining, looking at a running flight, and leaving one that has not begun."""
    name = f"held-{fresh()}"
    held = caller.held(name)
    try:
        caller.ledger.wait_runs(name, timeout=20)
        wait_until(lambda: held.progress.done == 1, "progress", 20)
        joined = caller.held.join(name)
        assert joined is not None
        # What runs is outdated now: who calls anew displaces it.
        caller.held.bust(name)
        anew = caller.held(name)
        # `taskcache ping` begins with it; what it asks more is INFO, and it does without.
        caller.cache.station.server.call(Call("PING", ()))
        assert 0 == command_line(["show", "--url", caller.url, "--name", "cache", caller.held.key_for(name)])
    finally:
        caller.ledger.open(name)
    assert name[::-1] == held(timeout=20) == joined(timeout=20) == anew(timeout=20)
    queued = caller.held.with_options(queue="nobody")(f"{name}!")
    caller.held.bust(f"{name}!")
    assert queued.cancel()
    held.cancel()


def listing(cache: Cache) -> None:
    n = fresh()
    cache.set(f"l{n}", 1, timeout=60)
    assert f"l{n}" in list(cache.keys(strip_prefix=True))
    assert cache.flush() >= 1


# By name, what a caller does.
ACTIONS: dict[str, Callable[[Caller], None]] = {
    "primitives": lambda caller: primitives(caller.cache),
    "functions": lambda caller: functions(caller.cache),
    "workers": workers,
    "waiting": waiting,
    "awaitable": lambda caller: awaitable(caller.cache),
    "near": lambda caller: near(caller.cache),
    "listing": lambda caller: listing(caller.cache),
}
