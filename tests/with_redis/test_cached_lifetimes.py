"""This is where a value of a cached function lives as long as it was said to."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
import redis

from taskcache import FOREVER, Cache, UsageError
from tests.nodes.waiting import wait_until
from tests.with_redis.gate import Counter, Gate, threads, wait_for_followers


@pytest.mark.parametrize(
    ("timeout", "milliseconds"),
    [
        (10, 10_000),
        (0.5, 500),
        (dt.timedelta(hours=1), 3_600_000),
        (None, 60_000),
        (lambda value: value * 100, 100_000),
        (lambda value: dt.timedelta(seconds=7), 7_000),
    ],
)
def test_lifetimes(cache: Cache, client: redis.Redis, timeout: Any, milliseconds: int) -> None:
    """Seconds, a timedelta, or a function of the result; None is the default of the cache."""

    @cache.cached(timeout=timeout)
    def f() -> int:
        return 1

    f()
    entry = f.peek()

    assert milliseconds - 5_000 < client.pttl(cache.make_key(f.key_for())) <= milliseconds
    assert entry is None or (entry.expires_in is not None and entry.expires_in * 1000 <= milliseconds)


@pytest.mark.keeps_forever
@pytest.mark.parametrize("timeout", [FOREVER, lambda value: FOREVER])
def test_forever_has_no_end(cache: Cache, client: redis.Redis, timeout: Any) -> None:
    """Neither the entry nor the stamp that it needs ends."""

    @cache.cached(timeout=timeout)
    def f() -> int:
        return 1

    f()
    (stamp,) = client.keys("*~fn:*")

    assert (-1, -1) == (client.pttl(cache.make_key(f.key_for())), client.pttl(stamp))


@pytest.mark.parametrize("timeout", [0, lambda value: 0, dt.timedelta(0)])
def test_no_time_shares_the_computation_and_stores_nothing(cache: Cache, gate: Gate, timeout: Any) -> None:
    """With timeout=0 those who wait share one run; the next call computes."""

    @cache.cached(timeout=timeout)
    def f() -> int:
        return gate.pass_first()

    with threads(5) as run:
        leader = run(f)
        gate.wait_reached()
        followers = [run(f) for _ in range(4)]
        wait_for_followers(cache, 4)
        gate.open()
        shared = [caller.result(30) for caller in (leader, *followers)]

    assert ([1] * 5, None, 2, 3) == (shared, f.peek(), f(), f())


def test_a_value_is_new_after_its_lifetime(cache: Cache, counter: Counter) -> None:
    """The lifetime begins when the value is stored and ends for good."""

    @cache.cached(timeout=0.3)
    def f() -> int:
        return counter()

    first = f()
    again = f()
    wait_until(lambda: f.peek() is None, "the value to expire")

    assert (1, 1, 2) == (first, again, f())


@pytest.mark.parametrize("timeout", [-1, "10", True, float("nan")])
def test_a_lifetime_that_is_none_is_refused_at_decoration(cache: Cache, timeout: Any) -> None:
    """A wrong constant is found when the module is imported."""
    with pytest.raises(UsageError, match="timeout"):
        cache.cached(timeout=timeout)


@pytest.mark.parametrize("timeout", [-1, "10", None])
def test_a_lifetime_that_a_function_gives_is_checked_too(cache: Cache, timeout: Any) -> None:
    """What `timeout(result)` gives wrongly is the caller's error, and the flight is over."""

    @cache.cached(timeout=lambda value: timeout)
    def f() -> int:
        return 1

    for _ in range(2):
        with pytest.raises(UsageError, match="timeout"):
            f()
