"""This is where `cached` does what a user of a cached function expects of it, verb by verb."""

from __future__ import annotations

import datetime as dt
import functools
import inspect
import queue
from typing import Any

import pytest
import redis

from taskcache import FOREVER, Cache, UsageError
from taskcache.decorators import CachedFunction
from tests.nodes.waiting import wait_until
from tests.with_redis.gate import Gate, threads, wait_for_followers


class Counter:
    """A function's body that tells how often it ran."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self) -> int:
        self.runs += 1
        return self.runs


@pytest.fixture
def counter() -> Counter:
    return Counter()


# Calling


def test_the_second_call_is_not_computed(cache: Cache, counter: Counter) -> None:
    """Equal arguments, one computation."""

    @cache.cached()
    def f(number: int) -> int:
        return counter()

    assert (1, 1, 2) == (f(1), f(1), f(2))


def test_spellings_of_a_call_are_one_entry(cache: Cache, counter: Counter) -> None:
    """f(1), f(a=1), f(1, 2) and f(1, b=2) are one call."""

    @cache.cached()
    def f(a: int, b: int = 2) -> int:
        return counter()

    assert {1} == {f(1), f(a=1), f(1, 2), f(1, b=2), f(b=2, a=1)}


def test_values_that_python_holds_equal_are_different_calls(cache: Cache, counter: Counter) -> None:
    """1, True, 1.0 and "1" are equal or alike to Python, and four arguments to a cache."""

    @cache.cached()
    def f(value: Any) -> int:
        return counter()

    assert [1, 2, 3, 4, 5, 6] == [f(value) for value in (1, True, 1.0, "1", (1,), [1])]


def test_none_is_cached(cache: Cache, counter: Counter) -> None:
    """A function that returns None is not run again for it."""

    @cache.cached()
    def f() -> None:
        counter()

    f()
    f()

    assert 1 == counter.runs


def test_the_decorator_may_be_bare(cache: Cache, counter: Counter) -> None:
    """`@cache.cached` and `@cache.cached()` are one decorator."""

    @cache.cached
    def f() -> int:
        return counter()

    assert (1, 1) == (f(), f())


def test_arguments_that_do_not_fit_are_pythons_error(cache: Cache) -> None:
    """A wrong call is a TypeError as without the cache, before anything is asked of a server."""

    @cache.cached()
    def f(number: int) -> int:
        return number

    for wrong in (lambda: f(), lambda: f(1, 2), lambda: f(1, other=2)):  # type: ignore[call-arg]  # that is the point
        with pytest.raises(TypeError):
            wrong()


def test_what_a_caller_changes_is_not_what_others_get(cache: Cache) -> None:
    """A hit is read anew each time: nobody shares a list with anybody."""

    @cache.cached()
    def f() -> list[int]:
        return [1, 2]

    f().append(3)
    f().append(4)

    assert [1, 2] == f()


def test_the_key_is_fixed_before_the_call(cache: Cache) -> None:
    """A function that changes its argument does not change under which key its value is stored."""

    @cache.cached()
    def total(numbers: list[int]) -> int:
        numbers.append(100)
        return sum(numbers)

    first = total([1, 2])

    assert (103, 103) == (first, total([1, 2]))


# Errors


def test_an_error_reaches_the_caller_and_is_not_stored(cache: Cache, counter: Counter) -> None:
    """The error is the function's own; the next call computes again."""

    @cache.cached()
    def f() -> int:
        if counter() == 1:
            raise LookupError("nothing there")
        return counter.runs

    with pytest.raises(LookupError, match="nothing there"):
        f()
    assert (2, 2) == (f(), f())


def test_an_error_reaches_everybody_who_waits(cache: Cache, gate: Gate) -> None:
    """Followers get the leader's error with its type and message, not a run of their own."""

    @cache.cached()
    def f() -> int:
        gate.pass_first()
        raise LookupError("nothing there")

    with threads(5) as run:
        leader = run(f)
        gate.wait_reached()
        followers = [run(f) for _ in range(4)]
        wait_for_followers(cache, 4)
        gate.open()
        errors = [caller.exception(30) for caller in (leader, *followers)]

    assert [(LookupError, "nothing there")] * 5 == [(type(error), str(error)) for error in errors]
    assert 1 == gate.visits


def test_followers_see_where_it_failed(cache: Cache, gate: Gate) -> None:
    """The cause of a follower's error is the leader's traceback."""

    @cache.cached()
    def f() -> int:
        gate.pass_first()
        return 1 // 0

    with threads(2) as run:
        leader = run(f)
        gate.wait_reached()
        follower = run(f)
        wait_for_followers(cache, 1)
        gate.open()
        error = follower.exception(30)

    assert isinstance(leader.exception(), ZeroDivisionError)
    assert isinstance(error, ZeroDivisionError)
    assert "return 1 // 0" in str(error.__cause__)


def test_an_interrupted_leader_is_followed_by_another(cache: Cache, gate: Gate) -> None:
    """KeyboardInterrupt in the leader is nobody else's: a follower computes at once, not after the lease."""

    @cache.cached()
    def f() -> int:
        if gate.pass_first() == 1:
            raise KeyboardInterrupt
        return gate.visits

    with threads(3) as run:
        leader = run(f)
        gate.wait_reached()
        followers = [run(f) for _ in range(2)]
        wait_for_followers(cache, 2)
        gate.open()

        assert isinstance(leader.exception(30), KeyboardInterrupt)
        # Shorter than the lease, let alone its end and the grace after it.
        assert [2, 2] == [follower.result(4) for follower in followers]


def test_an_interrupted_follower_leaves_the_others_alone(cache: Cache, gate: Gate) -> None:
    """Ctrl-C while waiting ends this wait only."""
    import signal
    import threading

    @cache.cached()
    def f() -> int:
        return gate.pass_first()

    main = threading.main_thread().ident
    assert main == threading.get_ident()

    def interrupt() -> None:
        wait_for_followers(cache, 2)
        signal.pthread_kill(main, signal.SIGINT)

    with threads(3) as run:
        leader = run(f)
        gate.wait_reached()
        other = run(f)
        interrupted = run(interrupt)
        with pytest.raises(KeyboardInterrupt):
            f()
        interrupted.result(30)
        gate.open()

        assert (1, 1, 1) == (leader.result(30), other.result(30), f())


def test_a_function_may_call_itself(cache: Cache, counter: Counter) -> None:
    """Recursion with other arguments is cached at each level."""

    @cache.cached()
    def fibonacci(n: int) -> int:
        counter()
        return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

    assert (832040, 31) == (fibonacci(30), counter.runs)


def test_a_function_that_asks_for_itself_does_not_wait_for_itself(cache: Cache, counter: Counter) -> None:
    """Same-key recursion computes without the cache and is not stored; the outer value is."""

    @cache.cached()
    def f(number: int) -> str:
        return "inner" if counter() > 1 else f(number) + " in outer"

    assert ("inner in outer", "inner in outer", 2) == (f(1), f(1), counter.runs)


def test_two_functions_may_call_each_other(cache: Cache, counter: Counter) -> None:
    """A circle over two keys ends as well."""

    @cache.cached()
    def even(number: int) -> str:
        return "stop" if counter() > 4 else odd(number)

    @cache.cached()
    def odd(number: int) -> str:
        return even(number)

    assert "stop" == even(1)


def test_a_thread_of_the_body_is_somebody_else(cache: Cache, counter: Counter) -> None:
    """What a body hands to another thread without its context waits like everybody; other keys work."""

    @cache.cached()
    def part(number: int) -> int:
        return number * 10

    @cache.cached()
    def whole() -> list[int]:
        with threads(3) as run:
            return [each.result(30) for each in [run(lambda number=number: part(number)) for number in range(3)]]  # type: ignore[misc]  # a lambda's default has no type

    assert [0, 10, 20] == whole()


# Lifetimes


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


# Verbs


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

    assert (2, 2, 2, 1, 0) == tuple(stats[name] for name in ("hits", "misses", "computed", "failed", "degraded"))
    assert 0.5 == stats["hit_ratio"]
    assert 0 < stats["avg_miss_seconds"]


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


# Being a function


def test_a_decorated_function_looks_like_its_function(cache: Cache) -> None:
    """Name, documentation, signature, annotations and the function itself are where tools look for them."""

    def price(number: int, *, currency: str = "EUR") -> float:
        """What it costs."""
        return 1.0

    decorated = cache.cached()(price)

    assert isinstance(decorated, CachedFunction)
    assert ("price", "What it costs.", __name__) == (decorated.__name__, decorated.__doc__, decorated.__module__)
    assert (inspect.signature(price), price) == (inspect.signature(decorated), inspect.unwrap(decorated))
    assert price.__annotations__ == decorated.__annotations__
    assert callable(decorated)
    assert repr(decorated).startswith("<cached ")


def test_a_lambda_and_a_partial_can_be_cached(cache: Cache, counter: Counter) -> None:
    """Whatever can be called can be cached."""
    doubled = cache.cached()(lambda number: counter() * number)
    with_base = cache.cached(name="with_base")(functools.partial(lambda base, number: counter() + base + number, 100))

    assert (2, 2) == (doubled(2), doubled(2))
    assert (103, 103) == (with_base(1), with_base(1))


def test_all_kinds_of_parameters(cache: Cache, counter: Counter) -> None:
    """Positional-only, variadic and keyword-only parameters are bound as Python binds them."""

    @cache.cached()
    def f(a: int, /, b: int, *rest: int, c: int = 3, **more: int) -> int:
        return counter()

    assert {1} == {f(1, 2), f(1, b=2), f(1, 2, c=3)}
    assert [2, 3, 4] == [f(1, 2, 3), f(1, 2, c=4), f(1, 2, d=5)]
    assert 4 == f(1, 2, d=5)


def test_an_edited_function_by_value_is_another_version(cache: Cache) -> None:
    """A function that no other process can import (a notebook's cell) recomputes when its code or constants change."""

    def define(body: str) -> Any:
        space: dict[str, Any] = {"__name__": "__main__"}
        exec(f"def f(number):\n    return {body}", space)
        return cache.cached()(space["f"])

    one, same, other = define("number + 1"), define("number + 1"), define("number + 2")

    assert (one.key_for(1), 2, 3) == (same.key_for(1), one(1), other(1))
