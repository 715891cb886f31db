"""This is where each defect of walrus's Cache stays away: one test, one defect."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path

import pytest
import redis

from taskcache import Cache, UsageError
from tests.nodes.waiting import wait_until
from tests.with_redis.gate import Gate, threads, wait_for_followers

# A function that raises in `cache_async` and never delivers: tests/with_celery/ has that one.


def test_half_a_second_is_a_lifetime(cache: Cache, client: redis.Redis) -> None:
    """walrus: `timeout=0.5` is an error in Redis (SETEX with 0 seconds)."""
    cache.set("key", "value", 0.5)

    assert "value" == cache.get("key")
    assert 0 < client.pttl(cache.make_key("key")) <= 500


def test_no_time_is_not_for_ever(cache: Cache) -> None:
    """walrus: `timeout=0` stores for ever; here it stores nothing and removes what is there."""
    cache.set("key", "old", 60)
    cache.set("key", "new", 0)

    assert None is cache.get("key")


def test_a_counter_can_be_read(cache: Cache, client: redis.Redis) -> None:
    """walrus: `get` after `incr` raises UnpicklingError."""
    cache.incr("count")
    cache.incr("count", 41)
    client.expire(cache.make_key("count"), 60)

    assert (42, {"count": 42}) == (cache.get("count"), cache.get_many(["count"]))


def test_a_stored_number_can_be_counted_on(cache: Cache) -> None:
    """walrus: `incr` after `set` is a ResponseError."""
    cache.set("count", 41, 60)

    assert 42 == cache.incr("count")


def test_deleting_nothing_deletes_nothing(cache: Cache) -> None:
    """walrus: `delete_many([])` is an error in Redis."""
    assert 0 == cache.delete_many([])


def test_delete_many_counts_in_debug_too() -> None:
    """walrus: `delete_many` returns None in debug."""
    assert 0 == Cache(debug=True).delete_many(["key"])


def test_two_modules_may_name_a_function_alike(cache: Cache) -> None:
    """walrus: keys hold `__name__` only, so two modules' `load` collide."""
    functions = []
    for name in ("shop", "bank"):
        module = types.ModuleType(name)
        exec(f"def load(number):\n    return {name!r}", module.__dict__)
        functions.append(cache.cached()(module.load))

    assert ["shop", "bank"] == [load(1) for load in functions]


def test_two_classes_may_name_a_method_alike(cache: Cache) -> None:
    """walrus: two classes' `load` collide, since only the last part of the name counts."""

    class Shop:
        @staticmethod
        @cache.cached()
        def load(number: int) -> str:
            return "shop"

    class Bank:
        @staticmethod
        @cache.cached()
        def load(number: int) -> str:
            return "bank"

    assert ("shop", "bank") == (Shop.load(1), Bank.load(1))


def test_equal_arguments_are_one_call_whoever_made_them(cache: Cache) -> None:
    """walrus: md5 over a pickle depends on whether two equal objects are one (pickle's memo)."""

    @cache.cached()
    def join(words: list[str]) -> str:
        return " ".join(words)

    one = "word" * 3
    same = ["".join(("word", "wordword")), one]

    assert join.key_for([one, one]) == join.key_for(same)


def test_the_order_of_keywords_does_not_matter(cache: Cache) -> None:
    """walrus: f(a=1, b=2) and f(b=2, a=1) are two entries, as are f(1) and f(a=1)."""

    @cache.cached()
    def f(a: int, b: int = 2) -> int:
        return a + b

    assert 1 == len({f.key_for(1), f.key_for(a=1), f.key_for(1, 2), f.key_for(b=2, a=1), f.key_for(1, b=2)})


def test_the_hash_seed_does_not_matter(cache_name: str) -> None:
    """walrus: a set is pickled in its own order, which PYTHONHASHSEED changes; processes then share nothing."""
    program = (
        "from taskcache import Cache\n"
        "def f(words, more): ...\n"
        "print(Cache('redis://nowhere').cached(name='f', version=1)(f).key_for({'a', 'b', 'c', 'd'}, {'x': 1, 'y': 2}))"
    )
    keys = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "2")
    }

    assert 1 == len(keys)


def test_a_property_never_gets_the_value_of_an_object_that_is_gone(cache: Cache) -> None:
    """walrus: `cached_property` keys on `id()`, which a later object may have again."""
    made = 0

    class Clock:
        @cache.cached_property()
        def serial(self) -> int:
            nonlocal made
            made += 1
            return made

    serials, addresses = [], set()
    for _ in range(50):
        clock = Clock()
        addresses.add(id(clock))
        serials.append(clock.serial)
        del clock

    assert list(range(1, 51)) == serials
    assert len(addresses) < 50, "no address was used twice, so nothing was shown"


@pytest.mark.own_server
def test_keys_and_flush_do_not_use_the_keys_command(cache: Cache, client: redis.Redis) -> None:
    """walrus: `keys` and `flush` run KEYS, which blocks everybody, and one huge DEL."""
    cache.set_many({f"key-{number}": number for number in range(20)}, 60)
    client.config_resetstat()

    assert 20 == len(list(cache.keys()))
    assert 20 == cache.flush()
    stats = client.info("commandstats")
    assert {"cmdstat_keys", "cmdstat_del", "cmdstat_flushdb"}.isdisjoint(stats)


@pytest.mark.parametrize("name", ["ca*", "c?che", "[abc]ache", "back\\slash", "a-b", "^a", "*"])
def test_the_name_of_a_cache_is_no_pattern(redis_url: str, name: str) -> None:
    """walrus: a name with signs of a pattern flushes other caches too, or not even itself."""
    with Cache(redis_url, name=name) as cache, Cache(redis_url, name="cache") as other:
        cache.set("key", 1, 60)
        other.set("key", 2, 60)

        assert ([f"{name}:key"], 1, 2) == (list(cache.keys()), cache.flush(), other.get("key"))


def test_a_cache_whose_name_begins_alike_is_another_cache(redis_url: str) -> None:
    """Flushing `a` leaves `ab` and `a:b` alone as far as their names allow; a colon nests, as in Redis."""
    with Cache(redis_url, name="a") as a, Cache(redis_url, name="ab") as ab:
        a.set("key", 1, 60)
        ab.set("key", 2, 60)
        a.flush()

        assert (None, 2) == (a.get("key"), ab.get("key"))


def test_average_times_are_averages(cache: Cache) -> None:
    """walrus: `avg_hit_time` adds duration / hits each time, which is no average."""

    @cache.cached(metrics=True)
    def f(number: int) -> int:
        return number

    f(1)
    for _ in range(9):
        f(1)
    stats = f.stats_counted

    assert (9, 1) == (f.metrics["hits"], f.metrics["misses"])
    assert stats.hit_seconds / 9 == pytest.approx(f.metrics["avg_hit_time"])
    assert stats.miss_seconds == pytest.approx(f.metrics["avg_miss_time"])


@pytest.mark.own_server
def test_many_values_are_stored_with_their_lifetime_in_one_command_each(cache: Cache, client: redis.Redis) -> None:
    """walrus: `set_many` loses the lifetime if the client dies between MSET and EXPIRE."""
    client.config_resetstat()
    cache.set_many({"a": 1, "b": 2}, 60)
    stats = client.info("commandstats")

    assert {"cmdstat_mset", "cmdstat_expire", "cmdstat_pexpire"}.isdisjoint(stats)
    assert all(0 < client.pttl(cache.make_key(key)) <= 60_000 for key in "ab")


def test_callers_that_miss_together_compute_once(cache: Cache, gate: Gate) -> None:
    """walrus: twenty threads that miss together run the function twenty times."""

    @cache.cached()
    def slow() -> int:
        return gate.pass_first()

    with threads(20) as run:
        callers = [run(slow) for _ in range(20)]
        gate.wait_reached()
        wait_for_followers(cache, 19)
        gate.open()

        assert {1} == {caller.result(30) for caller in callers}


def test_the_first_three_options_keep_their_names(cache: Cache) -> None:
    """walrus takes key_fn, timeout and metrics by position as well; here they are named, and the error says so."""
    with pytest.raises((TypeError, UsageError)):
        cache.cached(lambda args, kwargs: "key", 60, True)  # type: ignore[call-overload]  # that is the point


def test_a_value_ends_when_its_time_is_over(cache: Cache) -> None:
    """What walrus does right: after its lifetime a value is gone."""
    cache.set("foo", "bar", 0.2)
    before = cache.get("foo")

    wait_until(lambda: cache.get("foo") is None, "the value to expire")
    assert "bar" == before
