"""This is where threads share a cache: hits a second of all of them together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

from tests.bench.floor import RawSocket, pack
from tests.bench.functions import named, ours
from tests.bench.goals import Curve, Outcome, beside, budget
from tests.bench.ground import CACHE_DB, SMALL, Ground, pickled
from tests.bench.measure import Times, rotate, throughput

KEY = b"raw:threads"
BUDGETED = 8
# A slice begins with threads that start and ends with one that waits for them, and between lie switches of the
# interpreter, one every 5 ms: it has to be long beside all of these.
LONGER = 30


def threads(ground: Ground) -> Iterator[Outcome | Curve]:
    """Eight threads and the curve in one rotation; redis-py's client is made for threads."""
    with ExitStack() as stack:
        works = _works(ground, stack)
        counts = sorted({BUDGETED, *ground.scale.curve_threads})
        times = _measured(ground, works, counts)
    floor = times.speedup("floor 8", "redis-py 8")
    yield budget("threads", times.speedup("taskcache 8", "redis-py 8"), seconds=times.medians(), floor=floor)
    if "walrus" in works:
        yield beside("8 threads, hits/s of walrus / redis-py", times.speedup("walrus 8", "redis-py 8"))
    medians = times.medians()
    series = {
        name: [(float(count), 1 / medians[f"{name} {count}"]) for count in counts] for name in ("taskcache", "redis-py")
    }
    yield Curve("Hits a second against threads of one process", "threads", "hits/s", series)


def _works(ground: Ground, stack: ExitStack) -> dict[str, Callable[[int], Any]]:
    client = stack.enter_context(ground.client())
    client.set(KEY, pickled(SMALL))
    call = stack.enter_context(ours(ground)).cached(name="threads", version=1)(named("threads", SMALL))
    assert SMALL == call(0, "hello") == call(0, "hello")
    works: dict[str, Callable[[int], Any]] = {
        "taskcache": lambda number: call(0, "hello"),
        "redis-py": lambda number: client.get(KEY),
        "floor": _floor(ground, stack, (call.stamp, call.cache.make_key(call.key_for(0, "hello")).encode())),
    }
    try:
        from tests.bench.peers import PEERS

        peer = next(peer for peer in PEERS if peer.key == "walrus")
        decorated = peer.decorate(ground, stack, named("threads", SMALL))
    except ImportError:
        return works
    decorated(0, "hello")
    return {**works, "walrus": lambda number: decorated(0, "hello")}


def _floor(ground: Ground, stack: ExitStack, keys: tuple[bytes, bytes]) -> Callable[[int], Any]:
    """A bare socket for each thread: no pool, no key, no decoding."""
    sockets = [RawSocket(ground.server.port, CACHE_DB) for _ in range(BUDGETED)]
    for each in sockets:
        stack.callback(each.close)
    packed = pack(b"MGET", keys)
    return lambda number: sockets[number].get_two(packed)


def _measured(ground: Ground, works: dict[str, Callable[[int], Any]], counts: list[int]) -> Times:
    variants = {
        f"{name} {count}": throughput(work, count)
        for name, work in works.items()
        for count in counts
        # One point of the others is enough to compare with.
        if name in ("taskcache", "redis-py") or count == BUDGETED
    }
    return rotate(variants, max(5, ground.scale.rounds // 6), ground.scale.batch_s * LONGER)
