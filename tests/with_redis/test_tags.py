"""This is where a tag names many entries, and one word invalidates them all."""

from __future__ import annotations

from enum import Enum
from typing import Any

import pytest
import redis

from taskcache import Cache, UsageError, current
from tests.nodes.waiting import wait_until
from tests.with_redis.gate import Counter, Gate, threads, wait_for_followers


class Shop:
    """Three functions with tags, and how often each ran."""

    def __init__(self, cache: Cache) -> None:
        self.runs = {"price": 0, "weight": 0, "order": 0}
        self.price = cache.cached(tags=("goods", "good-{number}"))(self._price)
        self.weight = cache.cached(tags=lambda number: [f"good-{number}"])(self._weight)
        self.order = cache.cached()(self._order)
        self.added: tuple[str, ...] = ()

    def _price(self, number: int) -> int:
        return self._ran("price")

    def _weight(self, number: int) -> int:
        return self._ran("weight")

    def _order(self, number: int) -> int:
        current().tags.add(*(self.added or (f"good-{number}", "orders")))
        return self._ran("order")

    def _ran(self, what: str) -> int:
        self.runs[what] += 1
        return self.runs[what]


@pytest.fixture
def shop(cache: Cache) -> Shop:
    return Shop(cache)


def test_a_tag_invalidates_all_that_carry_it(cache: Cache, shop: Shop) -> None:
    """Entries of several functions, whatever their arguments."""
    before = (shop.price(1), shop.price(2), shop.weight(1), shop.order(1))
    cache.invalidate("good-1")

    assert ((1, 2, 1, 1), 3, 2, 2, 2) == (before, shop.price(1), shop.price(2), shop.weight(1), shop.order(1))


@pytest.mark.parametrize("tags", [(["goods"],), ("",), (7,)])
async def test_what_is_no_tag_is_refused(cache: Cache, shop: Shop, tags: tuple[Any, ...]) -> None:
    """It would invalidate nothing, and say nothing."""
    with pytest.raises(UsageError, match="a tag is a text"):
        cache.invalidate(*tags)
    with pytest.raises(UsageError, match="a tag is a text"):
        await cache.aio.invalidate(*tags)


def test_a_tag_is_the_text_that_it_is(cache: Cache) -> None:
    """A member of a (str, Enum) is its value, whatever this version of Python formats it as."""

    class Colour(str, Enum):
        RED = "red"

    paint = cache.cached(tags=(Colour.RED,), name="paint", version=1)(Counter())
    values = [paint()]
    for tag in ("red", Colour.RED):
        cache.invalidate(tag)
        values.append(paint())

    assert [1, 2, 3] == values


def test_several_tags_at_once(cache: Cache, shop: Shop) -> None:
    """`invalidate` takes as many as one likes; none is nothing."""
    shop.price(1), shop.price(2), shop.price(3)
    cache.invalidate("good-1", "good-2", "nobody carries this")
    cache.invalidate()

    assert (4, 5, 3) == (shop.price(1), shop.price(2), shop.price(3))


@pytest.mark.own_server
def test_one_tag_costs_one_key_however_many_carry_it(cache: Cache, shop: Shop, client: redis.Redis) -> None:
    """Invalidating a hundred entries deletes one key and touches no entry."""
    for number in range(100):
        # Not computed: who renews leases may speak a moment later than who held one.
        shop.price.put(-1, number)
    client.config_resetstat()
    cache.invalidate("goods")
    stats = {name: value["calls"] for name, value in client.info("commandstats").items()}

    assert 1 == stats["cmdstat_del"]
    assert {"cmdstat_scan", "cmdstat_unlink", "cmdstat_keys", "cmdstat_evalsha"}.isdisjoint(stats)
    assert 1 == shop.price(0)


def test_a_tag_may_come_from_the_body(cache: Cache, shop: Shop) -> None:
    """`current().tags.add(...)` in the function; such an entry is still a hit afterwards."""
    shop.order(1)
    again = shop.order(1)
    cache.invalidate("orders")

    assert (1, 2, 2) == (again, shop.order(1), shop.order(1))


@pytest.mark.own_server
def test_a_hit_is_one_round_trip_and_tags_of_arguments_cost_nothing_more(
    cache: Cache, shop: Shop, client: redis.Redis
) -> None:
    """One MGET; a tag that the body added costs reads, and no script."""
    shop.price(1), shop.order(1)
    client.config_resetstat()
    shop.price(1)
    one = client.info("commandstats")["cmdstat_mget"]["calls"]
    shop.order(1)
    more = client.info("commandstats")["cmdstat_mget"]["calls"] - one

    assert (1, True) == (one, more <= 3)

    def need_no_script() -> bool:
        client.config_resetstat()
        shop.price(1), shop.order(1)
        return "cmdstat_evalsha" not in client.info("commandstats")

    # Who renewed the leases of what was computed may have said its last word late.
    wait_until(need_no_script, "hits without a script")


def test_a_tag_covers_what_is_read_after_it_was_added(cache: Cache, gate: Gate) -> None:
    """Invalidated between the body's `add` and its end: not stored as valid, and later callers compute."""
    source = "old"

    @cache.cached()
    def f() -> str:
        current().tags.add("source")
        read = source
        gate.pass_first()
        return read

    with threads(1) as run:
        leader = run(lambda: f())
        gate.wait_reached()
        source = "new"
        cache.invalidate("source")
        gate.open()
        old = leader.result(30)

    assert ("old", "new", "new") == (old, f(), f())


def test_a_caller_who_came_after_the_invalidation_does_not_get_the_delivered_old_value(
    cache: Cache, gate: Gate
) -> None:
    """It joins a flight whose tag nobody can know yet; at the end it sees that the tag was invalidated, and computes."""
    source = "old"

    @cache.cached()
    def f() -> str:
        current().tags.add("source")
        read = source
        gate.pass_first()
        return read

    with threads(2) as run:
        leader = run(lambda: f())
        gate.wait_reached()
        source = "new"
        cache.invalidate("source")
        late = run(lambda: f())
        wait_for_followers(cache, 1)
        gate.open()

        assert ("old", "new") == (leader.result(30), late.result(30))


def test_tags_are_shown(cache: Cache, shop: Shop) -> None:
    """`peek` has those of the arguments and those of the body, `explain` those of the arguments."""
    shop.price(1), shop.order(1)
    price, order = shop.price.peek(1), shop.order.peek(1)

    assert price is not None
    assert order is not None
    assert (("good-1", "goods"), ("good-1", "orders")) == (price.tags, order.tags)
    assert ("good-1", "goods") == shop.price.explain(1).tags


def test_a_tag_of_another_cache_is_another_tag(redis_url: str, cache_name: str) -> None:
    """Tags belong to a cache, like keys."""
    with (
        Cache(redis_url, name=cache_name, default_timeout=60) as one,
        Cache(redis_url, name=cache_name + "-2", default_timeout=60) as two,
    ):
        mine, theirs = Shop(one), Shop(two)
        mine.price(1), theirs.price(1)
        one.invalidate("goods")

        assert (2, 1) == (mine.price(1), theirs.price(1))


def test_a_tag_without_entries_leaves_nothing_behind(cache: Cache, client: redis.Redis) -> None:
    """Invalidating what nobody carries writes nothing: a tag per user does not fill the server."""
    for number in range(50):
        cache.invalidate(f"user-{number}")

    assert 0 == client.dbsize()


def test_put_carries_the_tags_of_its_arguments(cache: Cache, shop: Shop) -> None:
    """A value that was put is invalidated like a computed one."""
    shop.price.put(70, 1)
    put = shop.price(1)
    cache.invalidate("good-1")

    assert (70, 1) == (put, shop.price(1))


@pytest.mark.parametrize("added", [("",), (7,), (None,)])
def test_a_tag_of_the_body_is_checked(shop: Shop, added: tuple[str, ...]) -> None:
    """What is no tag is an error of the body."""
    shop.added = added
    with pytest.raises(UsageError, match="tag"):
        shop.order(1)


def test_tags_outside_of_a_computation_are_nothing() -> None:
    """A function with `current()` in it can be called without a cache."""
    current().tags.add("nobody", "listens")

    assert [] == list(current().tags)


@pytest.mark.parametrize("tag", ["ä🟢", "a b", "a:b", "*", "x" * 1000, "{not a field", "line\nbreak"])
def test_any_text_is_a_tag(cache: Cache, tag: str) -> None:
    """Tags of any content, from arguments and from the body."""
    runs = 0

    @cache.cached()
    def f() -> int:
        nonlocal runs
        runs += 1
        current().tags.add(tag)
        return runs

    assert (1, 1) == (f(), f())
    cache.invalidate(tag)
    assert 2 == f()


async def test_tags_for_coroutines(cache: Cache) -> None:
    """The same from an `async def`."""
    runs = 0

    @cache.cached(tags=("fixed",))
    async def f(number: int) -> int:
        nonlocal runs
        runs += 1
        current().tags.add("body")
        return runs

    first = (await f(1), await f(1))
    await cache.aio.invalidate("body")
    second = await f(1)
    await cache.aio.invalidate("fixed")

    assert ((1, 1), 2, 3) == (first, second, await f(1))


@pytest.mark.parametrize(
    "tags",
    [
        {"goods", "good-1", "all"},
        (tag for tag in ("goods", "good-1", "all")),
        lambda number: {"goods", f"good-{number}", "all"},
    ],
    ids=["a set", "a generator", "a function that gives a set"],
)
def test_tags_may_be_any_texts_in_any_order(cache: Cache, counter: Counter, tags: Any) -> None:
    """Each process reads a set in another order, and a generator gives its texts once: for them it is one list."""

    @cache.cached(tags=tags)
    def f(number: int) -> int:
        return counter()

    assert ("all", "good-1", "goods") == f.explain(1).tags == f.explain(1).tags
    assert [1, 1] == [f(1), f(1)]
    cache.invalidate("all")
    assert [2, 2] == [f(1), f(1)]


def test_braces_of_a_user_are_no_template(cache: Cache, counter: Counter) -> None:
    """What a function gives is a tag as it is; what the decorator says is filled from the arguments."""
    f = cache.cached(name="asked", tags=lambda query: [f"q:{query}"])(lambda query: counter())

    assert ("q:{query.__class__}",) == f.explain("{query.__class__}").tags
    assert [1, 1, 2] == [f("{0}"), f("{0}"), f("{x}")]
    cache.invalidate("q:{0}")
    assert [3, 2] == [f("{0}"), f("{x}")]


@pytest.mark.parametrize("tag", ["good-{nunber}", "good-{}", "good-{0}", "good-{number", "good-{number.pk}-{other[1]}"])
def test_a_tag_of_what_is_no_parameter_is_refused_where_it_is_said(cache: Cache, tag: str) -> None:
    """Each call would fail with it."""
    with pytest.raises(UsageError, match="the tag 'good-"):
        cache.cached(tags=(tag,), name="misspelt")(lambda number: number)
