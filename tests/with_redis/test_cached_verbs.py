"""This is where each verb of a cached function does what its name says."""

from __future__ import annotations

import queue
from collections.abc import Sequence
from typing import Any

import pytest
import redis

from taskcache import Cache, UncacheableArgument, UsageError
from taskcache.protocol.steps import Call
from tests.nodes.waiting import wait_until
from tests.with_redis.gate import Counter, Gate, threads


def test_peek_shows_the_entry_and_computes_nothing(cache: Cache, counter: Counter) -> None:
    """Value, age, remaining time, cost, size and tags of what is stored."""

    @cache.cached(tags=("numbers",))
    def f() -> int:
        return counter()

    before = f.peek()
    f()
    entry = f.peek()

    assert (None, 1) == (before, counter.runs)
    assert entry is not None
    assert (1, ("numbers",)) == (entry.value, entry.tags)
    assert entry.expires_in is not None
    assert 50 < entry.expires_in <= 60
    assert 0 <= entry.age < 10
    assert entry.size_bytes > 0


def test_put_gives_a_call_its_value(cache: Cache, counter: Counter) -> None:
    """What was put is what the call gives, with the function's lifetime; bust removes it."""

    @cache.cached(timeout=30)
    def f(number: int) -> int:
        return counter()

    assert True is f.put(70, 7)
    entry = f.peek(7)

    assert (70, 0) == (f(7), counter.runs)
    assert entry is not None
    assert entry.expires_in is not None
    assert 20 < entry.expires_in <= 30
    assert (1, 1) == (f.bust(7), f(7))


def test_put_with_a_lifetime_of_the_value(cache: Cache, client: redis.Redis) -> None:
    """`timeout(result)` counts for put as well."""

    @cache.cached(timeout=lambda value: value)
    def f() -> int:
        return 0

    f.put(20)

    assert 15_000 < client.pttl(cache.make_key(f.key_for())) <= 20_000


def test_bust_says_whether_there_was_something(cache: Cache) -> None:
    """1 when an entry was there, else 0, as `delete`."""

    @cache.cached()
    def f(number: int) -> int:
        return number

    f(1)

    assert (1, 0, 0) == (f.bust(1), f.bust(1), f.bust(2))


def test_refresh_computes_anew(cache: Cache, counter: Counter) -> None:
    """The new value is given back and stored."""

    @cache.cached()
    def f() -> int:
        return counter()

    assert (1, 2, 2) == (f(), f.refresh(), f())


def test_warm_with_force_computes_anew(cache: Cache, counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    """All calls are removed in one round trip; one whose arguments make no key fails alone."""

    @cache.cached()
    def f(thing: object) -> int:
        return counter()

    f(1), f(2)
    asked: list[list[str]] = []
    calls = cache.station.server.calls

    def counted(wanted: Sequence[Call]) -> list[Any]:
        asked.append([call.name for call in wanted])
        return calls(wanted)

    monkeypatch.setattr(cache.station.server, "calls", counted)
    first, wrong, last = f.warm([(1,), (object(),), (2,)], force=True)

    assert [["forget", "forget"]] == [names for names in asked if "forget" in names]
    assert (3, 4) == (first(), last())
    with pytest.raises(UncacheableArgument):
        wrong()


def test_uncached_is_the_function_itself(cache: Cache, counter: Counter) -> None:
    """Nothing is read, nothing is stored."""

    @cache.cached()
    def f() -> int:
        return counter()

    assert (1, 2, None) == (f.uncached(), f.uncached(), f.peek())


def test_keys_are_keys(cache: Cache, counter: Counter) -> None:
    """`cache.get(f.key_for(x))` is the value, `cache.delete(f.key_for(x))` is bust; make_key is walrus's spelling."""

    @cache.cached()
    def f(a: int, b: int = 2) -> int:
        return counter()

    f(1)
    key = f.key_for(1)

    assert (1, f.make_key((1,), {}), f.make_key((), {"b": 2, "a": 1})) == (cache.get(key), key, key)
    assert (1, 2) == (cache.delete(key), f(1))


def test_a_plain_set_under_a_functions_key_is_not_the_functions_value(cache: Cache, counter: Counter) -> None:
    """`set` stores without the stamps that a bust_all needs, so the function computes; `put` is the verb for that."""

    @cache.cached()
    def f() -> int:
        return counter()

    cache.set(f.key_for(), "set")

    assert ("set", 1, 1) == (cache.get(f.key_for()), f(), cache.get(f.key_for()))


def test_get_sees_an_invalidation(cache: Cache) -> None:
    """`cache.get` of a function's key is as strict as the function."""

    @cache.cached(tags=("t",))
    def f(number: int) -> int:
        return number

    f(1), f(2)
    f.bust_all()
    after_bust_all = cache.get_many([f.key_for(1), f.key_for(2)])
    f(1)
    cache.invalidate("t")

    assert ({}, None) == (after_bust_all, cache.get(f.key_for(1)))


def test_explain_shows_how_a_key_came_about(cache: Cache, cache_name: str) -> None:
    """Name, version, bound arguments with defaults, tags, key."""

    @cache.cached(name="shop.price", version=3, tags=("prices",))
    def price(number: int, currency: str = "EUR") -> int:
        return number

    explained = price.explain(7)
    text = str(explained)

    assert ("shop.price", "3", ("prices",)) == (explained.function, explained.version, explained.tags)
    assert (price.key_for(7), f"{cache_name}:{price.key_for(7)}") == (explained.key, explained.redis_key)
    assert ["number", "currency"] == [name for name, _ in explained.parameters]
    assert "EUR" in text
    assert price.key_for(7) in text


def test_join_waits_for_what_somebody_else_computes(cache: Cache, gate: Gate) -> None:
    """A Result of the computation under way; None when there is none; it starts nothing."""

    @cache.cached()
    def f() -> int:
        return gate.pass_first()

    before = f.join()
    with threads(1) as run:
        leader = run(f)
        gate.wait_reached()
        result = f.join()
        assert result is not None
        with pytest.raises(queue.Empty):
            result(block=False)
        state = wait_until(lambda: result.state == "running" and result.state, "the state to be seen")
        gate.open()

        assert (None, "running", 1, 1, "joined") == (before, state, result(timeout=30), leader.result(), result.source)
    assert 1 == gate.visits


def test_with_options_is_the_same_function_otherwise(cache: Cache, client: redis.Redis, counter: Counter) -> None:
    """Entries are shared; the options hold for calls through the copy only; what makes the key cannot change."""

    @cache.cached(timeout=10)
    def f(number: int) -> int:
        return counter()

    longer = f.with_options(timeout=40)
    longer(1)
    left = client.pttl(cache.make_key(f.key_for(1)))

    assert (f.key_for(1), 1, 10) == (longer.key_for(1), f(1), f.options.timeout)
    assert 30_000 < left <= 40_000
    with pytest.raises(UsageError, match="key"):
        f.with_options(name="other")
    with pytest.raises(UsageError, match="did you mean 'timeout'"):
        f.with_options(timout=1)


def test_stats_count_what_happened(cache: Cache) -> None:
    """Hits, misses, computations, failures of this process, with average times."""

    @cache.cached()
    def f(number: int) -> float:
        return 1 / number

    f(1), f(1), f(1), f(2)
    with pytest.raises(ZeroDivisionError):
        f(0)
    stats = f.stats()

    assert (2, 3, 2, 1, 0) == tuple(stats[name] for name in ("hits", "misses", "computed", "failed", "degraded"))
    assert 0.4 == stats["hit_ratio"]
    assert 0 < stats["avg_miss_seconds"]


def test_averages_are_those_of_calls_that_were_timed(cache: Cache) -> None:
    """The shortest ways look at no clock; a hit that took no time at all would make every other look quick."""

    @cache.cached(metrics=True)
    def timed(number: int) -> int:
        return number

    @cache.cached()
    def f(number: int) -> int:
        return number

    timed(1), timed(1)
    alone = timed.metrics
    timed.map([1] * 10)()
    for _ in range(50):
        f(1)
    stats, counted = f.stats(), f.stats_counted

    assert (11, alone["avg_hit_time"]) == (timed.metrics["hits"], timed.metrics["avg_hit_time"])
    assert (49, 1, 1) == (stats["hits"], stats["misses"], stats["timed_misses"])
    assert counted.timed_hits * stats["avg_hit_seconds"] == pytest.approx(counted.hit_seconds)
    assert (stats["timed_hits"] > 0) == (stats["avg_hit_seconds"] > 0)


def test_metrics_are_walruss_and_asked_for(cache: Cache) -> None:
    """As in walrus there are no metrics unless one says metrics=True."""

    @cache.cached()
    def without() -> int:
        return 1

    @cache.cached(metrics=True)
    def with_metrics() -> int:
        return 1

    with_metrics(), with_metrics()

    assert {"hits", "misses", "avg_hit_time", "avg_miss_time"} == set(with_metrics.metrics)
    assert (1, 1) == (with_metrics.metrics["hits"], with_metrics.metrics["misses"])
    assert not hasattr(without, "metrics")
