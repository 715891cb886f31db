"""This is where every kind of client that users have keeps the same promises: what differs is how a server is reached."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from taskcache import Cache, NoServer
from taskcache.drivers.twin import async_client, close_client
from tests.nodes.server import RedisNode, ValkeyNode
from tests.nodes.topology import ClusterNodes, SentinelNodes
from tests.with_redis.gate import Counter, Gate, threads, wait_for_followers

Fixture = Callable[[str], Any]
# What a test of promises costs is its servers: each kind is started once for each of them.
KINDS: dict[str, Callable[[Fixture], Any]] = {}
MANY = 40


def kind(make: Callable[[Fixture], Any]) -> Callable[[Fixture], Any]:
    """Note down a kind of client: `make(fixture)` gives it, or the address of its server."""
    KINDS[make.__name__] = make
    return make


@kind
def resp2(fixture: Fixture) -> redis.Redis:
    return redis.Redis.from_url(fixture("redis_url"), protocol=2)


@kind
def resp3(fixture: Fixture) -> redis.Redis:
    return redis.Redis.from_url(fixture("redis_url"), protocol=3)


@kind
def decoding(fixture: Fixture) -> redis.Redis:
    return redis.Redis.from_url(fixture("redis_url"), decode_responses=True)


@kind
def without_a_timeout(fixture: Fixture) -> redis.Redis:
    return redis.Redis.from_url(fixture("redis_url"), socket_timeout=None)


@kind
def a_pool_that_waits(fixture: Fixture) -> redis.Redis:
    return redis.Redis.from_pool(redis.BlockingConnectionPool.from_url(fixture("redis_url"), max_connections=4))


@kind
def a_pool_of_the_users_own(fixture: Fixture) -> redis.Redis:
    class Pool(redis.ConnectionPool):
        """Only redis-py can know what it does."""

    return redis.Redis.from_pool(Pool.from_url(fixture("redis_url")))


@kind
def unix_socket(fixture: Fixture) -> str:
    node: ValkeyNode = fixture("start_valkey")(unix=True)
    return node.url()


@kind
def tls(fixture: Fixture) -> str:
    node: RedisNode = fixture("start_redis")(tls=True, password="p/w")
    return node.url()


@kind
def sentinel(fixture: Fixture) -> Any:
    nodes: SentinelNodes = fixture("sentinels")
    return nodes.sentinel().master_for(nodes.SERVICE)  # type: ignore[no-untyped-call]  # redis-py


@kind
def cluster(fixture: Fixture) -> redis.RedisCluster:
    nodes: ClusterNodes = fixture("cluster")
    return nodes.client()


@pytest.fixture(params=[*KINDS, "by_redis_py"])
def cache(request: pytest.FixtureRequest, cache_name: str) -> Iterator[Cache]:
    """An empty cache that reaches its server in one of these ways."""
    by_redis_py = request.param == "by_redis_py"
    database = request.getfixturevalue("redis_url") if by_redis_py else KINDS[request.param](request.getfixturevalue)
    with Cache(database, name=cache_name, default_timeout=60, transport="redis-py" if by_redis_py else "auto") as cache:
        yield cache
    if isinstance(database, redis.Redis | redis.RedisCluster):
        database.close()


def test_a_value_is_computed_once_until_it_is_invalidated(cache: Cache, counter: Counter) -> None:
    """By itself, with its function, or with its tag."""

    @cache.cached(tags=("all", "of:{number}"))
    def f(number: int) -> int:
        return counter()

    @cache.cached()
    def plain(number: int) -> int:
        return counter()

    assert [1, 1, 2, 2, 3] == [f(1), f(1), plain(1), plain(1), f(2)]
    f.bust(1)
    assert [4, 4, 3] == [f(1), f(1), f(2)]
    plain.bust_all()
    assert [5, 5] == [plain(1), plain(1)]
    cache.invalidate("of:2")
    assert [4, 6] == [f(1), f(2)]
    cache.invalidate("all")
    assert [7, 8] == [f(1), f(2)]
    f.put(70, 1)
    assert (70, 70) == (f(1), getattr(f.peek(1), "value", None))


def test_plain_keys_are_stored_read_and_removed(cache: Cache) -> None:
    """One, many, counters, long values."""
    data = {f"key-{number}": {"number": number, "of": "x" * number * 50} for number in range(MANY)}
    cache.set_many({**data, "long": b"\0" * 2_000_000})

    assert data == cache.get_many([*data, "missing"])
    assert b"\0" * 2_000_000 == cache.get("long")
    assert [1, 5] == [cache.incr("count"), cache.incr("count", 4)]
    cache.set("key-0", "other", timeout=30)
    assert (2, None, "other") == (cache.delete_many(["key-1", "key-2", "no"]), cache.get("key-1"), cache.get("key-0"))
    assert MANY - 2 == len(cache.get_many(list(data)))
    cache.flush()
    assert {} == cache.get_many([*data, "long", "count"])


def test_a_herd_computes_once(cache: Cache, gate: Gate) -> None:
    """Those who wait are woken by the channel of their process."""

    @cache.cached()
    def f(number: int) -> int:
        return gate.pass_first()

    with threads(12) as run:
        herd = [run(lambda: f(1)) for _ in range(12)]
        gate.wait_reached()
        wait_for_followers(cache, 11)
        gate.open()

        assert [1] * 12 == [one.result(30) for one in herd]
    assert 1 == gate.visits


def test_many_calls_are_one_batch(cache: Cache, counter: Counter) -> None:
    """Hits and misses of one `map`, in the order of the calls."""

    @cache.cached()
    def f(number: int) -> tuple[int, int]:
        return number, counter()

    stored = [f(number) for number in range(0, MANY, 2)]
    values = f.map(range(MANY))()

    assert list(range(MANY)) == [number for number, _ in values]
    assert (stored, MANY) == (values[::2], counter.runs)


def test_coroutines_find_the_same(cache: Cache, counter: Counter) -> None:
    """Hits, misses, plain keys and herds larger than any pool of an event loop, and an end without anything left open."""

    @cache.cached()
    async def f(number: int) -> int:
        await asyncio.sleep(0)
        return counter()

    async def main() -> list[Any]:
        await f(0)  # connected: those who connect come one by one
        herd = await asyncio.gather(*(f(1) for _ in range(400)))
        cached = await f(1)
        await f.aio.bust(1)
        data = {f"key-{number}": number for number in range(MANY)}
        await cache.aio.set_many(data)
        read = await cache.aio.get_many(list(data))
        return [set(herd), cached, await f(1), read == data]

    assert [{2}, 2, 3, True] == asyncio.run(main())
    assert 3 == asyncio.run(f(1))


def test_what_is_near_is_not_stale(cache: Cache, counter: Counter) -> None:
    """Where the server cannot tell us what changes, nothing is kept near, and all else is the same."""

    @cache.cached(near=True)
    def f(number: int) -> int:
        return counter()

    assert [1] * 4 == [f(1) for _ in range(4)]
    f.bust(1)
    assert [2] * 4 == [f(1) for _ in range(4)]


@pytest.mark.own_server
def test_a_cut_connection_is_made_again(cache: Cache, counter: Counter) -> None:
    """A server that drops all its clients costs nobody a value or an error."""
    f = cache.cached(name="cut")(counter)
    f()
    client = cache.station.server.client
    for _ in range(3):
        if isinstance(client, redis.RedisCluster):
            client.client_kill_filter(_type="normal", skipme=True, target_nodes=redis.RedisCluster.PRIMARIES)
        else:
            client.client_kill_filter(_type="normal", skipme=True)

        assert 1 == f()
    assert 1 == counter.runs


def test_a_cluster_that_is_away_costs_nobody_a_value(cache_name: str, counter: Counter) -> None:
    """Every node of it: calls compute, of threads and of coroutines, and what was not invalidated is said."""
    with ClusterNodes() as nodes, nodes.client() as client, Cache(client, name=cache_name) as cache:
        cached = cache.cached(name="cached")(counter)

        @cache.cached()
        async def awaited() -> int:
            return counter()

        assert [1, 1] == [cached(), cached()]
        for member in nodes.members:
            member.kill()

        assert [2, 3] == [cached(), cached()]
        assert 4 == asyncio.run(awaited())
        with pytest.raises(NoServer):
            cached.bust()


def test_a_slot_that_moves_takes_its_values_along(cache_name: str) -> None:
    """While it moves many keys are read wherever each is; after it they are written there too."""
    data = {f"key-{number}": number for number in range(MANY)}

    async def read(cache: Cache) -> list[bool]:
        return [data == await cache.aio.get_many(list(data)), data == cache.get_many(list(data))]

    async def written(cache: Cache) -> list[bool]:
        return [await cache.aio.set_many(data), cache.set_many(data)]

    with ClusterNodes() as nodes, nodes.client() as client, Cache(client, name=cache_name, default_timeout=60) as cache:
        assert [True] * 4 == asyncio.run(written(cache)) + asyncio.run(read(cache))
        with nodes.moving(client.keyslot(cache.make_key("key-7"))):
            assert [True, True] == asyncio.run(read(cache))
        assert [True] * 4 == asyncio.run(read(cache)) + asyncio.run(written(cache))


def test_coroutines_connect_with_all_that_the_client_was_made_with() -> None:
    """What a TLS server may ask for, and how the system keeps a connection alive; a Cluster's other addresses."""
    given: dict[str, Any] = {
        "ssl_ca_path": "/authorities",
        "ssl_password": "of the key",
        "ssl_keyfile": "key.pem",
        "ssl_check_hostname": False,
        "socket_keepalive": True,
        "socket_keepalive_options": {4: 30},
    }
    pool = async_client(redis.Redis(host="localhost", ssl=True, **given)).connection_pool

    assert given == {name: pool.connection_kwargs.get(name) for name in given}


def test_coroutines_find_the_nodes_of_a_cluster_where_the_client_does(cluster: ClusterNodes) -> None:
    """`address_remap` is how a Cluster is reached through tunnels and from outside of its containers."""
    asked: list[tuple[str, int]] = []

    def remapped(address: tuple[str, int]) -> tuple[str, int]:
        asked.append(address)
        return address

    client = redis.RedisCluster.from_url(cluster.url, address_remap=remapped)

    async def ping() -> bool:
        twin = async_client(client)
        asked.clear()
        pong = await twin.ping()
        await close_client(twin)
        return bool(pong)

    assert asyncio.run(ping())
    assert asked
    client.close()


def test_an_address_that_asks_for_texts_gets_bytes(redis_url: str, cache_name: str) -> None:
    """`decode_responses` is of programs that read texts; keys and values are none."""
    with Cache(f"{redis_url}?decode_responses=True", name=cache_name) as cache:
        cache.set("key", {"a": b"bytes"}, 60)

        assert ({"a": b"bytes"}, ["key"]) == (cache.get("key"), list(cache.keys(strip_prefix=True)))
        assert 1 == cache.flush()
