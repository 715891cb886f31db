"""This is where threads share a cache: hits a second of all of them together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

from tests.bench.functions import named, ours
from tests.bench.goals import Curve, Outcome, beside, budget
from tests.bench.ground import SMALL, Ground, pickled
from tests.bench.measure import Times, rotate, throughput

KEY = b"raw:threads"
# A batch starts threads, which takes a while: it must be long beside that.
LONGER = 5


def threads(ground: Ground) -> Iterator[Outcome | Curve]:
    """Eight threads, then the curve; redis-py's client is made for threads and has a pool without a practical limit."""
    with ExitStack() as stack:
        works = _works(ground, stack)
        times = _measured(ground, works, 8)
        yield budget("threads", times.speedup("taskcache", "redis-py"), seconds=times.medians())
        if "walrus" in works:
            yield beside("8 threads, hits/s of walrus / redis-py", times.speedup("walrus", "redis-py"))
        series: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
        for count in ground.scale.curve_threads:
            for name, seconds in _measured(ground, works, count).medians().items():
                series[name].append((count, 1 / seconds))
    yield Curve("Hits a second against threads of one process", "threads", "hits/s", series)


def _works(ground: Ground, stack: ExitStack) -> dict[str, Callable[[int], Any]]:
    client = stack.enter_context(ground.client())
    client.set(KEY, pickled(SMALL))
    call = stack.enter_context(ours(ground)).cached(name="threads", version=1)(named("threads", SMALL))
    assert SMALL == call(0, "hello") == call(0, "hello")
    works: dict[str, Callable[[int], Any]] = {
        "taskcache": lambda number: call(0, "hello"),
        "redis-py": lambda number: client.get(KEY),
    }
    try:
        from tests.bench.peers import PEERS

        peer = next(peer for peer in PEERS if peer.key == "walrus")
        decorated = peer.decorate(ground, stack, named("threads", SMALL))
    except ImportError:
        return works
    decorated(0, "hello")
    return {**works, "walrus": lambda number: decorated(0, "hello")}


def _measured(ground: Ground, works: dict[str, Callable[[int], Any]], count: int) -> Times:
    variants = {name: throughput(work, count) for name, work in works.items()}
    scale = ground.scale
    # Rounds are long here, and each has many switches of threads in it: a third of them tells as much.
    return rotate(variants, max(2, scale.rounds // 3), scale.batch_s * LONGER)
