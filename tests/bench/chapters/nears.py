"""This is where the near cache is measured: a hit that asks nobody, and how old it may be."""

from __future__ import annotations

import functools
import gc
import sys
import time
import tracemalloc
import uuid
from collections.abc import Iterator
from typing import Any

from tests.bench.functions import has_option, named, ours
from tests.bench.goals import Outcome, beside, budget, not_built
from tests.bench.ground import HOUR_S, SECRET, SMALL, Ground
from tests.bench.measure import Spread, code, percentile, rotate
from tests.bench.processes import PATIENCE_S, Program

# What nobody can change, so that all callers may have the same.
FROZEN = (42, "hello", 9.95, ("a", "b"))
# Between two writes: long beside the staleness that is expected, so that each new value is seen before the next.
PAUSE_S = 0.05


def nears(ground: Ground) -> Iterator[Outcome]:
    """Both rows, as soon as the decorators have the option."""
    if not has_option("near"):
        yield from not_built("near.hit", "near.staleness")
        return
    yield from _hits(ground)
    yield _staleness(ground)
    yield _size(ground)


def _hits(ground: Ground) -> Iterator[Outcome]:
    with ours(ground) as cache:
        options: dict[str, Any] = {"near": True}
        call = cache.cached(name="near", version=1, **options)(named("near", FROZEN))
        # Every caller gets a dict of its own; lru_cache gives all of them the same one.
        copied = cache.cached(name="copied", version=1, **options)(named("copied", SMALL))
        remembered = functools.lru_cache(maxsize=1024)(named("near", FROZEN))
        for _ in range(3):
            assert (FROZEN, SMALL) == (call(42, "hello"), copied(42, "hello"))
        assert remembered(42, "hello") == FROZEN
        variants = {
            "taskcache": code("call(42, 'hello')", call=call),
            "a dict": code("call(42, 'hello')", call=copied),
            "lru_cache": code("call(42, 'hello')", call=remembered),
            "floor": code("call(42, 'hello')", call=_floor()),
            # It tells 1 from True, as ours has to.
            "lru_cache(typed=True)": code(
                "call(42, 'hello')", call=functools.lru_cache(maxsize=1024, typed=True)(named("near", FROZEN))
            ),
        }
        times = rotate(variants, ground.scale.rounds, ground.scale.batch_s)
    floor = times.ratio("floor", "lru_cache")
    yield budget("near.hit", times.ratio("taskcache", "lru_cache"), seconds=times.medians(), floor=floor)
    yield beside("near hit / `lru_cache(typed=True)`", times.ratio("taskcache", "lru_cache(typed=True)"))
    yield beside("near hit of a dict, a copy for each caller / `lru_cache`", times.ratio("a dict", "lru_cache"))


def _floor() -> Any:
    """
    The least that a near hit has to do, in a language that is not C: `lru_cache` asks neither types nor clock.

    No counters, no lock, no bound, no invalidation.
    """
    held = {(42, "hello"): FROZEN}
    until, now = time.monotonic() + HOUR_S, time.monotonic

    def call(number: int, name: str) -> Any:
        if type(number) is int and type(name) is str and now() < until:
            return held[number, name]
        return None

    return call


def _staleness(ground: Ground) -> Outcome:
    """From before a value is written by this process until one that spins in Python sees it."""
    name = f"near-{uuid.uuid4().hex[:8]}"
    options: dict[str, Any] = {"near": True}
    with ours(ground, secret=SECRET) as cache:
        written: Any = cache.cached(name="bench.near", version=1, timeout=HOUR_S, **options)(lambda name: 0.0)
        written(name)
        program = Program(ground.environment("near"), "near", name, ground.scale.writes)
        try:
            program.wait_ready()
            end = time.monotonic() + PATIENCE_S
            # A few more than are counted: what was overwritten before it was seen is not missed.
            while program.is_running and time.monotonic() < end:
                written.put(time.monotonic(), name)
                time.sleep(PAUSE_S)
            ages = [age * 1000 for age in program.result()["ages"]]
        finally:
            program.close()
    # The spread of this row is from the median to the oldest value seen.
    spread = Spread(percentile(ages, 95), percentile(ages, 50), max(ages))
    return budget("near.staleness", spread, f"p50 {spread.low:.1f} ms, oldest {spread.high:.1f} ms")


def _size(ground: Ground) -> Outcome:
    """What each value takes in the process that keeps it near: key, value, stamps and indexes."""
    count = ground.scale.many
    with ours(ground) as cache:
        call: Any = cache.cached(name="sized", version=1, near=True)(named("sized", FROZEN))
        numbers = [10_000_000 + number for number in range(count + 2)]
        for number in numbers:
            call.put(FROZEN, number, "hello")
        # The first calls make what there is once; the values of the others are all that is added.
        for number in numbers[:2]:
            call(number, "hello")
        gc.collect()
        tracemalloc.start()
        for number in numbers[2:]:
            assert call(number, "hello") == FROZEN
        gc.collect()
        size = tracemalloc.get_traced_memory()[0] / count
        tracemalloc.stop()
    note = f"the value alone takes {_deep_size(FROZEN)}"
    return beside("bytes of a near entry, small value", Spread(size, size, size), note)


def _deep_size(value: Any) -> int:
    parts = sum(map(_deep_size, value)) if isinstance(value, tuple) else 0
    return sys.getsizeof(value) + parts
