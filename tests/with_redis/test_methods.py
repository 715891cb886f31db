"""This is where functions of classes are cached: methods, class methods, static methods, in both orders of decorators."""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from taskcache import Cache, UncacheableArgument, identify
from tests.with_redis.gate import importable


class Runs:
    """How often a body ran."""

    def __init__(self) -> None:
        self.count = 0

    def one_more(self) -> int:
        self.count += 1
        return self.count


@pytest.fixture
def runs() -> Runs:
    return Runs()


def test_a_method_of_an_object_with_identity(cache: Cache, runs: Runs) -> None:
    """`self` is an argument like the others: equal objects share, others do not."""

    @importable
    @dataclass(frozen=True)
    class Shop:
        name: str

        @cache.cached()
        def price(self, number: int) -> int:
            return runs.one_more()

    a, b = Shop("a"), Shop("b")

    assert (1, 1, 1, 2, 3) == (a.price(7), a.price(number=7), Shop("a").price(7), b.price(7), a.price(8))


def test_a_method_of_an_object_without_identity_is_refused_with_the_cures(cache: Cache) -> None:
    """Each cure is named, and `ignore` is one of them."""

    class Shop:
        @cache.cached()
        def price(self, number: int) -> int:
            return number

    with pytest.raises(UncacheableArgument, match=r"`self`.*__cache_key__.*identify.*ignore=\(\"self\",\)"):
        Shop().price(7)


def test_ignoring_self_makes_objects_share(cache: Cache, runs: Runs) -> None:
    """`ignore=("self",)`: one value for all objects."""

    class Shop:
        @cache.cached(ignore=("self",))
        def price(self, number: int) -> int:
            return runs.one_more()

    assert (1, 1) == (Shop().price(7), Shop().price(7))


def test_identify_gives_a_class_its_identity(cache: Cache, runs: Runs) -> None:
    """For classes one cannot change."""

    class Shop:
        def __init__(self, number: int) -> None:
            self.number = number

        @cache.cached()
        def price(self) -> int:
            return runs.one_more()

    identify(Shop, key=lambda shop: shop.number)

    assert (1, 1, 2) == (Shop(1).price(), Shop(1).price(), Shop(2).price())


def test_the_verbs_of_a_method_take_the_arguments_of_the_call(cache: Cache, runs: Runs) -> None:
    """`obj.m.bust(1)` is `Class.m.bust(obj, 1)`, and so for every verb."""

    @importable
    @dataclass(frozen=True)
    class Shop:
        name: str

        @cache.cached()
        def price(self, number: int) -> int:
            """What it costs."""
            return runs.one_more()

    shop = Shop("a")
    shop.price(7)
    entry = shop.price.peek(7)

    assert (1, shop.price.key_for(7)) == (entry.value, Shop.price.key_for(shop, 7))
    assert (shop.price.key_for(7), "What it costs.") == (shop.price.make_key((7,), {}), shop.price.__doc__)
    assert (1, 2, 3) == (shop.price.bust(7), shop.price(7), shop.price.refresh(7))
    assert (True, 70) == (shop.price.put(70, 7), shop.price(7))
    assert (4, 70, None) == (shop.price.uncached(7), shop.price(7), shop.price.join(7))
    assert (70, 5) == (shop.price.with_options(timeout=5)(7), shop.price.with_options(timeout=5)(8))
    shop.price.bust_all()
    assert 6 == shop.price(7)
    assert shop.price.key_for(7) == shop.price.explain(7).key
    assert 1 <= shop.price.stats()["hits"]


async def test_the_awaitable_verbs_of_a_method(cache: Cache, runs: Runs) -> None:
    """`obj.m.aio` likewise."""

    @importable
    @dataclass(frozen=True)
    class Shop:
        name: str

        @cache.cached()
        async def price(self, number: int) -> int:
            await asyncio.sleep(0)
            return runs.one_more()

        @cache.cached()
        def weight(self, number: int) -> int:
            return runs.one_more()

    shop = Shop("a")

    assert (1, 1, 2, 2) == (
        await shop.price(7),
        await shop.price(7),
        await shop.weight.aio(7),
        await shop.weight.aio(7),
    )
    assert (1, 3, 4) == (await shop.price.aio.bust(7), await shop.price(7), await shop.price.aio.refresh(7))
    assert True is await shop.price.aio.put(70, 7)
    assert 70 == await shop.price(7)
    assert 70 == (await shop.price.aio.peek(7)).value
    await shop.price.aio.bust_all()
    assert None is await shop.price.aio.peek(7)
    assert 5 == await shop.price.aio.uncached(7)


@pytest.mark.parametrize("order", ["cached outside", "cached inside"])
def test_a_class_method(cache: Cache, runs: Runs, order: str) -> None:
    """Both orders of decorators work, verbs included; each class has its own entries."""

    def price(cls: type, number: int) -> tuple[str, int]:
        return cls.__name__, runs.one_more()

    @importable
    class Shop:
        pass

    @importable
    class Bakery(Shop):
        pass

    decorated: Any = (
        cache.cached(name="price")(classmethod(price))  # type: ignore[arg-type]  # a classmethod is not a callable
        if order == "cached outside"
        else classmethod(cache.cached(name="price")(price))
    )
    Shop.price = decorated  # type: ignore[attr-defined]  # put in place here
    shop: Any = Shop
    bakery: Any = Bakery

    assert (("Shop", 1), ("Shop", 1), ("Shop", 1)) == (shop.price(7), shop.price(7), shop().price(number=7))
    assert (("Bakery", 2), ("Bakery", 2)) == (bakery.price(7), bakery().price(7))
    if order == "cached inside" and sys.version_info >= (3, 13):
        # A classmethod does not ask what it wraps any more: verbs want the class as their first argument there.
        assert 1 == shop.price.bust(shop, 7)
        return
    assert (1, ("Shop", 3), ("Bakery", 2)) == (shop.price.bust(7), shop.price(7), bakery.price(7))
    assert (True, 70) == (shop.price.put(70, 7), shop.price(7))
    assert 70 == cache.get(shop.price.key_for(7))


@pytest.mark.parametrize("order", ["cached outside", "cached inside"])
def test_a_static_method(cache: Cache, runs: Runs, order: str) -> None:
    """Both orders of decorators work, verbs included."""

    def price(number: int) -> int:
        return runs.one_more()

    class Shop:
        pass

    decorated: Any = (
        cache.cached(name="price")(staticmethod(price))
        if order == "cached outside"
        else staticmethod(cache.cached(name="price")(price))
    )
    Shop.price = decorated  # type: ignore[attr-defined]  # put in place here
    shop: Any = Shop

    assert (1, 1, 1) == (shop.price(7), shop().price(7), shop.price(number=7))
    assert (1, 2, 2) == (shop.price.bust(7), shop.price(7), shop().price(7))
    assert 2 == cache.get(shop.price.key_for(7))


def test_an_async_class_method(cache: Cache, runs: Runs) -> None:
    """`async def` in the same places."""

    @importable
    class Shop:
        @classmethod
        @cache.cached()
        async def price(cls, number: int) -> int:
            return runs.one_more()

        @staticmethod
        @cache.cached()
        async def weight(number: int) -> int:
            return runs.one_more()

    async def use() -> tuple[int, ...]:
        return await Shop.price(7), await Shop().price(7), await Shop.weight(7), await Shop().weight(7)

    assert (1, 1, 2, 2) == asyncio.run(use())


def test_a_class_with_slots(cache: Cache, runs: Runs) -> None:
    """Nothing is kept in the object, so slots are no obstacle to methods."""

    class Shop:
        __slots__ = ("name",)

        def __init__(self, name: str) -> None:
            self.name = name

        def __cache_key__(self) -> str:
            return self.name

        @cache.cached()
        def price(self, number: int) -> int:
            return runs.one_more()

    assert (1, 1, 2) == (Shop("a").price(7), Shop("a").price(7), Shop("b").price(7))


def test_an_inherited_method_is_one_function(cache: Cache, runs: Runs) -> None:
    """Entries of a subclass are its own, because its objects are others; `super()` reaches the parent's."""

    @importable
    @dataclass(frozen=True)
    class Shop:
        name: str

        @cache.cached()
        def price(self, number: int) -> int:
            return runs.one_more()

    @importable
    @dataclass(frozen=True)
    class Bakery(Shop):
        @cache.cached()
        def price(self, number: int) -> int:
            price: int = super().price(number)
            return price + 100

    assert (1, 102, 102) == (Shop("a").price(7), Bakery("a").price(7), Bakery("a").price(7))


def test_bound_methods_are_equal_as_in_python(cache: Cache) -> None:
    """Two looks at one method of one object are equal and hash alike, so that callbacks can be found again."""

    class Shop:
        @cache.cached(ignore=("self",))
        def price(self) -> int:
            return 1

    shop, other = Shop(), Shop()

    assert shop.price == shop.price
    assert hash(shop.price) == hash(shop.price)
    assert shop.price != other.price
    assert shop is shop.price.__self__


def test_a_class_can_be_an_argument(cache: Cache, runs: Runs) -> None:
    """Classes and functions that can be imported are known by their names."""

    @cache.cached()
    def f(cls: type) -> int:
        return runs.one_more()

    assert (1, 1, 2) == (f(int), f(int), f(str))


def test_many_calls_of_a_method_are_the_objects(cache: Cache) -> None:
    """`map`, `starmap` and `warm` get the object first, as a single call does."""

    class Shop:
        @cache.cached(ignore=("self",))
        def vat(self, year: int, part: int = 1) -> tuple[str, int, int]:
            return type(self).__name__, year, part

        @cache.cached(ignore=("self",))
        async def tax(self, year: int) -> int:
            return year

    shop = Shop()

    assert [("Shop", 1, 1), ("Shop", 2, 1)] == shop.vat.map([1, 2])()
    assert [("Shop", 1, 1), ("Shop", 3, 4)] == shop.vat.starmap([(1,), shop.vat.call(3, part=4)])()
    assert [("Shop", 5, 1)] == shop.vat.warm([(5,)])()
    assert ("Shop", 5, 1) == shop.vat.peek(5).value
    assert [7] == asyncio.run(_awaited(shop.tax.aio.warm([(7,)])))


async def _awaited(begun: Any) -> Any:
    return await (await begun)


def test_the_signature_of_a_method_has_no_self(cache: Cache) -> None:
    """Who looks at it to call it, as frameworks do, finds the parameters of a call."""

    class Shop:
        @cache.cached()
        def price(self, number: int, currency: str = "EUR") -> int:
            return number

    assert "(number: 'int', currency: 'str' = 'EUR') -> 'int'" == str(inspect.signature(Shop().price))


def test_a_partial_can_be_a_method(cache: Cache) -> None:
    """It has no name of its own; the one it was given is used."""

    class Shop:
        price = cache.cached(name="price", ignore=("self",))(
            functools.partial(lambda cents, self, number: cents * number, 3)
        )

    assert 21 == Shop().price(7)
    assert "price" == Shop().price.__name__
