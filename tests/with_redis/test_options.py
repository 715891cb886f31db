"""This is where each option of `cached` does what its name says, and where a body has the last word through `current()`."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
import redis

from taskcache import FOREVER, Cache, UsageError, current, progress
from tests.with_redis.gate import Gate, threads, wait_for_followers


class Body:
    """A function's body that counts its runs."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self) -> int:
        self.runs += 1
        return self.runs


@pytest.fixture
def body() -> Body:
    return Body()


# key_fn, ignore, version, name


def test_key_fn_gets_args_and_kwargs_as_walrus_gives_them(cache: Cache, body: Body) -> None:
    """The tuple and the dict of the call as it was spelled; equal keys are one entry."""
    seen: list[Any] = []

    def key_fn(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        seen.append((args, kwargs))
        return str(sum(args) + sum(kwargs.values()))

    @cache.cached(key_fn=key_fn)
    def f(a: int, b: int = 0) -> int:
        return body()

    assert (1, 1, 2) == (f(1, b=2), f(3), f(4))
    assert ((1,), {"b": 2}) == seen[0]
    assert f.key_for(3) == f"{f.name}:{f.origin.version}:3"


def test_ignore_leaves_a_parameter_out_of_the_key(cache: Cache, body: Body) -> None:
    """Whatever is passed there, it is the same call; the function gets it."""
    loggers: list[object] = []

    @cache.cached(ignore=("log",))
    def f(number: int, log: object = None) -> int:
        loggers.append(log)
        return body()

    logger = object()

    assert (1, 1, 1, [logger]) == (f(1, logger), f(1), f(1, log="x"), loggers)


def test_a_new_version_has_new_entries(cache: Cache, body: Body) -> None:
    """Two versions do not see each other's values, so that a deploy can be rolled back."""

    def f(number: int) -> int:
        return body()

    one = cache.cached(name="f", version=1)(f)
    two = cache.cached(name="f", version=2)(f)
    text = cache.cached(name="f", version="1")(f)

    assert (1, 2, 1, 2) == (one(7), two(7), one(7), two(7))
    assert one.key_for(7) == text.key_for(7)


def test_a_name_is_the_identity_of_a_function(cache: Cache, body: Body) -> None:
    """A function that was moved or renamed keeps its entries when it keeps its name."""

    def old(number: int) -> int:
        return body()

    def moved(number: int) -> int:
        return body()

    assert (1, 1) == (
        cache.cached(name="shop.price", version=1)(old)(7),
        cache.cached(name="shop.price", version=1)(moved)(7),
    )


def test_the_default_name_is_module_and_qualified_name(cache: Cache) -> None:
    """It is the first part of each key."""

    @cache.cached()
    def f() -> int:
        return 1

    name = f"{__name__}.test_the_default_name_is_module_and_qualified_name.<locals>.f"

    assert (name, True) == (f.name, f.key_for().startswith(name + ":"))


# store_if, and the body's own word


def test_store_if_decides_by_the_result(cache: Cache, body: Body) -> None:
    """What it declines is given to the callers and not stored."""

    @cache.cached(store_if=lambda value: value % 2 == 0)
    def f() -> int:
        return body()

    assert (1, None) == (f(), f.peek())
    assert (2, 2) == (f(), f())


def test_declined_values_reach_those_who_wait(cache: Cache, gate: Gate) -> None:
    """One computation for all who wait, even if it is not stored."""
    f = cache.cached(store_if=lambda value: False)(gate.pass_first)
    with threads(4) as run:
        leader = run(lambda: f())
        gate.wait_reached()
        followers = [run(lambda: f()) for _ in range(3)]
        wait_for_followers(cache, 3)
        gate.open()

        assert ([1] * 4, 2) == ([each.result(30) for each in (leader, *followers)], f())


def test_the_body_may_refuse_to_be_stored(cache: Cache, body: Body) -> None:
    """`current().do_not_store()`: for a partial answer, a fallback, a value from a broken upstream."""

    @cache.cached()
    def f() -> int:
        if body() == 1:
            current().do_not_store()
        return body.runs

    assert (1, 2, 2) == (f(), f(), f())


@pytest.mark.parametrize(
    ("timeout", "milliseconds"), [(5, 5_000), (0.5, 500), (dt.timedelta(minutes=2), 120_000), (0, -2)]
)
def test_the_body_may_set_its_lifetime(cache: Cache, client: redis.Redis, timeout: Any, milliseconds: int) -> None:
    """`current().timeout = ...` wins over the decorator's; 0 stores nothing."""

    @cache.cached(timeout=30)
    def f() -> int:
        current().timeout = timeout
        return 1

    f()
    left = client.pttl(cache.make_key(f.key_for()))

    assert left == -2 if milliseconds < 0 else milliseconds - 5_000 < left <= milliseconds


@pytest.mark.keeps_forever
def test_the_body_may_ask_for_ever(cache: Cache, client: redis.Redis) -> None:
    """FOREVER from the body keeps the stamp for ever as well."""

    @cache.cached(timeout=30)
    def f() -> int:
        current().tags.add("t")
        current().timeout = FOREVER
        return 1

    f()

    assert -1 == client.pttl(cache.make_key(f.key_for()))
    assert [-1, -1] == [client.pttl(stamp) for stamp in client.keys("*~*")]


@pytest.mark.parametrize("timeout", [-1, "5", float("inf")])
def test_a_wrong_lifetime_of_the_body_is_its_error(cache: Cache, timeout: Any) -> None:
    """The error is raised on the line that says it."""

    @cache.cached()
    def f() -> int:
        current().timeout = timeout
        return 1

    with pytest.raises(UsageError):
        f()


def test_the_body_knows_its_key(cache: Cache) -> None:
    """`current().key` is the key of the call; outside of a computation it is empty."""

    @cache.cached()
    def f(number: int) -> str:
        return current().key

    assert (f.key_for(7), "") == (f(7), current().key)


def test_nested_computations_have_each_their_own(cache: Cache, client: redis.Redis) -> None:
    """What the inner one says is not said for the outer one."""

    @cache.cached(timeout=30)
    def inner() -> int:
        current().timeout = 5
        current().tags.add("inner")
        return 1

    @cache.cached(timeout=30)
    def outer() -> int:
        current().tags.add("outer")
        return inner() + 1

    outer()
    one, two = inner.peek(), outer.peek()

    assert one is not None
    assert two is not None
    assert (("inner",), ("outer",)) == (one.tags, two.tags)
    assert (True, True) == (one.expires_in is not None and one.expires_in <= 5, (two.expires_in or 0) > 10)


def test_outside_everything_is_a_no_op() -> None:
    """A function that uses `current()` can be called by anybody, and leaves no trace for the next computation."""
    current().timeout = 5
    current().do_not_store()
    progress(1, 2, "half")

    assert (None, True, False) == (current().timeout, current().stores, current().is_cancelled)


def test_progress_is_seen_by_those_who_join(cache: Cache, gate: Gate) -> None:
    """A follower's Result shows how far the leader is."""

    @cache.cached()
    def f() -> int:
        progress(3, 10, "third of ten")
        return gate.pass_first()

    with threads(1) as run:
        leader = run(lambda: f())
        gate.wait_reached()
        result = f.join()
        assert result is not None
        told = next(iter(result.updates(timeout=20)))
        gate.open()

        assert ((3, 10, "third of ten"), 1) == ((told.done, told.total, told.message), leader.result(30))


def test_a_body_can_see_that_it_was_overtaken(redis_url: str, cache_name: str, client: redis.Redis) -> None:
    """`current().is_cancelled` is false while somebody may get the value, and true when the flight is over."""
    seen: list[bool] = []
    with Cache(redis_url, name=cache_name, default_timeout=60) as cache:

        @cache.cached()
        def f() -> int:
            seen.append(current().is_cancelled)
            (flight,) = client.keys("*:flight")
            client.hset(flight, "owner", "somebody else")
            seen.append(current().is_cancelled)
            return 1

        assert 1 == f()
    assert [False, True] == seen


# defaults and profiles


def test_defaults_of_a_cache_hold_for_its_decorators(redis_url: str, cache_name: str) -> None:
    """`Cache(defaults=...)` and `cache.with_options(...)` set options for all functions; a decorator's own win."""
    with Cache(redis_url, name=cache_name, default_timeout=60, defaults={"tags": ("all",), "version": 2}) as cache:
        f = cache.cached()(lambda: 1)
        g = cache.with_options(timeout=5).cached(version=3)(lambda: 1)

        assert (("all",), 2, None) == (f.options.tags, f.options.version, f.options.timeout)
        assert (("all",), 3, 5) == (g.options.tags, g.options.version, g.options.timeout)


def test_a_profile_is_a_view_of_the_same_cache(cache: Cache) -> None:
    """Values and connections are shared."""
    profile = cache.with_options(timeout=5)
    profile.set("key", 1)

    assert (1, cache.name) == (cache.get("key"), profile.name)


def test_a_profile_sees_who_waits(cache: Cache, gate: Gate) -> None:
    """Also one that was made before the first command."""
    profile = cache.with_options(timeout=30)
    f = cache.cached()(gate.pass_first)
    with threads(2) as run:
        callers = [run(f), run(f)]
        gate.wait_reached()
        wait_for_followers(cache, 1)
        waits = profile.stats()["waits"]
        gate.open()

    assert (1, 1, 1) == (waits, *(each.result(30) for each in callers))


def test_a_profile_may_take_its_options_from_a_generator(cache: Cache) -> None:
    """It is looked at for each function, and would be empty for the second."""
    profile = cache.with_options(tags=(tag for tag in ("a", "b")))
    functions = [profile.cached(name=name, version=1)(lambda: 1) for name in "fg"]

    assert [("a", "b")] * 2 == [function.explain().tags for function in functions]


def test_a_profiles_ignore_is_for_keys_made_of_parameters(cache: Cache) -> None:
    """A property, and a function with a `key_fn`, go without it; said of themselves it is refused."""
    profile = cache.with_options(ignore=("session",))

    assert 7 == profile.cached(name="f", key_fn=lambda args, kwargs: "key")(lambda: 7)()
    assert profile.cached_property(name="p", version=1)(lambda self: 1) is not None
    with pytest.raises(UsageError, match="would change nothing"):
        profile.cached(key_fn=lambda args, kwargs: "key", ignore=("session",))(lambda: 7)


def test_a_profile_is_checked(cache: Cache) -> None:
    """Unknown options are refused here as well."""
    with pytest.raises(UsageError, match="did you mean 'timeout'"):
        cache.with_options(timout=5)


def test_a_version_is_part_of_every_key(cache: Cache) -> None:
    """Of one that `key_fn` makes, and of a property's: old values do not come back under a new version."""

    class Thing:
        def __cache_key__(self) -> int:
            return 7

    def made(version: int) -> tuple[Any, Any]:
        fn = cache.cached(name="f", key_fn=lambda args, kwargs: "key", version=version)(lambda: version)
        return fn(), cache.cached_property(name="p", version=version)(lambda self: version).function(Thing())

    assert [(1, 1), (2, 2), (1, 1)] == [made(1), made(2), made(1)]


def test_a_generator_of_names_is_read_once(cache: Cache, body: Body) -> None:
    """`ignore=` takes any several texts."""

    names: Any = (name for name in ("session",))

    @cache.cached(ignore=names)
    def f(number: int, session: object = None) -> int:
        return body()

    assert [1, 1, 2] == [f(1, object()), f(1), f(2)]
    nothing: Any = None
    with pytest.raises(UsageError, match="several"):
        cache.cached(tags=nothing)


def test_attributes_of_a_function_are_its_own(cache: Cache) -> None:
    """Whatever they are called: ours are not taken for them."""

    def f() -> int:
        return 1

    f.cache, f.options, f.origin, f.name = {}, None, "elsewhere", "mine"  # type: ignore[attr-defined]  # anybody may
    f.invocation, f.peek, f.colour = "POST", 3, "red"  # type: ignore[attr-defined]
    cached = cache.cached()(f)

    assert [1, 1] == [cached(), cached()]
    assert cached.cache is cache
    assert cached.peek() is not None
    assert "red" == cached.colour  # type: ignore[attr-defined]


def test_a_profile_stands_on_its_cache(client: redis.Redis, cache_name: str) -> None:
    """One connection, one app, whatever is said after it was made."""
    cache = Cache(client, name=cache_name, default_timeout=60)
    profile = cache.with_options(timeout=30)
    cache.app = "shop.app"
    profile.set("key", 1)

    assert (True, "shop.app", 1) == (cache.is_open, profile.app, cache.get("key"))
    assert cache.station is profile.station
    cache.close()
