"""This is where values come that look like what they are not: mocks, lazy objects, classes made at run time."""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable
from datetime import date
from typing import Any
from unittest.mock import Mock

import pytest

from taskcache.codec import typed
from taskcache.errors import TaskCacheError, UncacheableArgument, UnstorableValue
from taskcache.keys.encoding import encode
from tests.pure.values import Colour

WRITERS = pytest.mark.parametrize(
    ("write", "error"), [(encode, UncacheableArgument), (typed.encode, UnstorableValue)], ids=["key", "value"]
)


class Named(enum.Enum):
    """An Enum with a property in the place of its name."""

    A = 1

    @property
    def name(self) -> str:
        return "somebody's"


class Row:
    """An object as anybody's."""

    day: date
    place: tuple[int, int]
    tags: set[int]


def made_here(kind: Any) -> object:
    """A member of a class that no module holds."""
    return kind("Colour", {"RED": 1}).RED


@WRITERS
def test_a_mock_is_not_what_it_stands_for(write: Callable[[Any], bytes], error: type[TaskCacheError]) -> None:
    """It says of itself that it is an Enum, and is refused as the mock that it is."""
    with pytest.raises(error, match="Mock"):
        write(Mock(spec=Colour.RED))


@WRITERS
def test_a_key_of_thousands_of_digits_is_not_spelled_out(
    write: Callable[[Any], bytes], error: type[TaskCacheError]
) -> None:
    """Python refuses to, and its refusal would hide ours."""
    with pytest.raises(error, match="Lock|lock"):
        write({10**5000: threading.Lock()})


@pytest.mark.parametrize("made", [type("Tenant", (), {}), made_here(enum.Enum), made_here(enum.Flag)])
def test_a_class_that_its_name_does_not_lead_to_has_no_key(made: object) -> None:
    """Another one of that name would have the same."""
    with pytest.raises(UncacheableArgument, match="may mean several"):
        encode(made)


def test_classes_that_are_found_by_their_name_have_one() -> None:
    """Python's own, those of a module, and members of Enums."""
    classes = [int, type, date, threading.Thread, Row, Colour, Mock, Colour.RED, Named.A]

    assert len(classes) == len({encode(each) for each in classes})


def test_a_member_is_known_by_its_own_name() -> None:
    """A class may say something else with `name`."""
    assert Named.A is typed.decode(typed.encode(Named.A))


def test_the_names_of_a_living_object_come_back_as_they_were() -> None:
    """From Python 3.13 on the collector does not see into the `__dict__` of an object."""
    row = Row()
    row.day, row.place, row.tags = date(2026, 1, 1), (1, 2), {3}

    assert vars(row) == typed.decode(typed.encode(vars(row)))
    assert [[vars(row)]] == typed.decode(typed.encode([[vars(row)]]))


def test_the_names_of_a_living_object_may_be_unstorable() -> None:
    """With our words."""
    row: Any = Row()
    row.lock = threading.Lock()

    with pytest.raises(UnstorableValue, match="lock"):
        typed.encode(vars(row))
    assert typed.encode_plain([vars(row)]) is None
