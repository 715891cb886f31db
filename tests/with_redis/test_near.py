"""This is where a process answers from its own memory, as if it had asked the server."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, make_dataclass
from decimal import Decimal
from typing import Any

import pytest
import redis
from msgspec.structs import replace

from taskcache import FOREVER, Cache, UsageError, current
from tests.nodes.waiting import wait_until
from tests.with_redis.near import bring_near, is_near, near_of, reads, reads_of

Way = Callable[[Cache, Any], object]

# Each makes the number of price(7) another one.
WAYS: dict[str, Way] = {
    "bust": lambda cache, price: price.bust(7),
    "bust_all": lambda cache, price: price.bust_all(),
    "refresh": lambda cache, price: price.refresh(7),
    "put": lambda cache, price: price.put(-1, 7),
    "delete": lambda cache, price: cache.delete(price.key_for(7)),
    "delete_many": lambda cache, price: cache.delete_many(["other", price.key_for(7)]),
    "set": lambda cache, price: cache.set(price.key_for(7), "set", 60),
    "set_many": lambda cache, price: cache.set_many({price.key_for(7): "set"}, 60),
    "set for no time": lambda cache, price: cache.set(price.key_for(7), "set", 0),
    "flush": lambda cache, price: cache.flush(),
}
TAGGED: dict[str, Way] = {
    **WAYS,
    "invalidate a tag": lambda cache, price: cache.invalidate("prices"),
    "invalidate a tag of the arguments": lambda cache, price: cache.invalidate("price-7"),
}
TAGGED_BY_BODY: dict[str, Way] = {
    **TAGGED,
    "invalidate a tag of the body": lambda cache, price: cache.invalidate("seen"),
}
ASYNC_WAYS: dict[str, Callable[[Cache, Any], Awaitable[object]]] = {
    "bust": lambda cache, price: price.aio.bust(7),
    "bust_all": lambda cache, price: price.aio.bust_all(),
    "put": lambda cache, price: price.aio.put(-1, 7),
    "delete": lambda cache, price: cache.aio.delete(price.key_for(7)),
    "flush": lambda cache, price: cache.aio.flush(),
}


def counted(cache: Cache, **options: Any) -> Any:
    """A function that gives another number each time it runs."""
    runs = iter(range(1000))

    @cache.cached(near=True, name="price", **options)
    def price(number: int) -> int:
        return next(runs)

    return price


@pytest.mark.own_server
def test_a_near_hit_asks_nobody(cache: Cache, client: redis.Redis) -> None:
    """Once it is here, a value is returned without a word to the server."""
    price = counted(cache)
    bring_near(cache, price, 7)

    assert 0 == reads_of(client, lambda: [price(7) for _ in range(1000)])
    assert price.stats()["hits"] > 1000


@pytest.mark.parametrize("way", WAYS)
def test_an_own_invalidation_is_seen_at_once(cache: Cache, way: str) -> None:
    """A call after it returned never gets the value that was here, and what it gets comes near again."""
    price = counted(cache)
    for turn in range(20):
        old = bring_near(cache, price, 7)
        WAYS[way](cache, price)
        assert old != price(7)
        price.put(1000 + turn, 7)


@pytest.mark.parametrize("way", TAGGED_BY_BODY)
def test_an_own_invalidation_of_a_tagged_value_is_seen_at_once(cache: Cache, way: str) -> None:
    """Tags of the decorator, of the arguments and of the body."""
    runs = iter(range(1000))

    @cache.cached(near=True, tags=("prices", "price-{number}"))
    def price(number: int) -> int:
        current().tags.add("seen")
        return next(runs)

    for _ in range(10):
        old = bring_near(cache, price, 7)
        TAGGED_BY_BODY[way](cache, price)
        assert old != price(7)
        price.bust(7)


@pytest.mark.parametrize("way", ASYNC_WAYS)
async def test_an_awaited_invalidation_is_seen_at_once(cache: Cache, way: str) -> None:
    """The verbs under `aio` reach what is near as well."""
    price = counted(cache)
    old = bring_near(cache, price, 7)
    await ASYNC_WAYS[way](cache, price)

    assert old != price(7)


@pytest.mark.parametrize("way", TAGGED)
def test_an_invalidation_elsewhere_is_seen_soon(cache: Cache, redis_url: str, way: str) -> None:
    """Another process is played by a cache with connections of its own; it tells us nothing but through the server."""
    with redis.Redis.from_url(redis_url) as its_client, Cache(its_client, cache.name, 60) as elsewhere:
        price, theirs = counted(cache, tags=("prices", "price-{number}")), counted(elsewhere, tags=("prices",))
        old = bring_near(cache, price, 7)
        TAGGED[way](elsewhere, theirs)

        wait_until(lambda: price(7) != old, "the other's invalidation to be seen", timeout=10)


@pytest.mark.own_server
def test_a_stamp_that_was_only_extended_costs_one_read(cache: Cache, client: redis.Redis) -> None:
    """Each computation of a function extends its stamp, which the server reports as a change: values stay near."""
    price = counted(cache)
    for number in range(50):
        bring_near(cache, price, number)
    near = near_of(cache)
    client.pexpire(price.stamp, 90_000_000)
    wait_until(lambda: near.find(cache.make_key(price.key_for(3)).encode()) is None, "the change to be reported")

    assert 1 == reads_of(client, lambda: [price(number) for number in range(50) for _ in range(3)])


def test_arguments_that_are_equal_in_python_stay_apart(cache: Cache) -> None:
    """1, True, 1.0 and Decimal(1) are one key of a dict and four calls to us, however near they are."""

    @cache.cached(near=True)
    def kind(value: object, other: object = 1) -> str:
        return f"{type(value).__name__} {value!r} {type(other).__name__}"

    values = [1, True, 1.0, Decimal(1), "1", b"1", 0, False, 0.0, -0.0, Decimal(0), "", b"", None, 2**70, (1,), (True,)]
    near_of(cache)
    for _ in range(4):
        for value in values:
            for other in (1, True, "1"):
                assert f"{type(value).__name__} {value!r} {type(other).__name__}" == kind(value, other)
    for value in values:
        assert is_near(cache, kind.key_for(value))


@pytest.mark.own_server
def test_calls_that_mean_the_same_share_what_is_near(cache: Cache, client: redis.Redis) -> None:
    """Defaults and keywords: f(1), f(a=1), f(1, 2) and f(1, b=2) are one value."""

    @cache.cached(near=True)
    def total(a: int, b: int = 2, *, c: int = 3) -> int:
        return a + b + c

    bring_near(cache, total, 1)
    calls: list[Callable[[], int]] = [
        lambda: total(1),
        lambda: total(a=1),
        lambda: total(1, 2),
        lambda: total(1, b=2),
        lambda: total(1, c=3),
    ]

    assert 0 == reads_of(client, lambda: [call() for call in calls])


def test_arguments_that_do_not_fit_are_told_as_ever(cache: Cache) -> None:
    """Python's own TypeError, with the function's own name."""
    price = counted(cache)
    bring_near(cache, price, 7)

    with pytest.raises(TypeError, match="price"):
        price(7, 8)


@pytest.mark.parametrize(
    ("secret", "value"),
    [
        (None, {"rows": [1, 2], "name": "x"}),
        (None, [["a" * 100] * 100] * 2),  # compressed
        ("a secret of more than 16 bytes", {"rows": [1, 2]}),
        ("a secret of more than 16 bytes", [bytearray(b"pickled"), [1]]),
        (None, ([1], "in a tuple")),
    ],
    ids=["plain", "compressed", "signed", "pickled", "in a tuple"],
)
def test_one_callers_change_never_reaches_another(
    redis_url: str, cache_name: str, secret: str | None, value: Any
) -> None:
    """Who changes a value changes a copy of their own; the next one gets it as it was stored."""
    with Cache(redis_url, cache_name, 60, secret=secret) as cache:

        @cache.cached(near=True)
        def rows(number: int) -> Any:
            return value

        first, expected = bring_near(cache, rows, 7), repr(value)
        inside = first[0] if isinstance(first, list | tuple) else first["rows"]
        inside.append(9)

        assert expected == repr(rows(7)) == repr(rows(7))


def test_what_nobody_can_change_is_the_same_object(cache: Cache) -> None:
    """Tuples of scalars are not copied for each caller."""

    @cache.cached(near=True)
    def pair(number: int) -> tuple[int, str]:
        return number, "text"

    bring_near(cache, pair, 7)

    assert pair(7) is pair(7)


def test_a_near_value_never_outlives_its_entry(cache: Cache, client: redis.Redis) -> None:
    """Its time here ends before the entry's in Redis, by our own count, without waiting to be told."""

    @cache.cached(near=True, timeout=30)
    def price(number: int) -> int:
        time.sleep(0.02)  # a computation that takes its time: the entry lives from its end on
        return number

    near = near_of(cache)
    for number in range(20):
        bring_near(cache, price, number)
        key = cache.make_key(price.key_for(number)).encode()
        held = near.find(key)
        assert held is not None
        left_ms = client.pttl(key)
        here_ms = (held.until - time.monotonic()) * 1000
        assert 0 < here_ms <= left_ms
        assert here_ms > 29_000


def test_an_expired_value_is_computed_anew(cache: Cache) -> None:
    """The end of its lifetime is the end here, too."""
    price = counted(cache, timeout=0.3)
    old = bring_near(cache, price, 7)

    wait_until(lambda: price(7) != old, "the value to expire", timeout=10)


@pytest.mark.own_server
def test_near_takes_the_longest_time_a_value_is_kept(cache: Cache, client: redis.Redis) -> None:
    """After `near=` seconds the server is asked again, however long the entry lives."""
    price = counted(cache, timeout=60)
    short = price.with_options(near=0.2)
    bring_near(cache, short, 7)
    before = reads(client)

    wait_until(lambda: short(7) >= 0 and reads(client) > before, "the server to be asked again", timeout=10)


@pytest.mark.keeps_forever
def test_what_lives_for_ever_is_kept_for_a_while(cache: Cache) -> None:
    """FOREVER has no time of its own to count; near=True reads it again after five minutes."""
    price = counted(cache, timeout=FOREVER)
    bring_near(cache, price, 7)
    held = near_of(cache).find(cache.make_key(price.key_for(7)).encode())

    assert held is not None
    assert 0 < held.until - time.monotonic() <= 300


def test_bounds_hold(redis_url: str, cache_name: str) -> None:
    """No more entries and no more bytes than the settings say, whatever is called."""
    with Cache(redis_url, cache_name, 60) as first:
        settings = replace(first.settings, near_entries=20, near_bytes=100_000)
    with Cache.from_settings(redis_url, settings) as cache:

        @cache.cached(near=True)
        def text(number: int, size: int) -> str:
            return "x" * size

        near = near_of(cache)
        for size in (10, 40_000, 10):
            for number in range(60):
                for _ in range(3):
                    text(number, size)
                assert len(near.entries) <= 20
                assert near.entries.size_bytes <= 100_000

        assert 20 == len(near.entries)


def test_an_error_is_never_near(cache: Cache) -> None:
    """What raises is not stored, so it is not kept."""
    runs = iter(range(10))

    @cache.cached(near=True)
    def fails(number: int) -> int:
        raise ValueError(next(runs))

    near_of(cache)
    for expected in range(3):
        with pytest.raises(ValueError, match=str(expected)):
            fails(7)


@pytest.mark.own_server
def test_options_switch_it_on_and_off(cache: Cache, client: redis.Redis) -> None:
    """`with_options(near=...)` gives a function of the other kind with the same key."""
    price = counted(cache)
    far = price.with_options(near=False)
    bring_near(cache, price, 7)

    assert price.key_for(7) == far.key_for(7)
    assert (0, 5) == (reads_of(client, lambda: price(7)), reads_of(client, lambda: [far(7) for _ in range(5)]))
    assert 0 == reads_of(client, lambda: far.with_options(near=3)(7))


@pytest.mark.parametrize("near", [-1, "yes", None, float("nan")])
def test_what_is_no_time_is_refused(cache: Cache, near: Any) -> None:
    """At decoration, with the option's name."""
    with pytest.raises(UsageError, match="near="):
        cache.cached(near=near)(lambda: 1)


def test_without_a_cache_there_is_nothing_near(redis_url: str) -> None:
    """`debug=True` computes every call."""
    with Cache(redis_url, debug=True) as cache:
        price = counted(cache)

        assert [0, 1, 2] == [price(7) for _ in range(3)]


def test_a_value_counts_as_long_as_it_is_held(cache: Cache) -> None:
    """A text that the server has compressed is held unfolded, and what bounds memory is its own length."""
    text = cache.cached(near=True, name="text", version=1)(lambda number: "x" * 100_000)
    bring_near(cache, text, 7)

    assert 100_000 < near_of(cache).entries.size_bytes < 110_000


@dataclass
class Row:
    number: int


@pytest.mark.own_server
def test_a_value_whose_class_has_changed_is_computed_anew(
    cache: Cache, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an entry on the server that cannot be read any more; a copy is made for each caller."""
    rows = [cache.cached(near=True, name="row", version=1)(lambda number: globals()["Row"](number))]
    rows.append(cache.cached(near=True, name="tagged row", version=1, tags=("rows",))(rows[0].__wrapped__))
    for row in rows:
        bring_near(cache, row, 7)
    later = make_dataclass("Row", [("number", int), ("colour", str, "red")], namespace={"__module__": __name__})
    monkeypatch.setitem(globals(), "Row", later)

    assert [later(7), later(7)] == [row(7) for row in rows]
    for row in rows:
        assert later(7) == bring_near(cache, row, 7)
    # The news of our own writes may come late, and then both are read once more.
    wait_until(lambda: not reads_of(client, lambda: [row(7) for row in rows]), "the new rows to be near")
