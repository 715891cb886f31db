"""This is where a call of a cached function is answered: once computed, then found, and never confused with another."""

from __future__ import annotations

import asyncio
import functools
import inspect
import re
from typing import Any

import pytest

from taskcache import Cache, UsageError
from taskcache.decorators import CachedFunction
from tests.with_redis.gate import Counter


class Multiplies:
    """A callable object."""

    def __init__(self, factor: int) -> None:
        self.factor = factor

    def __call__(self, number: int) -> int:
        return self.factor * number


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

    calls: list[tuple[tuple[int, ...], dict[str, int]]] = [((), {}), ((1, 2), {}), ((1,), {"other": 2})]
    for args, kwargs in calls:
        with pytest.raises(TypeError):
            f(*args, **kwargs)


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


# Being a function


def test_a_decorated_function_looks_like_its_function(cache: Cache) -> None:
    """Name, documentation, signature, annotations and the function itself are where tools look for them."""

    def price(number: int, *, currency: str = "EUR") -> float:
        """What it costs."""
        return 1.0

    decorated = cache.cached()(price)

    assert isinstance(decorated, CachedFunction)
    named: Any = decorated
    assert ("price", "What it costs.", __name__) == (named.__name__, named.__doc__, named.__module__)
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


@pytest.mark.parametrize("nameless", [functools.partial(pow, 2), re.compile("b").findall, Multiplies(2)], ids=type)
def test_what_has_no_name_of_its_own_is_told_to_have_one(cache: Cache, nameless: Any) -> None:
    """What is kept in it is no part of a key: a second one of its kind would be given its values."""
    with pytest.raises(UsageError, match="name="):
        cache.cached(nameless)

    assert callable(cache.cached(name="named")(nameless))


def test_a_name_that_says_nothing_is_told_to_say_something(cache: Cache) -> None:
    """Of two functions `_` of one module each would get the other's values."""
    with pytest.raises(UsageError, match="name="):

        @cache.cached()
        def _() -> int:
            return 1

    @cache.cached(name="second")
    def _() -> int:
        return 2

    assert 2 == _()


def test_all_kinds_of_parameters(cache: Cache, counter: Counter) -> None:
    """Positional-only, variadic and keyword-only parameters are bound as Python binds them."""

    @cache.cached()
    def f(a: int, /, b: int, *rest: int, c: int = 3, **more: int) -> int:
        return counter()

    assert {1} == {f(1, 2), f(1, b=2), f(1, 2, c=3)}
    assert [2, 3, 4] == [f(1, 2, 3), f(1, 2, c=4), f(1, 2, d=5)]
    assert 4 == f(1, 2, d=5)


@pytest.mark.parametrize("keyword", ["self", "args", "kwargs", "function", "value"])
def test_keywords_may_have_any_name(cache: Cache, counter: Counter, keyword: str) -> None:
    """Where a function takes every keyword, none is ours."""

    @cache.cached()
    def f(**words: int) -> tuple[dict[str, int], int]:
        return words, counter()

    words: dict[str, Any] = {keyword: 1}
    said = (words, 1)

    assert (said, said, said) == (f(**words), f(**words), asyncio.run(f.aio(**words)))
    assert (1, (words, 2)) == (f.bust(**words), f.refresh(**words))
    assert f.key_for(**words) != f.key_for()


def test_an_edited_function_by_value_is_another_version(cache: Cache) -> None:
    """A function that no other process can import (a notebook's cell) recomputes when its code or constants change."""

    def define(body: str) -> Any:
        space: dict[str, Any] = {"__name__": "__main__"}
        exec(f"def f(number):\n    return {body}", space)
        return cache.cached()(space["f"])

    one, same, other = define("number + 1"), define("number + 1"), define("number + 2")

    assert (one.key_for(1), 2, 3) == (same.key_for(1), one(1), other(1))


def test_what_try_covers_is_a_part_of_the_code(cache: Cache) -> None:
    """A cell whose `return` was moved out of `try` has the same instructions from Python 3.11 on, and is another version."""

    def define(place: str) -> Any:
        space: dict[str, Any] = {"__name__": "__main__"}
        inside, after = ("return parse(x)", "") if place == "try" else ("pass", "    else:\n        return parse(x)\n")
        exec(
            f"def f(x):\n    try:\n        {inside}\n    except KeyError:\n        return 0\n{after}",
            space,
        )
        return cache.cached()(space["f"])

    assert define("try").key_for(1) != define("else").key_for(1)
