"""This is where a thousand callers in eight processes run a function once."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis

from taskcache import Cache
from tests.nodes import guard
from tests.nodes.waiting import wait_until
from tests.with_redis.gate import Gate, Renewals, threads, wait_for_followers

ROOT = Path(__file__).parents[2]
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start_process() -> Iterator[Start]:
    """Start a program of this folder with arguments; killed after the test."""

    def end(process: subprocess.Popen[str]) -> None:
        process.kill()
        process.communicate()
        guard.unwatch(process.pid)

    with ExitStack() as stack:

        def start(program: str, *args: object) -> subprocess.Popen[str]:
            command = [sys.executable, "-m", f"tests.with_redis.{program}", *map(str, args)]
            process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True)
            guard.watch(process.pid)
            stack.callback(end, process)
            return process

        yield start


def test_one_thousand_callers_in_eight_processes_compute_once(
    redis_url: str, client: redis.Redis, cache_name: str, start_process: Start
) -> None:
    """8 processes × 125 threads call one cold key while it is being computed: one execution, a thousand equal values."""
    herd = [start_process("herd_program", redis_url, cache_name, 1000, 125) for _ in range(8)]
    wait_until(lambda: int(client.get("herd:ready") or 0) == 8, "eight processes to be ready", timeout=90)
    client.set("herd:go", 1, ex=600)
    values = [value for process in herd for value in json.loads(process.communicate(timeout=60)[0])]

    assert (1, 1000) == (int(client.get("herd:executions") or 0), len(values))
    assert 1 == len({(value["number"], value["pid"]) for value in values})


def test_hundred_threads_compute_once(cache: Cache, gate: Gate) -> None:
    """All threads of a process that miss together share one computation, whoever of them leads it."""

    @cache.cached()
    def slow(number: int) -> int:
        return gate.pass_first() + number

    with threads(100) as run:
        callers = [run(lambda: slow(6)) for _ in range(100)]
        gate.wait_reached()
        wait_for_followers(cache, 99)
        gate.open()
        values = {caller.result(30) for caller in callers}

    assert (1, {7}) == (gate.visits, values)


async def test_a_thousand_coroutines_compute_once(cache: Cache) -> None:
    """A thousand coroutines of one loop share one computation, and none of them takes a thread."""
    runs = 0

    @cache.cached()
    async def slow(number: int) -> int:
        nonlocal runs
        runs += 1
        await asyncio.to_thread(wait_for_followers, cache, 999)
        return number

    values = await asyncio.gather(*(slow(7) for _ in range(1000)))

    assert (1, [7] * 1000) == (runs, values)


async def test_threads_and_coroutines_share_one_computation(cache: Cache, gate: Gate) -> None:
    """A call made through `aio` joins what a thread computes."""

    @cache.cached()
    def slow(number: int) -> int:
        return gate.pass_first() + number

    with threads(1) as run:
        leader = run(lambda: slow(6))
        await asyncio.to_thread(gate.wait_reached)
        follower = asyncio.create_task(slow.aio(6))
        await asyncio.to_thread(wait_for_followers, cache, 1)
        gate.open()

        assert (7, 7, 1) == (leader.result(30), await follower, gate.visits)


def test_a_follower_takes_over_when_the_leader_is_killed(
    redis_url: str, client: redis.Redis, cache_name: str, start_process: Start
) -> None:
    """SIGKILL of the leader: its lease lapses, and one of those who waited computes, within lease + 5 seconds."""
    import time

    from tests.with_redis.stuck_program import stuck_in

    leader = start_process("stuck_program", redis_url, cache_name)
    wait_until(lambda: client.exists("stuck:began"), "the leader to compute", timeout=60)
    with Cache(redis_url, name=cache_name, default_timeout=60) as cache, threads(3) as run:
        stuck = stuck_in(cache, client, forever=False)
        followers = [run(lambda: stuck(7)) for _ in range(3)]
        # Three callers in one process wait for one flight of another.
        wait_for_followers(cache, 3)
        leader.kill()
        killed_at = time.monotonic()
        values = {follower.result(60) for follower in followers}
        took = time.monotonic() - killed_at

    assert {os.getpid()} == values
    assert (b"2", True) == (client.get("stuck:began"), took < cache.settings.lease_ms / 1000 + 5)


def test_a_leader_that_takes_longer_than_its_lease_keeps_it(redis_url: str, cache_name: str, gate: Gate) -> None:
    """A living leader renews its lease: nobody else begins, however long it takes."""
    with Cache(redis_url, name=cache_name, default_timeout=60, lease=0.5) as cache, threads(2) as run:

        @cache.cached()
        def slow(number: int) -> int:
            return gate.pass_first()

        leader = run(lambda: slow(7))
        gate.wait_reached()
        follower = run(lambda: slow(7))
        wait_for_followers(cache, 1)
        with redis.Redis.from_url(redis_url) as client:
            (flight,) = client.keys("*:flight")
            # Three leases' worth of beats: the remaining time goes down and up again.
            renewals = Renewals(lambda: client.pttl(flight))
            wait_until(lambda: renewals.look() >= 15, "15 renewals", timeout=30)
        gate.open()

        assert (1, 1, 1) == (leader.result(30), follower.result(30), gate.visits)
        assert renewals.least > 0
