"""
This is where variants are timed in turn, and compared round by round.

On a shared machine the microseconds of a minute ago say nothing about those of now. So all variants run one after the
other in short batches, again and again, in an order that changes; what counts is the ratio within a round, its median,
and how far the rounds spread (Akinshin, «Pro .NET Benchmarking»; pyperf does the same with processes).
"""

from __future__ import annotations

import asyncio
import gc
import random
import statistics
import time
import timeit
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")

# How often each variant has its turn within one round.
SLICES = 5

# Runs so many times and gives the seconds it took for all of them.
Variant = Callable[[int], float]


@dataclass(frozen=True, slots=True)
class Spread:
    """What a row is judged by, with the tenth and the ninetieth percentile of the rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of one value for each round."""
        return cls(percentile(values, 50), percentile(values, 10), percentile(values, 90))


def percentile(values: Sequence[float], percent: float) -> float:
    """The value below which so many percent of the values lie, interpolated."""
    if not values:
        raise ValueError("nothing was measured")
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of one operation of each variant, one value for each round."""

    of: Mapping[str, Sequence[float]]

    def ratio(self, variant: str, base: str) -> Spread:
        """How long `variant` takes, in units of `base`: the ratio of each round, then their median."""
        return Spread.of([one / other for one, other in zip(self.of[variant], self.of[base], strict=True)])

    def speedup(self, variant: str, base: str) -> Spread:
        """How many operations `variant` does in the time of one of `base`."""
        return self.ratio(base, variant)

    def medians(self) -> dict[str, float]:
        """Seconds of one operation, for those who want to see them."""
        return {name: statistics.median(seconds) for name, seconds in self.of.items()}


def code(statement: str, **names: Any) -> Variant:
    """A statement timed by timeit: its loop costs 10 ns, and the garbage collector is off, for every variant alike."""
    return timeit.Timer(statement, globals=names).timeit


def work_of(statement: str, **names: Any) -> Variant:
    """The same in processor time of this process, in which waiting for a server, and for being woken, is nothing."""
    return timeit.Timer(statement, timer=time.process_time, globals=names).timeit


def coroutine(loop: asyncio.AbstractEventLoop, operation: Callable[[], Awaitable[object]]) -> Variant:
    """An awaitable operation, awaited again and again on `loop`."""

    async def repeat(times: int) -> float:
        began = time.perf_counter()
        for _ in range(times):
            await operation()
        return time.perf_counter() - began

    def run(times: int) -> float:
        # As timeit does for the others.
        was_enabled = gc.isenabled()
        gc.disable()
        try:
            return loop.run_until_complete(repeat(times))
        finally:
            if was_enabled:
                gc.enable()

    return run


def calibrated(variant: Variant, batch_s: float) -> int:
    """How many operations take about `batch_s`; also warms the variant up."""
    times = 1
    while True:
        seconds = variant(times)
        if seconds >= batch_s / 4 or times >= 10_000_000:
            return max(1, round(times * batch_s / max(seconds, 1e-9)))
        times *= 4


def rotate(variants: Mapping[str, Variant], rounds: int, batch_s: float) -> Times:
    """
    Time all variants in each round, in another order each time; of its slices of a round, a variant's best one counts.

    In a fixed order everybody has the same neighbour before him, who leaves him caches, a sleeping server or dirty pages.
    The best of a few slices, because whatever interrupts a slice (another process, most of all) only ever adds.
    """
    names = list(variants)
    shuffle = random.Random(0).shuffle
    times = {name: calibrated(variant, batch_s / SLICES) for name, variant in variants.items()}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        gc.collect()
        slices: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(SLICES):
            shuffle(names)
            for name in names:
                slices[name].append(variants[name](times[name]) / times[name])
        for name in names:
            seconds[name].append(min(slices[name]))
    return Times(seconds)


def throughput(work: Callable[[int], object], threads: int) -> Variant:
    """So many calls of `work(number)`, shared among threads that are started before the clock is."""
    from concurrent.futures import ThreadPoolExecutor
    from threading import Barrier

    def run(times: int) -> float:
        each = max(1, times // threads)
        # The last thread to come starts the clock, so that nobody's work is outside of it.
        began: list[float] = []
        barrier = Barrier(threads, action=lambda: began.append(time.perf_counter()))

        def one(number: int) -> None:
            barrier.wait()
            for _ in range(each):
                work(number)

        with ThreadPoolExecutor(threads) as pool:
            for future in [pool.submit(one, number) for number in range(threads)]:
                future.result()
            ended = time.perf_counter()
        return (ended - began[0]) * times / (each * threads)

    return run
