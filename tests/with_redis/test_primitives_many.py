"""This is where many keys are read and written at once: in one round trip, each with its own lifetime."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import redis

from taskcache import FOREVER, Cache
from taskcache.drivers.line import Line
from taskcache.drivers.wire import PAGE, Unusual
from taskcache.protocol.entry import EntryKey
from tests.nodes.server import ValkeyNode

VALUES: dict[str, Any] = {"a": [1], "b": 2, "{c}": "three"}
TOKEN = "00000000-0000-4000-8000-000000000001"


def test_many_at_once(cache: Cache) -> None:
    """The plural forms take dicts, keywords and sequences, and leave out what is not there."""
    assert True is cache.set_many({"a": 1, "b": 2}, timeout=10, c=3, data=4, self=5)

    assert {"a": 1, "c": 3, "data": 4, "self": 5} == cache.get_many(["a", "missing", "c", "data", "self"])
    assert 2 == cache.delete_many(["a", "b", "missing"])
    assert {"c": 3} == cache.get_many(["a", "b", "c"])


def test_many_of_nothing(cache: Cache) -> None:
    """Nothing asked is nothing answered, without an error."""
    assert ({}, True, 0) == (cache.get_many([]), cache.set_many({}), cache.delete_many([]))


@pytest.mark.own_server
def test_get_many_asks_for_pages(cache: Cache, client: redis.Redis) -> None:
    """A few hundred keys cost one command, more of them one for each page, all on their way at once (pure/test_wire.py)."""
    values = {f"{{{number}}}\0" if number % 7 == 0 else str(number): number for number in range(3 * PAGE + 1)}
    cache.set_many(values)
    wanted = list(values)
    for count, pages in ((PAGE, 1), (PAGE + 1, 2), (len(wanted), 4)):
        told = commands_of(client, partial(cache.get_many, [*wanted[: count - 1], "missing"]))

        assert pages == told["mget"]
    found = cache.get_many([*reversed(wanted), "missing"])
    assert (values, list(reversed(wanted))) == (found, list(found))


@pytest.mark.keeps_forever
async def test_pages_of_all_sorts_are_read_alike(cache: Cache) -> None:
    """Values that are missing, of a function, long or counted stand among the commonest, wherever in a page they are."""

    @cache.cached(key_fn=lambda args, kwargs: f"of-{args[0]}")
    def fn(number: int) -> int:
        return -number

    values: dict[str, Any] = {}
    for number in range(3 * PAGE):
        if number % 50 == 7:
            values[fn.key_for(number)] = fn(number)
        elif number % 50 == 8:
            cache.incr(f"count-{number}", number)
            values[f"count-{number}"] = number
        else:
            values[f"key-{number}"] = "long " * 2000 if number % 60 == 9 else {"id": number}
            cache.set(f"key-{number}", values[f"key-{number}"])
    wanted = [name for key in values for name in (key, f"{key}-missing")]
    found, found_aio = cache.get_many(wanted), await cache.aio.get_many(wanted)

    assert (values, values) == (found, found_aio)
    assert list(values) == list(found) == list(found_aio)
    assert {} == cache.get_many([f"{key}-missing" for key in values])


@pytest.mark.own_server
def test_pages_after_a_broken_connection_are_read_by_redis_py(cache: Cache, client: redis.Redis) -> None:
    """What was read before it broke is not read again, and what was on its way is."""
    values = {str(number): "x" * 20_000 for number in range(PAGE * 3)}
    cache.set_many(values)
    redis_keys = cache.plain.redis_keys(list(values))
    pages = cache.station.read_many(redis_keys)
    _, first = next(pages)
    assert PAGE == len(first)
    client.client_kill_filter(_type="normal", skipme=True)
    rest = list(pages)

    assert client.mget(redis_keys) == [*first, *(value for _, page in rest for value in page)]
    assert all(len(redis_keys[place]) == len(page) for place, page in rest)
    assert values == cache.get_many(list(values))


def commands_of(client: redis.Redis, body: Callable[[], object]) -> dict[str, int]:
    """How many times `body` has each command executed."""
    client.config_resetstat()
    body()
    return commands_since(client)


def commands_since(client: redis.Redis) -> dict[str, int]:
    """How many times each command was executed since the statistics were reset."""
    return {name.partition("_")[2]: each["calls"] for name, each in client.info("commandstats").items()}


@pytest.mark.own_server
def test_many_are_stored_in_one_transaction(cache: Cache, client: redis.Redis) -> None:
    """A server that knows MSETEX is given pages of values, with their lifetime, in one transaction."""
    values = {str(number): [number] for number in range(4 * PAGE)}
    told = commands_of(client, lambda: cache.set_many(values, timeout=60))

    assert (4, 1, 1, None) == (told["msetex"], told["exists"], told["exec"], told.get("set"))
    assert values == cache.get_many(list(values))
    assert all(0 < client.pttl(cache.make_key(key)) <= 60_000 for key in values)


def test_something_unasked_behind_the_last_page_costs_no_value(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection with it is not used again; there is nothing left that redis-py could be asked for."""

    def refuse(reader: object) -> None:
        raise Unusual("a push")

    values = {str(number): number / 2 for number in range(PAGE + 1)}
    cache.set_many(values)
    with monkeypatch.context() as patch:
        patch.setattr("taskcache.drivers.wire._check_end", refuse)

        assert values == cache.get_many(list(values))
    assert values == cache.get_many(list(values))


@pytest.mark.own_server
def test_values_of_a_function_are_compared_with_their_stamps_at_once(cache: Cache, client: redis.Redis) -> None:
    """One read of stamps for all pages."""

    @cache.cached(name="f")
    def f(number: int) -> int:
        return number

    for number in range(2 * PAGE + 1):
        f(number)
    keys = [f.key_for(number) for number in range(2 * PAGE + 1)]
    found: dict[str, Any] = {}
    told = commands_of(client, lambda: found.update(cache.get_many(["plain", *keys])))

    assert (3 + 1, keys) == (told["mget"], list(found))
    f.bust_all()
    assert {} == cache.get_many(keys)


def test_many_for_ever_are_stored_without_a_lifetime(cache: Cache, client: redis.Redis) -> None:
    """FOREVER is no lifetime, not one of zero."""
    cache.set_many({"a": [1], "b": [2]}, timeout=FOREVER)

    assert [-1, -1] == [client.pttl(cache.make_key(key)) for key in "ab"]
    cache.delete_many(["a", "b"])


def test_many_are_stored_by_a_server_that_is_older(start_redis: Callable[..., ValkeyNode], cache_name: str) -> None:
    """What does not know the command is asked once."""
    stores_each(start_redis(), cache_name)


def test_many_are_stored_where_that_command_is_forbidden(
    start_valkey: Callable[..., ValkeyNode], cache_name: str
) -> None:
    """Who does not let us is asked once."""
    node = start_valkey()
    with redis.Redis.from_url(node.url()) as admin:
        admin.execute_command("ACL", "SETUSER", "default", "-msetex")
    stores_each(node, cache_name)


def stores_each(node: ValkeyNode, cache_name: str) -> None:
    """Each value gets a SET of its own, and its lifetime with it."""
    with redis.Redis.from_url(node.url()) as client, Cache(node.url(), cache_name, 60) as cache:
        for _ in range(2):
            told = commands_of(client, lambda: cache.set_many(VALUES, timeout=60))

            assert (0, 3) == (told.get("msetex", 0), told["set"])
            assert VALUES == cache.get_many(list(VALUES))
            assert all(0 < client.pttl(cache.make_key(key)) <= 60_000 for key in VALUES)


def test_many_pages_are_stored_by_a_server_that_is_older(
    start_redis: Callable[..., ValkeyNode], cache_name: str
) -> None:
    """Also when it is asked for the first time: each page is refused then, and nothing is stored by halves."""
    values = {str(number): number / 2 for number in range(3 * PAGE)}
    with Cache(start_redis().url(), cache_name, 60) as cache:
        cache.set_many(values, timeout=60)

        assert values == cache.get_many(list(values))


@pytest.mark.own_server
async def test_a_coroutine_stores_many_by_one_command(cache: Cache, client: redis.Redis) -> None:
    """As soon as its loop has a line; before, and on whatever has none, each is stored by the script."""
    assert await cache.aio.set_many(VALUES, timeout=60)
    client.config_resetstat()
    assert await cache.aio.set_many(VALUES, timeout=60)
    told = commands_since(client)

    assert (1, 1, 0, 0) == (told["msetex"], told["exec"], told.get("set", 0), told.get("evalsha", 0))
    assert VALUES == await cache.aio.get_many(list(VALUES))
    assert all(0 < client.pttl(cache.make_key(key)) <= 60_000 for key in VALUES)


@pytest.mark.parametrize("at", [1, 2, 3])
async def test_a_transaction_that_is_interrupted_harms_no_other(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """Half of it on the line that all coroutines share would take what they ask next into it."""
    values = {str(number): number / 2 for number in range(2 * PAGE)}
    await cache.aio.get("nothing")  # now there is a line
    sent, send = [], Line.send

    def send_some(line: Line, packed: bytes) -> Any:
        sent.append(packed)
        if len(sent) == at + 1:
            raise MemoryError
        return send(line, packed)

    with monkeypatch.context() as patch:
        patch.setattr(Line, "send", send_some)
        with pytest.raises(MemoryError):
            await cache.aio.set_many(values)

    assert [1, 1] == [await cache.aio.incr("count"), await cache.aio.delete("count")]
    assert {} == await cache.aio.get_many(list(values))
    assert await cache.aio.set_many(values)
    assert values == await cache.aio.get_many(list(values))
    await cache.aio.close()


async def test_a_coroutine_stores_many_on_a_server_that_is_older(
    start_redis: Callable[..., ValkeyNode], cache_name: str
) -> None:
    """What does not know the command is asked once."""
    node = start_redis()
    with redis.Redis.from_url(node.url()) as client, Cache(node.url(), cache_name, 60) as cache:
        await cache.aio.get("nothing")  # now there is a line
        client.config_resetstat()
        for _ in range(2):
            assert await cache.aio.set_many(VALUES, timeout=60)
            assert VALUES == await cache.aio.get_many(list(VALUES))
        told = commands_since(client)
        await cache.aio.close()

    assert (6, 0) == (told["set"], told.get("evalsha", 0))


async def test_many_coroutines_store_at_once(cache: Cache) -> None:
    """They share a line: nobody's transaction is torn apart by another's commands."""
    await cache.aio.get("nothing")

    async def one(number: int) -> None:
        values = {f"{number}:{part}": [number, part] for part in range(5)}
        await cache.aio.set_many(values, timeout=60)
        assert values == await cache.aio.get_many(list(values))
        assert [number, 0] == await cache.aio.get(f"{number}:0")

    await asyncio.gather(*map(one, range(100)))


@pytest.mark.parametrize("is_awaited", [False, True], ids=["called", "awaited"])
async def test_a_flight_of_one_of_many_is_outdated(cache: Cache, client: redis.Redis, is_awaited: bool) -> None:
    """What is being computed under one of these keys is not stored over the new value."""
    flight = EntryKey.of(cache.make_key("b").encode()).flight
    await cache.aio.get("nothing")
    client.hset(flight, mapping={"token": TOKEN, "state": "running", "owner": "somebody", "stamps": "s"})
    client.pexpire(flight, 60_000)
    assert await cache.aio.set_many(VALUES, 60) if is_awaited else cache.set_many(VALUES, 60)

    assert (b"", VALUES) == (client.hget(flight, "stamps"), cache.get_many(list(VALUES)))
