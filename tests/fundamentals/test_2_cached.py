"""This is where a function becomes a cached one."""

from __future__ import annotations

from datetime import datetime

import pytest

from taskcache import Cache, UncacheableArgument


def test_the_second_call_is_not_computed(cache: Cache) -> None:
    """The session of the specification: two calls within the lifetime are equal."""

    @cache.cached(timeout=10)
    def get_time(seed: str | None = None) -> datetime:
        return datetime.now()

    assert get_time() == get_time()


def test_arguments_make_the_call(cache: Cache) -> None:
    """Other arguments, another value; the same arguments in another spelling, the same value."""

    @cache.cached()
    def get_time(seed: str | None = None) -> datetime:
        return datetime.now()

    assert 3 == len({get_time(), get_time("foo"), get_time("bar")})
    assert get_time() == get_time(None) == get_time(seed=None)


def test_bust_makes_one_call_new(cache: Cache) -> None:
    """The others stay as they are."""

    @cache.cached()
    def get_time(seed: str | None = None) -> datetime:
        return datetime.now()

    foo, bar = get_time("foo"), get_time("bar")
    get_time.bust("foo")

    assert foo < get_time("foo")
    assert bar == get_time("bar")


def test_bust_all_makes_every_call_new(cache: Cache) -> None:
    """One key is deleted, however many entries there are."""

    @cache.cached()
    def get_time(seed: str) -> datetime:
        return datetime.now()

    before = {get_time("foo"), get_time("bar")}
    get_time.bust_all()

    assert before.isdisjoint({get_time("foo"), get_time("bar")})


def test_the_key_is_no_secret(cache: Cache) -> None:
    """The value of a call can be read and removed like every other."""

    @cache.cached()
    def double(number: int) -> int:
        return number * 2

    double(4)

    assert 8 == cache.get(double.key_for(4))
    assert 1 == cache.delete(double.key_for(4))


def test_a_method(cache: Cache) -> None:
    """`self` is an argument like the others: tell what it is known by."""

    class Shop:
        def __init__(self, name: str) -> None:
            self.name = name

        def __cache_key__(self) -> str:
            return self.name

        @cache.cached()
        def opened_at(self) -> datetime:
            return datetime.now()

    assert Shop("one").opened_at() == Shop("one").opened_at()
    assert Shop("one").opened_at() != Shop("two").opened_at()


def test_an_argument_that_is_known_by_nothing(cache: Cache) -> None:
    """It is refused, and the error says what can be done; leaving it out of the key is one way."""

    @cache.cached()
    def query(connection: object, number: int) -> int:
        return number

    @cache.cached(ignore=("connection",))
    def better(connection: object, number: int) -> int:
        return number

    with pytest.raises(UncacheableArgument, match="connection"):
        query(object(), 1)
    assert 1 == better(object(), 1)


def test_an_error_is_not_cached(cache: Cache) -> None:
    """The next call tries again."""
    answers = iter([0, 5])

    @cache.cached()
    def fraction() -> float:
        return 10 / next(answers)

    with pytest.raises(ZeroDivisionError):
        fraction()
    assert 2.0 == fraction()


def test_a_property(cache: Cache) -> None:
    """Computed once for each object; `del` makes it new."""

    class Clock:
        @cache.cached_property()
        def now(self) -> datetime:
            return datetime.now()

    clock, other = Clock(), Clock()
    now = clock.now
    again = clock.now
    del clock.now

    assert now == again
    assert now < clock.now
    assert other.now == other.now != now


async def test_an_async_def(cache: Cache) -> None:
    """It stays an `async def`."""

    @cache.cached()
    async def get_time() -> datetime:
        return datetime.now()

    assert await get_time() == await get_time()
