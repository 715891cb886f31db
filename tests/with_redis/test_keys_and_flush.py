"""This is where a cache lists and empties itself, however large it is, while others go on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis

from taskcache import Cache, UsageError
from tests.nodes.server import ValkeyNode

MILLION = 1_000_000
TOKEN = "3f0c2a4e-3a44-4c7a-9d3b-0a6d5f1f7a10"


def test_flush_meets_a_page_without_entries(cache: Cache, client: redis.Redis) -> None:
    """A key with a hash tag leaves companions that look like entries until their names are read."""
    for number in range(3):
        cache.get_or_set(f"{{user{number}}}:name", "Ada")
        cache.delete(f"{{user{number}}}:name")

    assert 0 == cache.flush()
    assert [] == list(cache.keys())


@pytest.mark.parametrize("ending", [":flight", f":retired:{TOKEN}", f":outcome:{TOKEN}"])
async def test_a_key_that_is_a_companion_is_refused(cache: Cache, ending: str) -> None:
    """It would be in the way of the flight of another key, and no command would list or flush it."""
    key = "a{b}" + ending
    f = cache.cached(key_fn=lambda args, kwargs: key)(lambda: 1)
    asks: list[Callable[[], Any]] = [
        *(lambda: cache.set(key, 1), lambda: cache.get(key), lambda: cache.incr(key), lambda: cache.delete(key)),
        *(lambda: cache.set_many({"b": 1, key: 2}), lambda: cache.get_or_set(key, 1), f),
    ]
    for ask in asks:
        with pytest.raises(UsageError, match="end it otherwise"):
            ask()
    with pytest.raises(UsageError, match="end it otherwise"):
        await cache.aio.get_or_set(key, 1)

    assert True is cache.set(key.replace("{", "("), 1)


def test_an_entry_may_be_called_like_a_companion(cache: Cache) -> None:
    """Names that only contain what companions end with are listed and removed as any other."""
    names = {"{eu}:flights:LH1", "{eu}:outcome:good", "{eu}:retired:Smith", "{eu}:flight:1"}
    cache.set_many(dict.fromkeys(names, 1), 60)

    assert names == set(cache.keys(strip_prefix=True))
    assert 4 == cache.flush()
    assert {} == cache.get_many(list(names))


class Pulse:
    """How long another client had to wait for its answers."""

    def __init__(self) -> None:
        self.longest = 0.0
        self.count = 0


@contextmanager
def pulse_of(node: ValkeyNode) -> Iterator[Pulse]:
    """Ping the server from another client all the time."""
    pulse, done = Pulse(), threading.Event()

    def ping() -> None:
        with node.client() as client:
            # Paced, because it shares its interpreter with the scan that it watches.
            while not done.wait(0.01):
                began = time.monotonic()
                client.ping()
                pulse.longest = max(pulse.longest, time.monotonic() - began)
                pulse.count += 1

    thread = threading.Thread(target=ping)
    thread.start()
    try:
        yield pulse
    finally:
        done.set()
        thread.join()


def test_a_million_keys_are_listed_and_flushed_without_blocking_others(
    start_valkey: Callable[..., ValkeyNode],
) -> None:
    """No KEYS, no command that takes the server long, and another client's PING never waits long."""
    node = start_valkey()
    with node.client() as client, Cache(node.url(), name="big") as cache, Cache(node.url(), name="other") as other:
        other.set("stays", 1)
        client.execute_command("DEBUG", "POPULATE", MILLION, "big")
        client.config_resetstat()
        client.config_set("slowlog-log-slower-than", 250_000)
        client.slowlog_reset()
        with pulse_of(node) as pulse:
            listed = sum(1 for _ in cache.keys())
            flushed = cache.flush()
        stats = client.info("commandstats")
        slow = [entry["command"] for entry in client.slowlog_get(10)]

        assert (MILLION, MILLION) == (listed, flushed)
        assert {"cmdstat_keys", "cmdstat_del", "cmdstat_flushdb", "cmdstat_flushall"}.isdisjoint(stats)
        assert [] == slow, "commands that held up the server for more than 250 ms"
        # Generous: with eight helpers on two cores the client itself waits for its turn.
        assert pulse.longest < 1.0
        assert pulse.count > 100
        assert (1, 1) == (client.dbsize(), other.get("stays"))


def test_keys_are_redis_keys_or_what_get_takes(cache: Cache, cache_name: str) -> None:
    """As Redis has them, or with `strip_prefix=True` as `get` takes them; an iterator, as in walrus."""
    cache.set_many({"a": 1, "b": 2})
    keys = cache.keys()

    assert iter(keys) is keys
    assert {f"{cache_name}:a", f"{cache_name}:b"} == set(keys)
    assert {"a", "b"} == set(cache.keys(strip_prefix=True))


def test_keys_of_functions_are_keys(cache: Cache) -> None:
    """What `keys` lists can be read with `get`: entries of functions too, stamps and flights not."""

    @cache.cached()
    def f(number: int) -> int:
        return number

    f(1), f(2)
    cache.set("plain", 3)

    assert [1, 2, 3] == sorted(cache.get(key) for key in cache.keys(strip_prefix=True))


def test_each_key_comes_once(cache: Cache) -> None:
    """SCAN may name a key twice while the server grows or shrinks its tables; `keys` does not."""
    cache.set_many({str(number): number for number in range(5000)})
    seen = []
    for key in cache.keys(strip_prefix=True):
        seen.append(key)
        if len(seen) % 100 == 0:
            cache.set_many({f"more-{len(seen)}-{number}": 0 for number in range(100)})
    old = [key for key in seen if not key.startswith("more-")]

    assert 5000 == len(set(old)) == len(old)
    assert len(seen) == len(set(seen))


def test_flush_counts_entries(cache: Cache) -> None:
    """What was removed is counted as walrus does; an empty cache gives 0."""
    cache.set_many({"a": 1, "b": 2})

    assert (2, 0, []) == (cache.flush(), cache.flush(), list(cache.keys()))


def test_flush_leaves_other_caches_and_keys_alone(redis_url: str, client: redis.Redis, cache_name: str) -> None:
    """Only what this cache wrote goes."""
    with (
        Cache(redis_url, name=cache_name, default_timeout=60) as cache,
        Cache(redis_url, name=cache_name + "-b", default_timeout=60) as other,
    ):
        cache.set("key", 1)
        other.set("key", 2)
        client.set("key", b"3", ex=60)
        cache.flush()

        assert (None, 2, b"3") == (cache.get("key"), other.get("key"), client.get("key"))


def test_what_is_stored_while_a_flush_runs_is_not_half_there(cache: Cache) -> None:
    """Writers and a flush at the same time: whatever is left afterwards can be read, and a second flush ends it."""
    stop = threading.Event()

    @cache.cached()
    def f(number: int) -> int:
        return number

    wrong: list[int] = []

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            if f(number % 50) != number % 50:
                wrong.append(number)

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    for _ in range(20):
        cache.flush()
    stop.set()
    for writer in writers:
        writer.join()
    cache.flush()

    assert ([], []) == (wrong, list(cache.keys()))


@pytest.mark.parametrize("tag", ["{user}", "a{b}c"])
def test_keys_with_a_hash_tag_hide_their_companions(cache: Cache, client: redis.Redis, tag: str) -> None:
    """The flight of a tagged key shares its prefix; it is neither listed nor counted."""
    key = f"{tag}:key"

    def while_computing() -> list[str]:
        return list(cache.keys(strip_prefix=True))

    listed = cache.get_or_set(key, while_computing, 60)

    assert ([], [key], 1) == (listed, list(cache.keys(strip_prefix=True)), cache.flush())
