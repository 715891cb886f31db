"""This is where calls share a computation while the cache is away: whole values and whole errors, or none."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from taskcache import Cache
from tests.with_redis.gate import Gate, importable
from tests.with_redis.outage import Run, behind_one


@pytest.mark.usefixtures("patient")
def test_each_has_a_value_of_its_own(away: Cache, gate: Gate, run: Run) -> None:
    """As from the cache: what one caller does to its list is nobody else's affair."""

    @away.cached()
    def f() -> list[int]:
        return [gate.pass_first()]

    first, others = behind_one(away, gate, run, f, 5)
    gate.open()
    values = [first.result(30), *(each.result(30) for each in others)]

    assert [[1], *[[2]] * 5] == values
    assert 6 == len({id(value) for value in values})


@pytest.mark.usefixtures("patient")
def test_an_error_is_everybodys(away: Cache, gate: Gate, run: Run) -> None:
    """The body has run for all of them, and its error is theirs."""

    @away.cached()
    def f() -> None:
        raise ValueError(f"run {gate.pass_first()}")

    first, others = behind_one(away, gate, run, f, 5)
    gate.open()

    assert ["run 1", *["run 2"] * 5] == [str(each.exception(30)) for each in [first, *others]]
    assert {ValueError} == {type(each.exception(30)) for each in [first, *others]}


@dataclass(frozen=True)
class Frozen(Exception):
    """An error that takes no attributes, not even a traceback."""

    number: int


class Response(Exception):
    """An error that keeps more than its arguments."""

    def __init__(self, response: list[int]) -> None:
        super().__init__(f"status {response[0]}")
        self.number = response[0]


def local_error(number: int) -> Exception:
    """An error whose class nobody can find."""

    class Local(Exception):
        number: int

    error = Local()
    error.number = number
    return error


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("make", [Frozen, lambda number: Response([number]), local_error])
def test_nobody_gets_half_an_error(away: Cache, gate: Gate, run: Run, make: Callable[[int], Exception]) -> None:
    """One that is another when it is read again is not shared: each computes, and has the function's own."""

    @away.cached()
    def f() -> None:
        raise make(gate.pass_first())

    first, others = behind_one(away, gate, run, f, 3)
    gate.open()
    errors: list[Any] = [each.exception(30) for each in [first, *others]]

    assert {type(make(1)).__name__} == {type(each).__name__ for each in errors}
    assert sorted(each.number for each in errors) == ([1, 2, 3, 4] if make is local_error else [1, 2, 2, 2])


@pytest.mark.usefixtures("patient")
def test_a_value_that_nobody_can_write(away: Cache, gate: Gate, run: Run) -> None:
    """It cannot be shared: each computes for itself, beside each other and not one after another."""
    meet = threading.Barrier(4)

    @away.cached()
    def f() -> Any:
        if gate.pass_first() > 2:
            meet.wait(30)  # all of those who follow are here at once
        return threading.Lock()

    first, others = behind_one(away, gate, run, f, 5)
    gate.open()

    assert 6 == len({id(each.result(30)) for each in [first, *others]})
    assert 6 == gate.visits


@importable
class Unreadable:
    """A value that is written without complaint and cannot be read again."""

    def __reduce__(self) -> Any:
        return (int, ("no number",))


@pytest.mark.usefixtures("patient")
def test_a_value_that_nobody_can_read(away: Cache, gate: Gate, run: Run) -> None:
    """The same where the writing goes well and the reading does not."""
    trusting = Cache(away.database, name=away.name, secret="s" * 32, app=away.app)

    @trusting.cached()
    def f() -> Any:
        gate.pass_first()
        return Unreadable()

    first, others = behind_one(trusting, gate, run, f, 3)
    gate.open()

    assert {Unreadable} == {type(each.result(30)) for each in [first, *others]}
    assert 4 == gate.visits
