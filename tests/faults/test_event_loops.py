"""This is where event loops come and go, and meet a server that is away: what they had is closed, and waited for once."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import time
from typing import Any

import pytest
import redis

from taskcache import Cache
from taskcache.drivers import line
from taskcache.drivers.asyncio import AsyncServer
from taskcache.drivers.link import Link
from taskcache.drivers.topology import Server
from taskcache.drivers.twin import async_client
from taskcache.errors import NoServer
from taskcache.protocol.steps import Call
from tests.nodes.proxy import FaultProxy
from tests.nodes.topology import ClusterNodes
from tests.nodes.waiting import wait_until
from tests.nodes.workers import REPOSITORY

ASK = Call("GET", (b"key",))
# A look goes through all objects of the process, some seconds of a busy machine, and one is not enough.
LOOK_S = 40


def links_of(server: Server) -> list[Link]:
    gc.collect()
    return [each for each in gc.get_objects() if type(each) is Link and each._server is server]


@pytest.mark.parametrize("ending", ["run", "close"])
@pytest.mark.parametrize("transport", ["auto", "redis-py"])
def test_a_loop_that_has_ended_leaves_nothing(redis_url: str, cache_name: str, transport: str, ending: str) -> None:
    """A program that has a loop for each request has as many connections as before, however it ends them."""
    command = [sys.executable, "-m", "tests.faults.ended_loops", redis_url, cache_name, transport, ending]
    ran = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)

    assert (f"{[None] * 5}\nnone is left\n", "") == (ran.stdout, ran.stderr)


def test_a_loop_that_closes_its_cache_may_go_on(redis_url: str) -> None:
    """What it asks next, it asks on a connection made anew."""
    server = Server(redis_url)

    async def ask() -> list[Any]:
        loops = AsyncServer(server, own_line=True)
        found = [await loops.call(ASK)]
        await loops.close()
        wait_until(lambda: not links_of(server), "the closed link to be gone", LOOK_S)
        return [*found, await loops.call(ASK)]

    asked = asyncio.run(ask())
    server.close()

    assert [None, None] == asked
    wait_until(lambda: not links_of(server), "the link of the loop that ended to be gone")


def test_a_server_that_is_away_is_waited_for_once(proxy: FaultProxy, redis_url: str) -> None:
    """By a hundred coroutines together: the first tries to connect, and the others hear what came of it."""
    client = redis.Redis.from_url(proxy.url(redis_url), socket_timeout=0.5, socket_connect_timeout=0.5)
    server = Server(client)

    async def ask() -> tuple[int, float, object]:
        loops = AsyncServer(server, own_line=True)
        began = time.monotonic()
        proxy.blackhole = True
        said = await asyncio.gather(*(loops.call(ASK) for _ in range(300)), return_exceptions=True)
        took = time.monotonic() - began
        proxy.blackhole = False
        return sum(isinstance(each, NoServer) for each in said), took, await loops.call(ASK)

    failed, took, after = asyncio.run(ask())
    server.close()

    assert (300, None) == (failed, after)
    # redis-py may try a few times by itself; one after the other they would take minutes.
    assert took < 10


def test_a_long_answer_may_take_its_time(
    monkeypatch: pytest.MonkeyPatch, proxy: FaultProxy, client: redis.Redis, redis_url: str
) -> None:
    """A line is given up when it is silent, and not while a large value is on its way."""
    monkeypatch.setattr(line, "REPLY_TIMEOUT_S", 1.0)
    value = b"x" * 4_000_000
    client.set(b"key", value, px=60_000)
    server = Server(proxy.url(redis_url))

    async def ask() -> tuple[bytes, float]:
        loops = AsyncServer(server, own_line=True)
        await loops.call(Call("PING", ()))
        # Each piece of 64 KiB is held for a moment, sixty of them for three times a silence.
        proxy.delay = 0.05
        began = time.monotonic()
        found: bytes = await loops.call(ASK)
        return found, time.monotonic() - began

    found, took = asyncio.run(ask())
    proxy.delay = 0.0
    server.close()

    assert value == found
    assert took > 1.5


def test_a_silence_is_waited_out_once(
    monkeypatch: pytest.MonkeyPatch, proxy: FaultProxy, redis_url: str, cache_name: str
) -> None:
    """It is counted from the last word of the server, whenever its timer began, and not begun anew on another line."""
    monkeypatch.setattr(line, "REPLY_TIMEOUT_S", 2.0)
    cache = Cache(proxy.url(redis_url), name=cache_name, default_timeout=60)

    @cache.cached(name="price", version=1)
    async def price(number: int) -> int:
        return number

    async def ask() -> float:
        began = time.monotonic()
        while time.monotonic() - began < 1.0:
            await price(7)
        proxy.blackhole = True
        began = time.monotonic()
        assert 7 == await price(7)
        return time.monotonic() - began

    took = asyncio.run(ask())
    proxy.blackhole = False
    cache.close()

    assert 1.9 < took < 3.0


def test_a_twin_of_a_cluster_knows_every_node_of_it(cluster: ClusterNodes) -> None:
    """The one that was asked first may be away when a loop begins."""
    with cluster.client() as client:

        async def nodes() -> set[int]:
            return {int(node.port) for node in async_client(client).nodes_manager.startup_nodes.values()}

        assert {member.port for member in cluster.primaries} == asyncio.run(nodes())


def test_a_twin_of_a_cluster_speaks_tls(start_redis: Any) -> None:
    """Whether it was asked for by address or by argument."""
    node = start_redis(tls=True, config=["cluster-enabled yes", "tls-cluster yes"])
    with node.client() as one:
        one.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16_383)
        wait_until(lambda: b"cluster_state:ok" in one.execute_command("CLUSTER", "INFO"), "the cluster")
    certificate = str(node.certificate.path)
    clients = [
        redis.RedisCluster.from_url(node.url()),
        redis.RedisCluster(host="localhost", port=node.port, ssl=True, ssl_ca_certs=certificate),
    ]

    async def ask(client: Any) -> object:
        return await AsyncServer(Server(client), own_line=True).call(ASK)

    assert [None, None] == [asyncio.run(ask(client)) for client in clients]
    for client in clients:
        client.close()


async def test_a_call_that_fails_leaves_no_error_unseen(
    proxy: FaultProxy, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It asks for several things at once, and asyncio logs each error that nobody has looked at."""
    server = Server(proxy.url(redis_url))
    loops = AsyncServer(server, own_line=True)
    await loops.call(ASK)
    proxy.blackhole = True
    asked = asyncio.ensure_future(loops.calls([ASK, ASK, ASK]))
    await asyncio.sleep(0)
    proxy.refuse = True
    await asyncio.to_thread(proxy.drop_all)
    with pytest.raises(NoServer):
        await asked
    del asked
    gc.collect()
    proxy.blackhole = proxy.refuse = False
    await loops.close()
    server.close()

    assert "never retrieved" not in caplog.text


async def test_closing_beside_calls_leaves_no_connection(client: redis.Redis, redis_url: str, cache_name: str) -> None:
    """A call whose connection was closed under it has another one, which the next to close closes too."""
    server = Server(f"{redis_url}?client_name={cache_name}")
    loops = AsyncServer(server, own_line=True)
    await loops.call(ASK)
    for _ in range(5):
        asked = [asyncio.create_task(loops.call(ASK)) for _ in range(5)]
        await asyncio.sleep(0)
        await loops.close()
        assert [None] * 5 == await asyncio.gather(*asked)
        await loops.close()

    def is_gone() -> bool:
        return cache_name not in {each["name"] for each in client.client_list()}

    await asyncio.to_thread(wait_until, is_gone, "its connections to be closed")
    server.close()
