"""This is where debug=True turns the cache off: nothing is read or stored, and no server is needed."""

from __future__ import annotations

import pytest
from celery import Celery

from taskcache import BoundCall, Cache, UsageError, current
from taskcache.calls.following import write_id
from taskcache.calls.invocation import Invocation


@pytest.fixture
def cache() -> Cache:
    """A cache in debug, whose server could not answer."""
    return Cache("redis://127.0.0.1:1/0", debug=True)


def test_the_plain_commands_give_what_an_empty_cache_gives(cache: Cache) -> None:
    """walrus's results for debug, but for `delete_many`, which counts here."""
    assert (True, None, 7) == (cache.set("key", 1), cache.get("key"), cache.get("key", 7))
    assert (True, {}, 0, 0) == (
        cache.set_many({"a": 1}, b=2),
        cache.get_many(["a"]),
        cache.delete("a"),
        cache.delete_many(["a"]),
    )
    assert ([], 0, 3, None) == (list(cache.keys()), cache.flush(), cache.incr("count", 3), cache.invalidate("tag"))  # type: ignore[func-returns-value]  # None is the point
    assert (5, 6) == (cache.get_or_set("key", 5), cache.get_or_set("key", lambda: 6))


async def test_the_awaitable_commands_too(cache: Cache) -> None:
    """The same under `aio`."""
    assert (True, None, {}) == (
        await cache.aio.set("key", 1),
        await cache.aio.get("key"),
        await cache.aio.get_many(["a"]),
    )
    assert (0, 0, 0, 3) == (
        await cache.aio.delete("a"),
        await cache.aio.delete_many(["a"]),
        await cache.aio.flush(),
        await cache.aio.incr("count", 3),
    )
    assert ([], 5) == ([key async for key in cache.aio.keys()], await cache.aio.get_or_set("key", lambda: 5))


def test_every_call_is_computed(cache: Cache) -> None:
    """And the verbs find nothing."""
    runs = 0

    @cache.cached(tags=("t",))
    def f(number: int) -> int:
        nonlocal runs
        runs += 1
        return runs

    assert (1, 2) == (f(1), f(1))
    assert (None, True, 0, None) == (f.peek(1), f.put(7, 1), f.bust(1), f.bust_all())  # type: ignore[func-returns-value]  # None is the point
    assert (3, 4, None) == (f.refresh(1), f.uncached(1), f.join(1))


async def test_every_awaited_call_is_computed(cache: Cache) -> None:
    """The same for coroutines and `aio`."""
    runs = 0

    @cache.cached()
    async def f(number: int) -> int:
        nonlocal runs
        runs += 1
        return runs

    assert (1, 2, 3) == (await f(1), await f(1), await f.aio(1))
    assert (None, True, 0, 4) == (
        await f.aio.peek(1),
        await f.aio.put(7, 1),  # type: ignore[arg-type]  # R is the coroutine
        await f.aio.bust(1),
        await f.aio.refresh(1),
    )


def test_arguments_need_no_identity(cache: Cache) -> None:
    """Nothing is keyed, so nothing is refused that would only matter for a key."""

    @cache.cached()
    def f(connection: object) -> int:
        return 1

    assert 1 == f(object())


def test_wrong_use_is_found_in_debug_too(cache: Cache) -> None:
    """What would fail in production fails at the developer's desk."""
    with pytest.raises(UsageError, match="did you mean"):
        cache.cached(timout=5)  # type: ignore[call-overload]  # that is the point
    with pytest.raises(UsageError, match="timeout"):
        cache.set("key", 1, -1)


def test_the_environment_turns_it_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """TASKCACHE_DEBUG=1; an argument wins over it."""
    monkeypatch.setenv("TASKCACHE_DEBUG", "1")

    assert (True, False) == (Cache().debug, Cache("redis://127.0.0.1:1/0", debug=False).debug)


def test_a_worker_function_runs_here(cache: Cache) -> None:
    """`cache_async` computes inline; its result is there at once, errors included."""

    @cache.cache_async()
    def f(number: int) -> float:
        current().progress(1, 2)
        return 1 / number

    result = f(2)

    assert (0.5, True, "inline", "done") == (result(), result.ready(), result.source, result.state)
    with pytest.raises(ZeroDivisionError):
        f(0)()


def test_nothing_is_opened(cache: Cache) -> None:
    """No server is looked for, whatever is called."""
    cache.get("key")
    f = cache.cached()(lambda: 1)
    f()
    f.join()
    with pytest.raises(UsageError, match="nothing is stored"):
        cache.result(write_id(Invocation.of(cache.settings, cache.codec, f.key_for(), f.name, (), 0), "token"))

    assert (False, {"hits": 0, "misses": 0, "writes": 0}) == (cache.is_open, cache.metrics)


def test_an_eager_task_gets_its_arguments(cache: Cache) -> None:
    """Celery's own verbs compute with what was passed, not with the bytes that it travels in; nothing is opened."""
    cache.app = Celery("debug", broker="memory://", set_as_current=False)
    cache.app.conf.task_always_eager = True

    @cache.cache_async()
    def double(number: int, times: int = 2) -> int:
        return times * number

    @cache.cache_async(batch=True)
    def doubles(calls: list[BoundCall]) -> list[int]:
        return [2 * call.args[0] for call in calls]

    assert (8, 12, 12) == (double.delay(4).get(), double.delay(4, times=3).get(), double.s(4, 3).delay().get())
    assert (8, 8) == (double.task.apply((4,)).get(), doubles.delay(4).get())
    assert (None, False) == (double.join(4), cache.is_open)
