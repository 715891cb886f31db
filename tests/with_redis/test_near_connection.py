"""This is where the connection that keeps a process's near values true is cut, delayed, refused and inherited."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from taskcache import Cache
from taskcache.events import _said
from taskcache.near.tracking import TRUST_S
from tests.nodes.prompt import Prompt
from tests.nodes.proxy import FaultProxy
from tests.nodes.server import ValkeyNode, tracking_clients
from tests.nodes.topology import ClusterNodes
from tests.nodes.waiting import wait_until
from tests.with_redis.gate import threads
from tests.with_redis.near import bring_near, near_of

ROOT = Path(__file__).parents[2]


def price_of(cache: Cache) -> Any:
    """A near function that gives another number each time it runs."""
    runs = iter(range(1000))

    @cache.cached(near=True, name="price", version=1)
    def price(number: int) -> int:
        return next(runs)

    return price


@pytest.fixture
def said_nothing_yet() -> Iterator[None]:
    """Warnings that are said once are said again in this test."""
    before = set(_said)
    _said.clear()
    yield
    _said.update(before)


@pytest.mark.own_server
def test_one_connection_listens_for_a_process_and_ends_with_it(cache: Cache, client: redis.Redis) -> None:
    """However many functions are near; `close` ends it, and a later call begins anew."""
    bring_near(cache, price_of(cache), 7)
    bring_near(cache, price_of(cache), 8)
    assert 1 == len(tracking_clients(client))
    cache.close()
    wait_until(lambda: not tracking_clients(client), "the connection to be closed")

    assert 0 == len(cache.station._nears[cache.name].entries)
    bring_near(cache, price_of(cache), 7)
    assert 1 == len(tracking_clients(client))


@pytest.mark.own_server
def test_a_killed_connection_takes_all_values_with_it(cache: Cache, client: redis.Redis) -> None:
    """What changed while nobody told us is not returned: everything is dropped, and comes back with the connection."""
    price = price_of(cache)
    for _ in range(10):
        kill_once(cache, client, price)


def kill_once(cache: Cache, client: redis.Redis, price: Any) -> None:
    """Cut the connection and change a value before it is back."""
    old, near = bring_near(cache, price, 7), near_of(cache)
    (tracking,) = tracking_clients(client)
    client.client_kill_filter(_id=tracking["id"])
    client.delete(cache.make_key(price.key_for(7)))
    wait_until(lambda: tracking["id"] not in {each["id"] for each in tracking_clients(client)}, "the kill")

    wait_until(lambda: price(7) != old, "the lost connection to be noticed", timeout=5)
    wait_until(lambda: near.is_up, "a new connection")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_listener_that_is_ended_from_outside_begins_anew(cache: Cache, client: redis.Redis) -> None:
    """As gevent's `killall` ends it, or who raises something in all threads."""
    price = price_of(cache)
    old, near = bring_near(cache, price, 7), near_of(cache)
    tracking = near._tracking
    assert tracking is not None
    tracking._changed = lambda keys: sys.exit()
    client.delete(cache.make_key(price.key_for(7)))
    wait_until(lambda: near._closed is None, "the listener to end")

    assert not near.is_up
    assert old != bring_near(cache, price, 7)


def test_a_flushed_server_empties_what_is_near(cache: Cache, client: redis.Redis) -> None:
    """FLUSHDB is reported as a change of everything."""
    price = price_of(cache)
    old = bring_near(cache, price, 7)
    client.flushdb()

    wait_until(lambda: price(7) != old, "the flush to be seen")


def test_a_silent_connection_is_not_believed_for_long(proxy: FaultProxy, redis_url: str, cache_name: str) -> None:
    """A peer that is gone without a word: within the bound nothing is answered from here, and later it comes back."""
    with Cache(proxy.url(redis_url), cache_name, 60) as cache:
        price = price_of(cache)
        bring_near(cache, price, 7)
        near = near_of(cache)
        began = time.monotonic()
        proxy.blackhole = True
        wait_until(lambda: not near.turn(), "trust to end", timeout=10)
        took = time.monotonic() - began
        proxy.blackhole = False

        # What the loop of a loaded machine adds to it.
        assert took <= TRUST_S + 0.5
        bring_near(cache, price, 7)


def test_a_change_that_overtakes_a_read_is_not_lost(proxy: FaultProxy, redis_url: str, cache_name: str) -> None:
    """
    The reply with the old value is slow, the report of the change is fast.

    Whoever put a value into the near cache when its reply arrives would keep the old one until it expires.
    """
    with (
        Cache(redis_url, cache_name, 60) as direct,
        Cache(proxy.url(redis_url), cache_name, 60) as cache,
        redis.Redis.from_url(redis_url) as client,
        threads(1) as run,
    ):
        price = price_of(cache)
        old = bring_near(cache, price, 7)
        near = near_of(cache)
        key = cache.make_key(price.key_for(7)).encode()
        near.entries.clear()
        sealed = client.get(key)
        proxy.delay = 1.0
        reader = run(lambda: price(7))
        wait_until(lambda: proxy.holds(sealed), "the server to answer the read")
        assert key in near.entries._places
        proxy.delay = 0.0
        direct.delete(price.key_for(7))
        wait_until(lambda: key not in near.entries._places, "the change to overtake the reply", timeout=0.9)

        assert old == reader.result(30), "a call that began before the change may get what was there"
        assert (None, True) == (near.find(key), price(7) != old)


@pytest.mark.own_server
def test_a_forked_child_begins_empty_with_a_connection_of_its_own(redis_url: str, cache_name: str) -> None:
    """What the parent holds stays the parent's, and neither hears or loses what the other does."""
    program = "from tests.with_redis.near_program import beginning, in_child as report"
    with Prompt(program) as parent, redis.Redis.from_url(redis_url) as client:
        statement = f"begun = beginning({redis_url!r}, {cache_name!r})"
        parent.ask(f"run({statement!r})")
        before = [each["id"] for each in tracking_clients(client)]
        empty, is_up, number, saw_its_own = parent.ask("in_child('report(*begun)')")
        wait_until(lambda: before == [each["id"] for each in tracking_clients(client)], "the child to be gone")

        assert (0, False, 1, True) == (empty, is_up, number, saw_its_own)
        # The child's write reached the parent, whose connection the child did not close.
        assert 2 == parent.ask("begun[1](7)")


@pytest.mark.own_server
def test_greenlets_share_one_listener(redis_url: str, cache_name: str) -> None:
    """Under gevent hits see changes whether the listener's greenlet gets to run or not."""
    command = [sys.executable, "-m", "tests.with_redis.near_gevent_program", redis_url, cache_name]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert "" == ran.stderr.replace("\n", "")[:3000]
    told = json.loads(ran.stdout)

    assert 1 == told["tracked"]
    assert max(told["took"]) < TRUST_S


@pytest.mark.usefixtures("said_nothing_yet")
@pytest.mark.parametrize(
    "config",
    [
        'rename-command HELLO ""',
        "user default on nopass ~* &* +@all -client|tracking",
        "user default on nopass ~* &* +@all -time",
    ],
    ids=["a server without RESP3", "a user without the right to track", "a user who may not ask the time"],
)
def test_where_tracking_is_refused_hits_come_from_the_server(
    start_valkey: Callable[..., ValkeyNode], caplog: pytest.LogCaptureFixture, config: str
) -> None:
    """Everything works as without `near=`, and one warning says why and what helps."""
    node = start_valkey(config=[config])
    with Cache(node.url() + "?protocol=2", "cache", 60) as cache, caplog.at_level(logging.WARNING, "taskcache"):
        price = price_of(cache)
        if "-time" in config:
            # Not even a computation gets through without it; a stored value does.
            near = cache.station.near(cache.settings)
            assert near is not None
            near.turn()
        else:
            assert [0] * 50 == [price(7) for _ in range(50)]
            price.bust(7)
            assert 1 == price(7)
        wait_until(lambda: "near=" in caplog.text, "the warning")

        assert 1 == caplog.text.count("near=")
        assert "users.acl" in caplog.text


@pytest.mark.usefixtures("said_nothing_yet")
def test_on_a_cluster_hits_come_from_the_server(cluster: ClusterNodes, caplog: pytest.LogCaptureFixture) -> None:
    """Near is off there, and one warning says so."""
    with cluster.client() as client, Cache(client, default_timeout=60) as cache:
        price = price_of(cache)

        assert [0] * 10 == [price(7) for _ in range(10)]
        price.bust(7)
        assert (1, 1) == (price(7), caplog.text.count("near="))


@pytest.mark.usefixtures("said_nothing_yet")
def test_redis_pys_own_transport_has_nothing_near(
    redis_url: str, cache_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """`transport="redis-py"` speaks to the server through redis-py alone."""
    with Cache(redis_url, cache_name, 60, transport="redis-py") as cache:
        price = price_of(cache)

        assert [0] * 10 == [price(7) for _ in range(10)]
        assert 1 == caplog.text.count("near=")


def test_a_server_that_is_away_is_found_again(start_valkey: Callable[..., ValkeyNode]) -> None:
    """While it restarts calls are computed; afterwards values are near again."""
    node = start_valkey()
    with Cache(node.url(), "cache", 60) as cache:
        price = price_of(cache)
        old = bring_near(cache, price, 7)
        node.restart(keep_data=False)

        wait_until(lambda: price(7) != old, "the restart to be seen", timeout=20)
        bring_near(cache, price, 7)
