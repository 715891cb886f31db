"""This is where a property is computed once for each object."""

from __future__ import annotations

import abc
import copy
import gc
import pickle
import threading
from dataclasses import dataclass
from typing import Any

import pytest

from taskcache import Cache, UncacheableArgument, UsageError
from tests.with_redis.gate import Gate, importable, threads, wait_for_followers


def clock_class(cache: Cache, **options: Any) -> Any:
    """A class without identity whose property counts how often it was computed, over all objects."""

    class Clock:
        runs = 0

        @cache.cached_property(**options)
        def now(self) -> int:
            """The time."""
            type(self).runs += 1
            return self.runs

    return Clock


def test_an_object_keeps_its_value(cache: Cache) -> None:
    """Reading again does not compute again."""
    clock = clock_class(cache)()

    assert (1, 1) == (clock.now, clock.now)


def test_each_object_has_its_own(cache: Cache) -> None:
    """Objects without identity are told apart."""
    cls = clock_class(cache)
    one, two = cls(), cls()

    assert (1, 2, 1, 2) == (one.now, two.now, one.now, two.now)


def test_del_makes_it_new(cache: Cache) -> None:
    """`del obj.name` busts the value of this object, and of no other; twice does not hurt."""
    cls = clock_class(cache)
    one, two = cls(), cls()
    before = (one.now, two.now)
    del one.now
    del one.now

    assert ((1, 2), 3, 2) == (before, one.now, two.now)


def test_the_decorator_may_be_bare(cache: Cache) -> None:
    """`@cache.cached_property` and `@cache.cached_property()` are one decorator."""

    class Clock:
        @cache.cached_property
        def now(self) -> object:
            return [1]

    assert [1] == Clock().now


def test_assigning_is_refused_with_the_cure(cache: Cache) -> None:
    """A computed value is not assigned; the error says how to make it new."""
    clock = clock_class(cache)()
    with pytest.raises(AttributeError, match=r"del obj\.now"):
        clock.now = 5


def test_on_the_class_it_is_itself(cache: Cache) -> None:
    """`Clock.now` is the property, with its documentation and its function's verbs."""
    cls = clock_class(cache)
    clock = cls()
    first = clock.now

    assert ("now", "The time.") == (cls.now.__name__, cls.now.__doc__)
    assert first == cls.now.function.peek(clock).value


def test_an_object_with_identity_shares_its_value(cache: Cache) -> None:
    """Two objects that are the same thing by their `__cache_key__` have one value, in every process."""

    class User:
        def __init__(self, number: int) -> None:
            self.number = number

        def __cache_key__(self) -> int:
            return self.number

        @cache.cached_property()
        def token(self) -> int:
            return id(self)

    one, same, other = User(1), User(1), User(2)

    assert one.token == same.token != other.token


def test_declared_fields_are_an_identity(cache: Cache) -> None:
    """A dataclass is known by its fields: changed fields, another value."""

    @importable
    @dataclass
    class Order:
        number: int

        @cache.cached_property()
        def total(self) -> int:
            return self.number * 10

    order = Order(1)
    first = order.total
    order.number = 2

    assert (10, 20, 10) == (first, order.total, Order(1).total)


def test_a_key_function_is_an_identity(cache: Cache) -> None:
    """`key_fn(args, kwargs)` gets the object as its first argument, as in walrus."""
    cls = clock_class(cache, key_fn=lambda args, kwargs: "one for all")
    one, two = cls(), cls()

    assert (1, 1) == (one.now, two.now)


def test_slots_with_a_place_for_the_token(cache: Cache) -> None:
    """A class with `__slots__` may name the place where the token is kept."""

    class Clock:
        __slots__ = ("_taskcache_token",)

        @cache.cached_property()
        def now(self) -> list[int]:
            return [id(self)]

    one, two = Clock(), Clock()

    assert ([id(one)], [id(two)], [id(one)]) == (one.now, two.now, one.now)


@dataclass
class Event:
    """A class without identity while one of its fields has none."""

    lock: Any
    number: int = 1


def test_an_object_that_was_read_can_be_stored(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its token is for this process: the copy that comes back is another object."""
    doubled = cache.cached_property()(lambda event: event.number * 2)
    monkeypatch.setattr(Event, "doubled", doubled, raising=False)
    event: Any = Event(threading.Lock())

    assert 2 == event.doubled
    event.lock = None
    cache.set("event", event, 60)
    assert vars(Event(None)) == vars(cache.get("event"))
    assert event.doubled == 2


def test_a_copy_in_the_place_of_its_original_is_another_object(cache: Cache) -> None:
    """A place in memory is used again: a token that knew its object by that would be taken for the copy's."""

    class Clock:
        __slots__ = ("_taskcache_token", "number")
        number: int

        @cache.cached_property()
        def now(self) -> int:
            return int(self.number)

    clock = Clock()
    clock.number = 0
    seen = []
    for number in range(60):
        later = copy.copy(clock)
        later.number = number
        clock = later
        seen.append(clock.now)

    assert list(range(60)) == seen


def test_slots_without_identity_are_refused_with_the_cure(cache: Cache) -> None:
    """No identity and no place to keep one: an error that names both cures."""

    class Clock:
        __slots__ = ()

        @cache.cached_property()
        def now(self) -> int:
            return 1

    with pytest.raises(UncacheableArgument, match=r"__cache_key__.*_taskcache_token"):
        _ = Clock().now


def test_slots_with_identity_need_no_place(cache: Cache) -> None:
    """A frozen dataclass with slots works as it is."""

    @importable
    @dataclass(frozen=True, slots=True)
    class Point:
        x: int

        @cache.cached_property()
        def double(self) -> int:
            return self.x * 2

    assert (4, 4) == (Point(2).double, Point(2).double)


def test_a_copy_is_another_object(cache: Cache) -> None:
    """copy, deepcopy and a round trip through pickle do not take the identity along."""
    original = TravellingClock(cache)
    first = original.now
    copies = [copy.copy(original), copy.deepcopy(original), pickle.loads(pickle.dumps(original))]

    assert (1, [2, 3, 4], 1) == (first, [each.now for each in copies], original.now)


class TravellingClock:
    """A class that other processes can import; its cache is found where the test put it."""

    runs = 0

    def __new__(cls, cache: Cache) -> Any:
        def now(self: Any) -> int:
            TravellingClock.runs += 1
            return TravellingClock.runs

        TravellingClock.runs = 0
        _Travelling.now = cache.cached_property()(now)  # type: ignore[attr-defined]  # put in place here
        return _Travelling()


class _Travelling:
    pass


def test_a_new_object_at_an_old_address_computes(cache: Cache) -> None:
    """An address is used again after collection; the value of its former owner is not."""
    cls = clock_class(cache)
    seen = []
    for _ in range(20):
        clock = cls()
        seen.append(clock.now)
        del clock
    gc.collect()

    assert list(range(1, 21)) == seen


def test_threads_that_read_together_compute_once(cache: Cache, gate: Gate) -> None:
    """A property is led by a flight like every call."""

    class Clock:
        @cache.cached_property()
        def now(self) -> int:
            return gate.pass_first()

    clock = Clock()
    with threads(5) as run:
        leader = run(lambda: clock.now)
        gate.wait_reached()
        readers = [run(lambda: clock.now) for _ in range(4)]
        wait_for_followers(cache, 4)
        gate.open()

        assert {1} == {reader.result(30) for reader in (leader, *readers)}


def test_many_threads_agree_on_a_new_objects_identity(cache: Cache) -> None:
    """Threads that read an object for the first time at the same moment give it one token, not several."""
    for _ in range(30):
        cls = clock_class(cache)
        clock = cls()
        with threads(8) as run:
            values = {each.result(30) for each in [run(lambda clock=clock: clock.now) for _ in range(8)]}  # type: ignore[misc]  # a lambda's default has no type

        assert {1} == values


def test_a_subclass_has_its_parents_property(cache: Cache) -> None:
    """An inherited property works, and `super()` reaches the parent's."""
    base = clock_class(cache)

    class Child(base):  # type: ignore[misc,valid-type]  # made by a function
        @cache.cached_property()
        def now(self) -> int:
            return int(super().now) + 100

    class Plain(base):  # type: ignore[misc,valid-type]  # made by a function
        pass

    assert (101, 1) == (Child().now, Plain().now)


def test_debug_computes_each_time() -> None:
    """With debug nothing is read or stored, and no server is needed."""
    clock = clock_class(Cache(debug=True))()

    assert (1, 2) == (clock.now, clock.now)
    del clock.now


def test_an_async_def_is_no_property(cache: Cache) -> None:
    """The error names `cached` on a method."""
    with pytest.raises(UsageError, match="async def"):

        @cache.cached_property()
        async def now(self: object) -> int:
            return 1


def test_an_abstract_property_makes_its_class_abstract(cache: Cache) -> None:
    """As one of Python's own."""

    class Clock(abc.ABC):
        @cache.cached_property
        @abc.abstractmethod
        def now(self) -> int:
            """Say what time it is."""

    with pytest.raises(TypeError, match="abstract"):
        Clock()  # type: ignore[abstract]
