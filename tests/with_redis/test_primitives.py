"""This is where get, set and their kin do what their names say, with walrus's names and results."""

from __future__ import annotations

import datetime as dt
from enum import Enum
from typing import Any

import pytest
import redis

from taskcache import FOREVER, Cache, NoServer, UnstorableValue, UsageError
from tests.nodes.server import ValkeyNode
from tests.nodes.waiting import wait_until
from tests.with_redis.gate import Gate, threads, wait_for_followers
from tests.with_redis.values import VALUES


def test_what_was_set_can_be_got(cache: Cache) -> None:
    """`set` answers True; `get` gives the value back."""
    assert True is cache.set("foo", "bar", 10)
    assert "bar" == cache.get("foo")


def test_what_was_not_set_is_none_or_the_default(cache: Cache) -> None:
    """A missing key gives None, or what the caller says."""
    assert (None, 7) == (cache.get("nothing"), cache.get("nothing", 7))


def test_none_is_a_value(cache: Cache) -> None:
    """A stored None is not a missing value."""
    cache.set("nothing", None)

    assert None is cache.get("nothing", "default")
    assert {"nothing": None} == cache.get_many(["nothing", "missing"])


@pytest.mark.parametrize("name", VALUES)
def test_types_come_back_as_they_were(cache: Cache, name: str) -> None:
    """A value is read as it was written, type and all."""
    cache.set("key", VALUES[name])
    found = cache.get("key")

    assert (type(VALUES[name]), VALUES[name]) == (type(found), found)


@pytest.mark.parametrize("name", VALUES)
def test_types_come_back_through_a_function(cache: Cache, name: str) -> None:
    """The second call gives the stored value, as it was."""
    runs = 0

    @cache.cached()
    def f() -> Any:
        nonlocal runs
        runs += 1
        return VALUES[name]

    f()
    found = f()

    assert (1, type(VALUES[name]), VALUES[name]) == (runs, type(found), found)


def test_an_aware_datetime_keeps_its_offset(cache: Cache) -> None:
    """Equal instants are equal in Python whatever their offset, so equality alone would not show a loss."""
    value = VALUES["aware datetime"]
    cache.set("key", value)

    assert value.utcoffset() == cache.get("key").utcoffset()


def test_a_numpy_array_comes_back(cache: Cache) -> None:
    """An array keeps its shape, type and content."""
    numpy = pytest.importorskip("numpy")
    array = numpy.arange(6, dtype="float32").reshape(2, 3)
    cache.set("key", array)
    found = cache.get("key")

    assert (array.dtype, array.shape) == (found.dtype, found.shape)
    assert (array == found).all()


def test_a_value_that_cannot_be_stored_is_refused_with_the_cure(cache: Cache) -> None:
    """Nothing is written, and the error says how such values can be stored."""
    with pytest.raises(UnstorableValue, match="secret"):
        cache.set("key", object())

    assert None is cache.get("key")


def test_with_a_secret_everything_that_pickles_can_be_stored(redis_url: str, cache_name: str) -> None:
    """A signed pickle stands in where the safe codec ends."""
    with Cache(redis_url, name=cache_name, default_timeout=60, secret="0123456789abcdef") as cache:
        cache.set("key", ValkeyNode)
        cache.set("count", 7)

        assert (ValkeyNode, 7) == (cache.get("key"), cache.get("count"))


def test_another_secret_reads_nothing(redis_url: str, cache_name: str) -> None:
    """A value that is not signed with a secret of ours is a miss, not an error."""
    with Cache(redis_url, name=cache_name, default_timeout=60, secret="0123456789abcdef") as cache:
        cache.set("key", "value")
    with Cache(redis_url, name=cache_name, secret="fedcba9876543210") as other:
        assert None is other.get("key")
    with Cache(redis_url, name=cache_name, secret="fedcba9876543210,0123456789abcdef") as rotating:
        assert "value" == rotating.get("key")


@pytest.mark.parametrize("damaged", [b"", b"x", b"\x80\x04N.", b"\xff" * 100, b"12ab"])
def test_bytes_that_mean_nothing_are_a_miss(cache: Cache, client: redis.Redis, damaged: bytes) -> None:
    """Whatever somebody left under our key, reading it raises nothing."""
    client.set(cache.make_key("key"), damaged, ex=60)

    assert (None, {}) == (cache.get("key"), cache.get_many(["key"]))


def test_a_value_cut_short_is_a_miss(cache: Cache, client: redis.Redis) -> None:
    """Every beginning of a stored value is a miss or, by chance, nothing worse."""
    cache.set("key", {"a": [1, 2, 3]})
    whole = client.get(cache.make_key("key"))
    assert whole is not None
    for length in range(len(whole)):
        client.set(cache.make_key("key"), whole[:length], ex=60)
        assert None is cache.get("key")


@pytest.mark.parametrize(
    ("timeout", "milliseconds"),
    [(10, 10_000), (0.5, 500), (dt.timedelta(minutes=1), 60_000), (0.0001, 1), (None, 60_000)],
)
def test_lifetimes(cache: Cache, client: redis.Redis, timeout: Any, milliseconds: int) -> None:
    """Seconds or a timedelta, down to a millisecond; None is the default of the cache."""
    cache.set("key", "value", timeout)
    left = client.pttl(cache.make_key("key"))

    assert left in (-2, 0, 1) if milliseconds == 1 else milliseconds - 5_000 < left <= milliseconds


@pytest.mark.keeps_forever
def test_forever_has_no_end(cache: Cache, client: redis.Redis) -> None:
    """FOREVER stores without a lifetime, whatever the default is."""
    cache.set("key", "value", FOREVER)

    assert -1 == client.pttl(cache.make_key("key"))


@pytest.mark.keeps_forever
def test_the_default_of_the_default_is_for_ever(redis_url: str, cache_name: str, client: redis.Redis) -> None:
    """As in walrus, a cache without default_timeout stores for ever."""
    with Cache(redis_url, name=cache_name) as cache:
        cache.set("key", "value")

        assert (None, -1) == (cache.default_timeout, client.pttl(cache.make_key("key")))


@pytest.mark.parametrize("timeout", [-1, dt.timedelta(seconds=-1), float("nan"), float("inf"), "10", True, [1]])
def test_a_lifetime_that_is_none_is_refused(cache: Cache, timeout: Any) -> None:
    """Negative, endless, or not a duration: an error that says what to pass, and nothing is stored."""
    with pytest.raises(UsageError, match="timeout"):
        cache.set("key", "value", timeout)

    assert None is cache.get("key")


def test_deleting(cache: Cache) -> None:
    """`delete` says how many were there: 1 or 0."""
    cache.set("key", "value")

    assert (1, 0, None) == (cache.delete("key"), cache.delete("key"), cache.get("key"))


@pytest.mark.parametrize(
    "key", ["", " ", "ä🟢", "a:b", "{tag}:a", "a}b{", "{}", "*", "line\nbreak", "x" * 5_000, "\udcff"]
)
def test_any_text_is_a_key(cache: Cache, key: str) -> None:
    """Keys are texts of any content; what is set under one is found, listed and deleted under it."""
    cache.set(key, "value")

    assert ("value", [key]) == (cache.get(key), list(cache.keys(strip_prefix=True)))
    assert (1, None) == (cache.delete(key), cache.get(key))


@pytest.mark.parametrize("key", [b"key", 7, None, ("a",)])
def test_a_key_is_a_text(cache: Cache, key: Any) -> None:
    """What is not a str is refused with the cure, not turned into one silently."""
    for ask in (cache.get, cache.delete, cache.incr, lambda key: cache.set(key, 1), lambda key: cache.get_many([key])):
        with pytest.raises(UsageError, match="str"):
            ask(key)


def test_one_text_is_not_many_keys(cache: Cache) -> None:
    """`get_many("abc")` would ask for a, b and c."""
    with pytest.raises(UsageError, match="several keys"):
        cache.get_many("abc")


def test_names_of_keys(cache: Cache, cache_name: str) -> None:
    """The Redis key of «foo» is `name:foo`; both ways."""
    assert (f"{cache_name}:foo", "foo") == (cache.make_key("foo"), cache.unmake_key(cache.make_key("foo")))


def test_counting(cache: Cache, client: redis.Redis) -> None:
    """`incr` begins at 0, goes up and down, and loses nothing between threads."""
    with threads(8) as run:
        for each in [run(lambda: [cache.incr("count") for _ in range(50)]) for _ in range(8)]:
            each.result(30)
    client.expire(cache.make_key("count"), 60)

    assert (395, 395) == (cache.incr("count", -5), cache.get("count"))


def test_counting_what_is_no_number_is_refused(cache: Cache) -> None:
    """The error names the cure, and the value stays."""
    cache.set("key", "value")

    with pytest.raises(UsageError, match="counter"):
        cache.incr("key")
    assert "value" == cache.get("key")


@pytest.mark.parametrize("delta", [1.5, "1", True, None, 2**63, -(2**63) - 1])
def test_adding_what_a_counter_cannot_hold_is_refused(cache: Cache, delta: Any) -> None:
    """It is the delta that is wrong, and the error says so; the counter stays."""
    cache.set("count", 1, 60)

    with pytest.raises(UsageError, match="delta="):
        cache.incr("count", delta)
    assert 1 == cache.get("count")


def test_a_counter_that_is_full_says_so(cache: Cache) -> None:
    """In our words, and the counter stays."""
    cache.set("count", 2**63 - 1, 60)

    with pytest.raises(UsageError, match="64 bits"):
        cache.incr("count")
    assert 2**63 - 1 == cache.get("count")


def test_get_or_set_computes_once(cache: Cache, gate: Gate) -> None:
    """Those who miss together share one computation; later ones find the value."""
    with threads(5) as run:
        callers = [run(lambda: cache.get_or_set("key", gate.pass_first, 60)) for _ in range(5)]
        gate.wait_reached()
        wait_for_followers(cache, 4)
        gate.open()

        assert {1} == {caller.result(30) for caller in callers}
    assert (1, 1, 1) == (cache.get("key"), cache.get_or_set("key", 5), gate.visits)


def test_get_or_set_takes_a_plain_value(cache: Cache) -> None:
    """What is not callable is the value itself."""
    assert (5, 5) == (cache.get_or_set("key", 5), cache.get("key"))


def test_get_or_set_finds_what_set_stored(cache: Cache) -> None:
    """A plain entry is a value of `get_or_set`, a counter too, whoever stored it."""
    cache.set("key", "set")
    cache.set("count", 7)

    assert ("set", 7) == (cache.get_or_set("key", "computed"), cache.get_or_set("count", 0))


def test_a_set_beats_a_get_or_set_under_way(cache: Cache, gate: Gate) -> None:
    """What was set while the old value was being computed stays."""
    with threads(1) as run:
        old = run(lambda: cache.get_or_set("key", gate.pass_first, 60))
        gate.wait_reached()
        cache.set("key", "set")
        gate.open()

        assert (1, "set") == (old.result(30), cache.get("key"))


def test_counters_of_the_plain_commands(cache: Cache) -> None:
    """`metrics` are walrus's three counters; `stats` adds the waits."""
    cache.set("a", 1)
    cache.set_many({"b": 2, "c": 3})
    cache.get("a")
    cache.get("missing")
    cache.get_many(["b", "missing"])

    assert {"hits": 2, "misses": 2, "writes": 3} == cache.metrics
    assert {"hits": 2, "misses": 2, "writes": 3, "waits": 0} == cache.stats()


def test_two_caches_do_not_see_each_other(redis_url: str, cache_name: str) -> None:
    """The name is a namespace."""
    with Cache(redis_url, name=cache_name) as one, Cache(redis_url, name=cache_name + "-2") as two:
        one.set("key", 1, 60)

        assert (1, None) == (one.get("key"), two.get("key"))


def test_a_client_may_be_given(redis_url: str, cache_name: str) -> None:
    """An existing client serves, also one that decodes its replies; it is left as it was."""
    for decodes in (False, True):
        with redis.Redis.from_url(redis_url, decode_responses=decodes) as client:
            cache = Cache(client, name=cache_name, default_timeout=60)
            cache.set("key", b"\xff")

            assert (b"\xff", decodes) == (cache.get("key"), client.get_encoder().decode_responses)


def test_a_closed_cache_opens_again(cache: Cache) -> None:
    """`close` closes connections, not the cache: the next command makes new ones."""
    cache.set("key", 1)
    cache.close()

    assert 1 == cache.get("key")


def test_closing_leaves_no_connection(start_valkey: Any) -> None:
    """After `close` the server has no connection of this process, the listener's included."""
    node: ValkeyNode = start_valkey()
    gate = Gate()
    with node.client() as client, Cache(node.url(), default_timeout=60) as cache, threads(2) as run:
        alone = len(client.client_list())
        slow = cache.cached()(gate.pass_first)
        leader = run(lambda: slow())
        gate.wait_reached()
        follower = run(lambda: slow())
        wait_for_followers(cache, 1)
        gate.open()
        assert (1, 1) == (leader.result(30), follower.result(30))
        cache.close()

        wait_until(lambda: len(client.client_list()) == alone, "all connections to be closed")


def test_waits_survive_the_close_of_their_connections(cache: Cache, gate: Gate) -> None:
    """Who waits when a cache of this process is closed gets the value all the same, by looking for it."""
    slow = cache.cached()(gate.pass_first)
    with threads(2) as run:
        leader = run(lambda: slow())
        gate.wait_reached()
        follower = run(lambda: slow())
        wait_for_followers(cache, 1)
        cache.close()
        gate.open()

        assert (1, 1) == (leader.result(30), follower.result(30))


def test_nothing_is_connected_before_the_first_command() -> None:
    """A cache of an impossible address can be made, decorated with and shown."""
    cache = Cache("redis://user:hidden@127.0.0.1:1/3", name="shop")
    cache.cached()(lambda: 1)

    assert (False, "<Cache 'shop' redis://127.0.0.1:1/3>") == (cache.is_open, repr(cache))


def test_commands_without_a_server_raise(cache_name: str) -> None:
    """Plain commands have nobody to ask instead: NoServer, a ConnectionError, which names the address."""
    cache = Cache("redis://127.0.0.1:1/0", name=cache_name)
    for ask in (
        lambda: cache.get("key"),
        lambda: cache.set("key", 1),
        lambda: cache.delete("key"),
        lambda: cache.incr("key"),
        lambda: list(cache.keys()),
        lambda: cache.flush(),
    ):
        with pytest.raises(NoServer, match="127.0.0.1:1/0"):
            ask()


def test_a_member_of_a_str_enum_is_one_key(cache: Cache) -> None:
    """Its text, for every verb and in every version of Python, whatever a format makes of it."""

    class Name(str, Enum):
        PRICE = "price"

    cache.set(Name.PRICE, "old")
    assert ["old"] * 3 == [cache.get("price"), cache.get(Name.PRICE), cache.get_or_set(Name.PRICE, "new")]
    assert [1, None] == [cache.delete(Name.PRICE), cache.get(Name.PRICE)]
    assert [1, 2, 1] == [cache.incr(Name.PRICE), cache.incr("price"), cache.delete_many([Name.PRICE])]
    assert cache.make_key("price") == cache.make_key(Name.PRICE)
