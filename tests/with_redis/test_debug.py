"""This is where debug=True turns the cache off: nothing is read or stored, and no server is needed."""

from __future__ import annotations

import pytest

from taskcache import Cache, UsageError, current


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
    cache.cached()(lambda: 1)()

    assert (False, {"hits": 0, "misses": 0, "writes": 0}) == (cache.is_open, cache.metrics)
