"""This is where wrong use is met with a clear error that names the cure, in bounded time, and nothing stays locked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import redis

from taskcache import Cache, UncacheableArgument, UnstorableValue, UsageError


def no_flight(client: redis.Redis) -> bool:
    return not client.keys("*:flight")


def test_an_argument_without_identity(cache: Cache) -> None:
    """The error names the argument, its type and the cures."""

    @cache.cached()
    def f(number: int, connection: object) -> int:
        return number

    with pytest.raises(UncacheableArgument, match=r"`connection`.*object.*stands for it.*ignore=\(\"connection\",\)"):
        f(1, object())


def test_an_argument_without_identity_deep_inside(cache: Cache) -> None:
    """The way to the culprit is shown."""

    @cache.cached()
    def f(orders: list[Any]) -> int:
        return 1

    with pytest.raises(UncacheableArgument, match=r"`orders\[1\]\['who'\]`"):
        f([{}, {"who": object()}])


def test_an_ignored_argument_needs_no_identity(cache: Cache) -> None:
    """The named cure works."""

    @cache.cached(ignore=("connection",))
    def f(number: int, connection: object) -> int:
        return number

    assert (1, 1) == (f(1, object()), f(1, object()))
    assert f.key_for(1, object()) == f.key_for(1, None)


def test_a_result_that_cannot_be_stored(cache: Cache, client: redis.Redis) -> None:
    """Raised on the first call, in the caller, with the cure; the next caller is not kept waiting."""

    @cache.cached()
    def f() -> object:
        return object()

    for _ in range(2):
        with pytest.raises(UnstorableValue, match="secret"):
            f()
    assert no_flight(client)


def test_generators_are_refused(cache: Cache) -> None:
    """A generator can be used once, a cached value is used often: refused when it is decorated."""

    def generator() -> Iterator[int]:
        yield 1

    async def async_generator() -> AsyncIterator[int]:
        yield 1

    for function in (generator, async_generator):
        with pytest.raises(UsageError, match="return a list"):
            cache.cached()(function)


def test_a_celery_task_is_refused(cache: Cache) -> None:
    """The cure is the other decorator."""
    from celery import Celery

    app = Celery("shop", set_as_current=False)

    @app.task(name="shop.task")
    def task() -> int:
        return 1

    with pytest.raises(UsageError, match="cache_async"):
        cache.cached()(task)


@pytest.mark.parametrize("thing", [7, "name", None])
def test_only_functions_are_decorated(cache: Cache, thing: Any) -> None:
    """Options are keyword-only, so `cached(60)` is the usual slip."""
    if thing is None:
        with pytest.raises(UsageError, match="NoneType"):
            cache.cached()(thing)  # type: ignore[arg-type]  # that is the point
    else:
        with pytest.raises(UsageError, match="keyword-only"):
            cache.cached(thing)


def test_a_class_is_refused(cache: Cache) -> None:
    """Objects are made by functions, and those can be cached."""

    class Shop:
        pass

    with pytest.raises(UsageError, match="class Shop"):
        cache.cached()(Shop)


def test_twice_is_once_too_many(cache: Cache) -> None:
    """A cached function is not cached again."""
    with pytest.raises(UsageError, match="already"):
        cache.cached()(cache.cached()(lambda: 1))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"timout": 5}, "did you mean 'timeout'"),
        ({"stale_while_revalidate": 5}, "no option 'stale_while_revalidate'"),
        ({"jitter": 0.1}, "no option 'jitter'"),
        ({"queue": "reports"}, "belongs to cache_async"),
        ({"on_broker_error": "inline"}, "belongs to cache_async"),
        ({"key_fn": "key"}, "key_fn"),
        ({"ignore": "self"}, r'ignore=\("self",\)'),
        ({"ignore": (1,)}, "parameter names"),
        ({"ignore": ("x",), "key_fn": lambda args, kwargs: "x"}, "key_fn makes the whole key"),
        ({"tags": "users"}, r"tags=\('users',\)"),
        ({"store_if": True}, "function of the result"),
        ({"on_cache_error": "ignore"}, "inline, raise"),
        ({"name": ""}, "name"),
        ({"name": "a{b}"}, "braces"),
        ({"timeout": "60"}, "timedelta"),
    ],
)
def test_options_are_checked_at_decoration(cache: Cache, options: dict[str, Any], said: str) -> None:
    """Unknown, foreign or wrong options are found at import, each with what to write instead."""
    with pytest.raises(UsageError, match=said):
        cache.cached(**options)(lambda: 1)
    if "name" not in options:
        with pytest.raises(UsageError, match=said.replace("cached(", "cached_property(")):
            cache.cached_property(**options)(lambda self: 1)


def test_ignoring_what_is_no_parameter(cache: Cache) -> None:
    """A misspelt name in `ignore` would silently make more entries."""

    def f(number: int) -> int:
        return number

    with pytest.raises(UsageError, match="nubmer"):
        cache.cached(ignore=("nubmer",))(f)


@pytest.mark.parametrize("made", [None, 7, b"key", ("a",)])
def test_a_key_function_gives_a_text(cache: Cache, made: Any) -> None:
    """What is not a str is refused on the call, with the function's name."""

    @cache.cached(key_fn=lambda args, kwargs: made)
    def f() -> int:
        return 1

    with pytest.raises(UsageError, match="str"):
        f()


def test_an_error_in_a_users_hook_is_the_callers(cache: Cache, client: redis.Redis) -> None:
    """key_fn, tags, store_if and timeout are the user's code: their errors come through, and the flight is over."""

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise LookupError("in the hook")

    for option in ("key_fn", "tags", "store_if", "timeout"):
        given: dict[str, Any] = {option: fail}
        f = cache.cached(**given)(lambda: 1)
        for _ in range(2):
            with pytest.raises(LookupError, match="in the hook"):
                f()
        assert no_flight(client)


@pytest.mark.parametrize("made", ["users", [1], [""], [None]])
def test_a_tag_is_a_text(cache: Cache, made: Any) -> None:
    """A tag that is no text, or empty, is refused."""
    f = cache.cached(tags=lambda: made)(lambda: 1)

    if made == "users":
        # A text is iterable: it would make five tags of one letter.
        with pytest.raises(UsageError, match="tags"):
            f()
    else:
        with pytest.raises(UsageError, match="tag"):
            f()


def test_names_of_caches(redis_url: str) -> None:
    """Signs with a meaning in Redis keys are refused."""
    for name in ("a{b", "a}b", "a~b", " "):
        with pytest.raises(UsageError, match="name"):
            Cache(redis_url, name=name)


@pytest.mark.parametrize("database", ["127.0.0.1:6379", "http://localhost", "redis://localhost:port/0", 7, object()])
def test_what_is_no_server(database: Any) -> None:
    """An address that is none is found by the first command, and the error shows how one looks."""
    with pytest.raises(UsageError, match="Redis"):
        Cache(database).get("key")


@pytest.mark.parametrize(
    "settings",
    [
        {"codec": "json"},
        {"codec": "pickle"},
        {"secret": "short"},
        {"secret": 5},
        {"name": 5},
        {"compress_above": "4 KiB"},
        {"compress_above": -1},
        {"app": 5},
        {"lease": 0.01},
        {"lease": "5"},
        {"default_timeout": -1},
        {"default_timeout": "60"},
        {"transport": "carrier pigeon"},
        {"defaults": {"timout": 1}},
    ],
)
def test_settings_are_checked_when_the_cache_is_made(settings: dict[str, Any]) -> None:
    """Nothing has to run before a wrong setting is found."""
    with pytest.raises(UsageError):
        Cache("redis://127.0.0.1:1/0", **settings)


def test_every_error_of_ours_has_one_base(cache: Cache) -> None:
    """`except TaskCacheError` catches them all, and the builtin kin as well."""
    import taskcache

    errors = [each for each in vars(taskcache).values() if isinstance(each, type) and issubclass(each, BaseException)]

    assert len(errors) > 10
    assert all(issubclass(error, taskcache.TaskCacheError) for error in errors)
    assert all("\n" not in str(error()) or len(str(error())) > 60 for error in errors)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://localhost", "write redis://host:6379/0"),
        ("redis://:geh/eim@localhost", "written %2F"),
        ("redis://localhost?socket_timeout=soon&password=geheim", "is not a Redis URL"),
        ("redis://localhost?tiemout=1&password=geheim", "option that redis-py does not know .*'tiemout'"),
        ("rediss://localhost?tiemout=1&password=geheim", "option that redis-py does not know .*'tiemout'"),
    ],
)
def test_an_address_that_is_none(url: str, said: str) -> None:
    """Told on the first use, with what to write instead, and without a password."""
    with Cache(url) as cache, pytest.raises(UsageError, match=said) as caught:
        cache.get("key")
    assert "eim" not in str(caught.value)
