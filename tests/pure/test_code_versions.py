"""This is where functions without a version get one: a hash of their code and of what they hold, functions included."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from taskcache import Cache
from taskcache.calls.origin import origin_of
from taskcache.options import Options

Function = Callable[..., Any]


def version_of(fn: Function) -> str:
    """The version that a decorator gives this function."""
    return origin_of(fn, Options(), "cached").version


def applied(held: Any) -> Function:
    """A function whose code is always the same, and which holds something."""

    def apply(number: int) -> Any:
        return held(number)

    return apply


def by_default(held: Function) -> Function:
    """The same, in a default."""
    return lambda number, held=held: held(number)


def by_keyword(held: Function) -> Function:
    """The same, in the default of a parameter that is passed by name."""

    def apply(number: int, *, held: Function = held) -> Any:
        return held(number)

    return apply


def nested(held: Function) -> Function:
    """The same, one function further in."""
    return applied(applied(held))


def decorated(held: Function) -> Function:
    """The same, under a decorator of ours."""
    return applied(Cache(debug=True).cached()(held))


@pytest.mark.parametrize("make", [applied, by_default, by_keyword, nested, decorated])
def test_functions_that_hold_other_functions_are_other_versions(make: Callable[[Function], Function]) -> None:
    """What the held one does is part of what the function does; two of the same code are one."""
    one, same, other = make(lambda n: n + 1), make(lambda n: n + 1), make(lambda n: n * 100)

    assert version_of(one) == version_of(same) != version_of(other)


def test_what_a_held_function_holds_counts() -> None:
    """Its constants too, however far in."""

    def adds(by: int) -> Function:
        return lambda n: n + by

    assert version_of(nested(adds(1))) == version_of(nested(adds(1))) != version_of(nested(adds(2)))


def test_builtins_have_names() -> None:
    """Their code cannot be hashed."""
    assert version_of(applied(len)) == version_of(applied(len)) != version_of(applied(max))


def test_which_of_two_is_held_where_counts() -> None:
    """The same functions in other places make another function."""

    def both(one: Function, two: Function) -> Function:
        return lambda n: one(two(n))

    one, two = (lambda n: n + 1), (lambda n: n * 100)

    assert 3 == len({version_of(both(*pair)) for pair in ((one, two), (two, one), (one, one))})


def test_functions_that_hold_each_other_have_a_version() -> None:
    """Each is looked at once; thousands in a row are no depth."""

    def pair(base: int) -> Function:
        def even(n: int) -> bool:
            return n == base or odd(n - 1)

        def odd(n: int) -> bool:
            return n != base and even(n - 1)

        return even

    row = applied(len)
    for _ in range(3000):
        row = applied(row)

    assert version_of(pair(0)) == version_of(pair(0)) != version_of(pair(1))
    assert version_of(row) == version_of(row)


def test_what_has_no_identity_counts_by_its_type() -> None:
    """A lock, or an object of somebody's: two of them are the same here, and `version=` tells them apart."""

    class Rate:
        def __call__(self, number: int) -> int:
            return number

        def __getattr__(self, name: str) -> Any:
            raise AssertionError("nobody asks it")

    assert version_of(applied(Rate())) == version_of(applied(Rate()))
    assert version_of(applied(threading.Lock())) != version_of(applied(Rate()))


def test_parameters_are_a_part_of_the_code() -> None:
    """One list is not many values, and what is swapped means something else to a caller with keywords."""

    def of_many(number: int) -> int:
        def count(*values: int) -> int:
            return sum(values)

        return count(number)

    def of_one(number: int) -> int:
        def count(values: int) -> int:
            return sum(values)  # type: ignore[call-overload, no-any-return]  # that is the difference

        return count(number)

    kinds: list[Function] = [lambda a, b: a - b, lambda b, a: b - a, lambda a, *, b: a - b, lambda a, b, /: a - b]

    assert version_of(of_many) != version_of(of_one)
    assert len(kinds) == len({version_of(each) for each in kinds})
