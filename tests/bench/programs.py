"""
This is where the callers are that need a process of their own: `python -m tests.bench.programs VERB ARGUMENTS`.

Each prints one JSON document. They share nothing with the process that judges them but the clock: time.monotonic() is the
machine's, so a time that a worker took can be compared with one that a caller took.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import psutil

from tests.nodes.waiting import wait_until

Told = dict[str, Any]
PATIENCE_S = 120


def misses(count: int) -> Told:
    """Call the tasks in turn, each time with an argument that nobody has asked for, and say how long what took."""
    from tests.bench import bare
    from tests.bench.app import floor as task
    from tests.bench.app import led, plain, raw

    base = random.getrandbits(40) << 20
    floor = bare.Caller(raw(), task)
    calls: dict[str, Callable[[int], tuple[float, float]]] = {
        "taskcache": lambda number: _timed(led, lambda result: result(timeout=60), number),
        "celery": lambda number: _timed(plain.delay, lambda result: result.get(timeout=60), number),
        "floor": lambda number: _timed(floor.send, floor.get, number),
    }
    names = list(calls)
    told: Told = {name: {"sent": [], "ended": [], "had": []} for name in names}
    for number in range(count + 5):
        random.shuffle(names)
        for name in names:
            began = time.monotonic()
            sent, ended = calls[name](base + number)
            had = time.monotonic()
            # The first ones connect and start threads.
            if number >= 5:
                for what, seconds in {"sent": sent - began, "ended": ended - began, "had": had - began}.items():
                    told[name][what].append(seconds)
    return told


def _timed(send: Callable[[int], Any], get: Callable[[Any], float], number: int) -> tuple[float, float]:
    result = send(number)
    sent = time.monotonic()
    return sent, get(result)


def herd(name: str, thread_count: int) -> Told:
    """Many threads that ask for one key at one moment; when each had the value, and where from."""
    from tests.bench.app import gated, tell, told

    started = threading.Barrier(thread_count, action=lambda: _ready(name, tell, told))
    had: list[tuple[float, float, str]] = []

    def call() -> None:
        started.wait()
        try:
            result = gated(name)
        finally:
            # Also when it failed: the others must not be kept waiting, and the judge counts who came back.
            tell(f"{name}:called")
        ended = result(timeout=PATIENCE_S)
        had.append((ended, time.monotonic(), result.source))

    threads = [threading.Thread(target=call) for _ in range(thread_count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"had": had}


def bare_herd(name: str, thread_count: int) -> Told:
    """The floor of a herd: as many threads wait for an event each, and one hears a message and sets them."""
    from tests.bench.app import store, tell

    inbox: Any = store.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]  # redis-py
    inbox.subscribe(name)
    events = [threading.Event() for _ in range(thread_count)]
    ended: list[float] = []
    had: list[tuple[float, float, str]] = []

    def call(event: threading.Event) -> None:
        tell(f"{name}:called")
        event.wait(PATIENCE_S)
        had.append((ended[0], time.monotonic(), "heard"))

    threads = [threading.Thread(target=call, args=(event,)) for event in events]
    for thread in threads:
        thread.start()
    tell(f"{name}:ready")
    while (message := inbox.get_message(timeout=PATIENCE_S)) is None:
        pass
    ended.append(float(message["data"]))
    for event in events:
        event.set()
    for thread in threads:
        thread.join()
    return {"had": had}


def _ready(name: str, tell: Callable[[str], int], told: Callable[[str], int]) -> None:
    tell(f"{name}:ready")
    wait_until(lambda: told(f"{name}:go"), "the signal to run", timeout=PATIENCE_S)


def death(name: str) -> Told:
    """Ask for what a worker will die of; when there was a value or a reason."""
    from tests.bench.app import mortal

    try:
        outcome = f"value of run {mortal(name)(timeout=PATIENCE_S)}"
    except Exception as error:
        outcome = f"{type(error).__name__}: {error}"
    return {"had": time.monotonic(), "outcome": outcome}


def upkeep(count: int, seconds: float) -> Told:
    """What so many waits, then so many leases, cost while nothing happens: shares of a processor, ours and the server's."""
    from redis import Redis

    from taskcache.drivers.renewer import Lease
    from taskcache.protocol.entry import EntryKey, new_token
    from tests.bench.app import cache, led

    def shares() -> tuple[float, float]:
        with Redis.from_url(os.environ["BENCH_CACHE"]) as client:
            before = _server_cpu_s(client), time.process_time(), time.monotonic()
            time.sleep(seconds)
            served, used, passed = _server_cpu_s(client) - before[0], time.process_time() - before[1], before[2]
            return used / (time.monotonic() - passed), served / (time.monotonic() - passed)

    results = [led(number) for number in range(count)]  # nobody serves them
    waits = shares()
    for result in results:
        result.cancel()
    renewer = cache.station.renewer
    for number in range(count):
        renewer.hold(Lease(EntryKey.of(b"upkeep:%d" % number), new_token(), "bench", held=True))
    return {"waits": waits, "leases": shares()}


def _server_cpu_s(client: Any) -> float:
    found = client.info("cpu")
    return float(found["used_cpu_user"] + found["used_cpu_sys"])


def waiting_threads(name: str, count: int) -> Told:
    """Memory of a process in which so many threads wait for one value; and with bare threads for an event."""
    from tests.bench.app import gated, tell

    gated(f"{name}:first")  # everything is loaded and connected
    bare = threading.Event()
    without = _grown_by_threads(count, bare.wait, bare.set)
    values: list[float] = []
    result = gated(name)
    grown = _grown_by_threads(
        count, lambda: values.append(gated(name)(timeout=PATIENCE_S)), lambda: tell(f"{name}:open")
    )
    assert [result(timeout=PATIENCE_S)] * count == values
    tell(f"{name}:first:open")
    return {"bytes": grown / count, "bare_bytes": without / count}


def _grown_by_threads(count: int, wait: Callable[[], object], wake: Callable[[], object]) -> int:
    threads = [threading.Thread(target=wait) for _ in range(count)]
    before = _rss()
    for thread in threads:
        thread.start()
    # Nobody says when a thread waits: the growth has to come to its end.
    grown = _settled() - before
    wake()
    for thread in threads:
        thread.join()
    return grown


def waiting_coroutines(name: str, count: int) -> Told:
    """Memory of a process in which so many coroutines await one value, and with bare ones on an event."""
    return asyncio.run(_waiting_coroutines(name, count))


async def _waiting_coroutines(name: str, count: int) -> Told:
    from tests.bench.app import gated, tell

    first = await gated.aio(f"{name}:first")
    tell(f"{name}:first:open")
    await first
    bare = asyncio.Event()
    without, _, _ = await _grown_by_coroutines(count, bare.wait, bare.set)

    async def ask() -> object:
        return await (await gated.aio(name))

    leader = await gated.aio(name)
    grown, began_s, longest_s = await _grown_by_coroutines(count, ask, lambda: tell(f"{name}:open"))
    ended = await leader
    return {
        "bytes": grown / count,
        "bare_bytes": without / count,
        "begun_s": began_s,
        "longest_block_s": longest_s,
        "woken_s": time.monotonic() - ended,
    }


async def _grown_by_coroutines(
    count: int, wait: Callable[[], Any], wake: Callable[[], object]
) -> tuple[int, float, float]:
    """Growth, seconds until all wait, and the longest time for which the loop could do nothing else."""
    before = _rss()
    longest = 0.0
    began = time.monotonic()
    tasks = [asyncio.ensure_future(wait()) for _ in range(count)]
    size, since = _rss(), time.monotonic()
    while time.monotonic() - since < 0.5:
        last = time.monotonic()
        await asyncio.sleep(0.001)
        longest = max(longest, time.monotonic() - last)
        if abs(_rss() - size) > 65_536:
            size, since = _rss(), time.monotonic()
    wake()
    await asyncio.gather(*tasks)
    return size - before, since - began, longest


def _rss() -> int:
    return int(psutil.Process().memory_info().rss)


def _settled() -> int:
    """The memory of this process once it has not grown for half a second."""
    size, since = _rss(), time.monotonic()
    while time.monotonic() - since < 0.5:
        time.sleep(0.02)
        if abs(_rss() - size) > 65_536:
            size, since = _rss(), time.monotonic()
    return size


def hits(url: str, kind: str, seconds: float) -> Told:
    """Hits a second of one process, beside others that run at the same time."""
    import redis

    from taskcache import Cache

    client = redis.Redis.from_url(url)
    call = Cache(url, name="bench", default_timeout=PATIENCE_S).cached(name="processes", version=1)(_small)
    call(42)
    work: Callable[[], object] = (lambda: call(42)) if kind == "taskcache" else (lambda: client.get("raw:small"))
    for _ in range(100):
        work()
    print("ready", flush=True)
    began = float(sys.stdin.readline())
    # All begin when the clock says so.
    while time.monotonic() < began:
        pass
    count = 0
    while time.monotonic() < began + seconds:
        for _ in range(20):
            work()
        count += 20
    return {"rate": count / (time.monotonic() - began)}


def _small(number: int) -> Any:
    from tests.bench.ground import SMALL

    return SMALL


def near(name: str, count: int) -> Told:
    """Read a near entry and spin, until so many new values were seen; how old each was."""
    from tests.bench.app import cache

    options: dict[str, Any] = {"near": True}
    written: Any = cache.cached(name="bench.near", version=1, timeout=PATIENCE_S, **options)(lambda name: 0.0)
    last = written(name)
    print("ready", flush=True)
    ages: list[float] = []
    end = time.monotonic() + PATIENCE_S
    while len(ages) < count and time.monotonic() < end:
        value = written(name)
        if value != last:
            ages.append(time.monotonic() - value)
            last = value
        # The program's own work between two reads, which never gives the interpreter away.
        sum(range(500))
    return {"ages": ages}


VERBS: dict[str, Callable[..., Told]] = {
    verb.__name__: verb
    for verb in (misses, herd, bare_herd, death, upkeep, waiting_threads, waiting_coroutines, hits, near)
}


def main(verb: str, arguments: str) -> None:
    """Run one verb with the arguments of a JSON list."""
    print(json.dumps(VERBS[verb](*json.loads(arguments))), flush=True)
    # What was sent and never waited for must not keep the process.
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
