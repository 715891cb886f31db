"""
This is where one client of the soak calls, waits and invalidates, and judges every answer it gets.

    python -m tests.soak.client NUMBER KIND SEED REPORT STOP

It stops when the file STOP is there. Each line of the report is a fact: a violation at once, counts at the end.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from taskcache import NotReady, gather
from taskcache.errors import TaskCacheError
from taskcache.near.tracking import TRUST_S
from tests.soak.app import EVERY, HERE, IN_LOOP, NEAR, QUEUED, TAGGED, Failed, Value, cache, near, tag_of, truth
from tests.soak.words import BOUND_S, CLIENTS, LONG_S, SOURCES

CACHE_PORT, BROKER_PORT, TRUTH_PORT = (
    urlsplit(os.environ[name]).port or 0 for name in ("SOAK_CACHE", "SOAK_BROKER", "SOAK_TRUTH")
)
THREADS = 4
COROUTINES = 16
# After its last call: keeper and renewer end when they have been idle for 10 s, which a busy machine makes more.
IDLE_S = 20.0


class Client:
    """What this process has done and seen."""

    def __init__(self, number: int, seed: int, report: Path) -> None:
        self.number = number
        self.draw = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.under_way: dict[int, tuple[str, float, int]] = {}
        self.slowest = (0.0, "")
        self._report = report.open("a")
        self._lock = threading.Lock()
        # Of two that put a value, the later version has to be the one that stays.
        self._writes = threading.Lock()
        self._next = 0
        # One writer for each source, so that versions and floors never go back.
        self.own = [source for source in range(SOURCES) if source % CLIENTS == number]

    def say(self, **fact: Any) -> None:
        with self._lock:
            self._report.write(json.dumps({"client": self.number, "pid": os.getpid(), **fact}) + "\n")
            self._report.flush()

    # -- one call, judged

    def begin(self, what: str) -> int:
        with self._lock:
            self._next += 1
            self.under_way[self._next] = (what, time.monotonic(), threading.get_ident())
            return self._next

    def ended(self, number: int, error: BaseException | None) -> None:
        what, began, _ = self.under_way.pop(number)
        seconds = time.monotonic() - began
        self.slowest = max(self.slowest, (seconds, f"{what}, {error!r:.80}"))
        self.counts[what] += 1
        if seconds > LONG_S:
            self.counts[f"(of these more than {LONG_S:g} s)"] += 1
            self.say(long=[what, round(seconds, 1), str(error)[:80]])
        if isinstance(error, NotReady):
            self.say(violation=f"lost wait: {what} had not ended after {seconds:.1f} s: {error}")
        elif error is not None:
            self.counts[type(error).__name__] += 1
            if not isinstance(error, TaskCacheError | Failed):
                told = "".join(traceback.format_exception(error))[-3000:]
                self.say(violation=f"untyped error: {what} ended with {error!r}", trace=told)

    def floor(self, function: Any, source: int) -> int:
        """
        The version that every call of this function which begins now has to see.

        What is kept near may be as old as its connection is trusted, except after invalidations of this very process.
        """
        lag_s = TRUST_S if function in NEAR and source not in self.own else 0.0
        found: Any = truth.zrevrangebyscore(f"floors:{source}", time.monotonic() - lag_s, "-inf", start=0, num=1)
        return int(found[0]) if found else 0

    def check(self, what: str, source: int, floor: int, value: Value) -> None:
        if value[0] != source:
            self.say(violation=f"wrong value: {what} of {source} gave {value}")
        elif value[1] < floor:
            self.say(violation=f"stale read: {what} of {source} gave version {value[1]} after {floor} was invalidated")

    def check_error(self, what: str, source: int, floor: int, error: BaseException) -> None:
        if isinstance(error, Failed):
            self.check(f"{what} (error)", source, floor, [error.source, error.version])

    # -- what is done in threads

    def read(self) -> None:
        self.read_one(self.draw.choice((*QUEUED, *HERE)), self.draw.randrange(SOURCES))

    def read_near(self, stop: threading.Event) -> None:
        """Read a few so often that they are near, and would be seen to be stale."""
        while not stop.wait(0.01):
            self.read_one(near, self.draw.randrange(SOURCES // 4))

    def read_one(self, function: Any, source: int) -> None:
        floor = self.floor(function, source)
        number = self.begin(function.__name__)
        try:
            value = function(source)
            if function in QUEUED:
                value = value(timeout=BOUND_S)
            self.check(function.__name__, source, floor, value)
        except Exception as error:
            self.check_error(function.__name__, source, floor, error)
            self.ended(number, error)
        else:
            self.ended(number, None)

    def _judged(self, what: str, act: Callable[[], Any]) -> None:
        number = self.begin(what)
        try:
            act()
        except Exception as error:
            self.ended(number, error)
        else:
            self.ended(number, None)

    def many(self) -> None:
        function, sources = self.draw.choice((*QUEUED, *HERE)), self.draw.sample(range(SOURCES), 5)
        floors = [self.floor(function, source) for source in sources]
        how = self.draw.choice(("map", "chunk", "gather")) if function in QUEUED else "map"

        def act() -> None:
            if how == "gather":
                results = gather([function(each) for each in sources])
            else:
                results = function.map(sources, chunk=self.draw.randrange(2, 5) if how == "chunk" else None)
            for source, floor, value in zip(sources, floors, results(timeout=BOUND_S), strict=True):
                self.check(f"{how} of {function.__name__}", source, floor, value)

        self._judged(f"many, {how}", act)

    def by_id(self) -> None:
        function, source = self.draw.choice(QUEUED), self.draw.randrange(SOURCES)
        floor = self.floor(function, source)

        def act() -> None:
            result = function(source)
            self.check(f"{function.__name__} by id", source, floor, cache.result(result.id)(timeout=BOUND_S))

        self._judged("by id", act)

    def cancel(self) -> None:
        source = self.draw.randrange(SOURCES)

        def act() -> None:
            result = self.draw.choice(QUEUED)(source)
            result(block=False, default=None)
            result.cancel()

        self._judged("cancel", act)

    def write(self) -> None:
        """Change a source, invalidate what was made of it, and only then say how far that is done."""
        source = self.draw.choice(self.own)

        def act() -> None:
            with self._writes:
                change()

        def change() -> None:
            version = int(truth.incr(f"version:{source}"))
            how = self.draw.choice(("bust", "tag", "all", "put"))
            for function in EVERY:
                if how == "put":
                    function.put([source, version], source)
                elif how == "all":
                    function.bust_all()
                elif how == "bust" or function not in TAGGED:
                    function.bust(source)
            if how == "tag":
                cache.invalidate(tag_of(source))
            # One clock for all processes of this machine.
            truth.zadd(f"floors:{source}", {str(version): time.monotonic()})

        self._judged("write", act)

    def work(self, stop: threading.Event) -> None:
        acts = (*[self.read] * 12, *[self.write] * 2, self.many, self.by_id, self.cancel)
        while not stop.is_set():
            self.draw.choice(acts)()

    # -- what is done in coroutines

    async def await_one(self) -> None:
        function, source = self.draw.choice((*QUEUED, *IN_LOOP)), self.draw.randrange(SOURCES)
        floor = await asyncio.to_thread(self.floor, function, source)
        number = self.begin(f"await {function.__name__}")
        try:
            if function in QUEUED:
                result = await function.aio(source)
                value = await result.wait(timeout=BOUND_S)
            else:
                value = await asyncio.wait_for(function(source), BOUND_S)
            self.check(f"await {function.__name__}", source, floor, value)
        except asyncio.TimeoutError:
            self.ended(number, NotReady("await"))
        except Exception as error:
            self.check_error(f"await {function.__name__}", source, floor, error)
            self.ended(number, error)
        else:
            self.ended(number, None)

    async def await_and_leave(self) -> None:
        """A coroutine that is cancelled while it waits."""
        source = self.draw.randrange(SOURCES)
        task = asyncio.ensure_future(self.draw.choice(IN_LOOP)(source))
        await asyncio.wait([task], timeout=self.draw.random() / 20)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        self.counts["await and leave"] += 1

    async def work_in_loop(self, stop: threading.Event) -> None:
        async def one() -> None:
            while not stop.is_set():
                draw = self.draw.random()
                if draw < 0.8:
                    await self.await_one()
                elif draw < 0.9:
                    await self.await_and_leave()
                else:
                    await asyncio.to_thread(self.draw.choice((self.write, self.cancel)))

        await asyncio.gather(*(one() for _ in range(COROUTINES)))

    # -- its end

    def broke(self, args: threading.ExceptHookArgs) -> None:
        """Whatever thread it was: without it less is tested, or something of ours has died."""
        told = "".join(traceback.format_exception(args.exc_value))[-3000:] if args.exc_value else ""
        self.say(violation=f"a thread broke: {args.thread} ended with {args.exc_value!r}", trace=told)

    def stuck(self) -> list[str]:
        """Calls that have taken longer than any may, each told once."""
        over = time.monotonic() - (BOUND_S + 15)
        late = [(number, call) for number, call in list(self.under_way.items()) if call[1] < over]
        return [self._told(number, *call) for number, call in late]

    def _told(self, number: int, what: str, began: float, thread: int) -> str:
        self.under_way[number] = (what, float("inf"), thread)
        # Not at every look: before CPython 3.12 it may deadlock with a garbage collection (cpython issue 106883).
        frame = sys._current_frames().get(thread)
        stack = "".join(traceback.format_stack(frame)) if frame is not None else ""
        return f"lost wait: {what} has not ended in {BOUND_S + 15:g} s\n{stack[-2500:]}"

    def resources(self) -> dict[str, Any]:
        names = Counter(thread.name.rstrip("0123456789-_() ") for thread in threading.enumerate())
        process = psutil.Process()
        # Also what the other side has closed: a pool that never looks again would keep it.
        ports = [each.raddr[1] for each in process.net_connections("tcp") if each.status != psutil.CONN_LISTEN]
        known = {"cache": CACHE_PORT, "broker": BROKER_PORT, "truth": TRUTH_PORT}
        connections = {name: ports.count(port) for name, port in known.items()}
        return {"threads": dict(names), "connections": connections, "others": process.num_fds() - len(ports)}


def main() -> None:
    """Work until it is time to stop, then end every wait and tell what is left."""
    number, kind, seed, report = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])
    client, stop = Client(number, seed, report), threading.Event()
    threading.excepthook = client.broke
    before = client.resources()
    if kind == "asyncio":
        workers = [threading.Thread(target=lambda: asyncio.run(client.work_in_loop(stop)), name="load")]
    else:
        workers = [threading.Thread(target=client.work, args=(stop,), name="load") for _ in range(THREADS)]
    workers.append(threading.Thread(target=client.read_near, args=(stop,), name="load"))
    for worker in workers:
        worker.start()

    client.say(ready=True)
    while any(worker.is_alive() for worker in workers):
        workers[0].join(0.2)
        time.sleep(0.1)
        if Path(sys.argv[5]).exists():
            stop.set()
        for late in client.stuck():
            client.say(violation=late)
            stop.set()
    # What was left alone is forgotten within a watchdog period or two.
    ends = time.monotonic() + 10
    while (waits := cache.station.waiting()) and time.monotonic() < ends:
        time.sleep(0.1)
    during = client.resources()
    cache.close()
    ends = time.monotonic() + IDLE_S
    while holds_something(after := client.resources()) and time.monotonic() < ends:
        time.sleep(0.1)
    client.say(counts=dict(client.counts), slowest=client.slowest, before=before, during=during)
    client.say(after=after, waits=waits)


def holds_something(seen: dict[str, Any]) -> bool:
    """Whether a connection or a thread of the cache is left: each thread closes its own connection."""
    return bool(seen["connections"]["cache"]) or any(name.startswith("taskcache-") for name in seen["threads"])


if __name__ == "__main__":
    main()
