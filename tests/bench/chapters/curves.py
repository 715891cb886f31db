"""This is where a hit is followed as the world around it grows: processes, bytes, keys, tags, functions."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from tests.bench.functions import named, ours
from tests.bench.goals import Curve
from tests.bench.ground import HOUR_S, SMALL, Ground, pickled
from tests.bench.measure import Variant, code, rotate
from tests.bench.processes import Program

Points = dict[str, list[tuple[float, float]]]
Variants = dict[str, dict[float, Variant]]
MICROSECONDS = 1e6


def curves(ground: Ground) -> Iterator[Curve]:
    """One curve after the other; that of threads and that of herds belong to the rows they go with."""
    yield Curve("Hits a second against processes", "processes", "hits/s", _processes(ground))
    yield Curve("A hit against the size of its value", "bytes", "µs", _sizes(ground))
    yield Curve("A hit against the number of keys", "keys", "µs", _keys(ground))
    yield Curve("A hit against the number of its tags", "tags", "µs", _tags(ground))
    yield Curve("A hit against the number of functions", "functions", "µs", _functions(ground))


def _processes(ground: Ground) -> Points:
    with ground.client() as client:
        client.set("raw:small", pickled(SMALL), ex=HOUR_S)
    points: Points = {"taskcache": [], "redis-py": []}
    for count in ground.scale.curve_processes:
        # By turns and the best of three, for the reasons rotate() gives.
        rates = [(kind, _rate(ground, kind, count)) for _ in range(3) for kind in points]
        for kind in points:
            points[kind].append((count, max(rate for of, rate in rates if of == kind)))
    return points


def _rate(ground: Ground, kind: str, count: int) -> float:
    """Hits a second of so many processes together."""
    seconds = max(0.2, ground.scale.batch_s * 100)
    programs = [Program(ground.environment("hits"), "hits", ground.url(), kind, seconds) for _ in range(count)]
    try:
        for program in programs:
            program.wait_ready()
        began = time.monotonic() + 0.1
        for program in programs:
            program.say(str(began))
        return sum(float(program.result()["rate"]) for program in programs)
    finally:
        for program in programs:
            program.close()


def _sizes(ground: Ground) -> Points:
    variants: Variants = {"taskcache": {}, "redis-py `r.get`": {}}
    with ExitStack() as stack:
        client: Any = stack.enter_context(ground.client())
        cache = stack.enter_context(ours(ground))
        for size in ground.scale.curve_bytes:
            value = random.Random(2).randbytes(size)
            client.set(f"raw:{size}", value, ex=HOUR_S)
            call = cache.cached(name=f"bytes {size}", version=1)(named("bytes", value))
            assert value == call(42, "hello") == call(42, "hello")
            variants["taskcache"][size] = code("call(42, 'hello')", call=call)
            variants["redis-py `r.get`"][size] = code("get(key)", get=client.get, key=f"raw:{size}")
        return _rotated(ground, variants)


def _keys(ground: Ground) -> Points:
    """One call among many that are stored; and calls all over them, which find nothing warm anywhere."""
    points: Points = {}
    with ours(ground) as cache, ground.client() as client:
        call = cache.cached(name="keys of a curve", version=1)(named("keys of a curve", SMALL))
        call(0, "hello")
        # Unsigned, an entry says nothing of its arguments: copies of one are quicker than computing all.
        entry: Any = client.get(cache.make_key(call.key_for(0, "hello")))
        stored = 1
        for count in ground.scale.curve_keys:
            for first in range(stored, count, 1000):
                with client.pipeline(transaction=False) as pipeline:
                    for number in range(first, min(first + 1000, count)):
                        pipeline.set(cache.make_key(call.key_for(number, "hello")), entry, ex=HOUR_S)
                    pipeline.execute()
            stored = max(stored, count)
            numbers = itertools.cycle(random.Random(3).choices(range(count), k=10_000))
            variants = {
                "always the same call": code("call(0, 'hello')", call=call),
                "calls all over": code("call(next(numbers), 'hello')", call=call, numbers=numbers),
            }
            computed = call.stats()["computed"]
            for name, seconds in rotate(variants, *_effort(ground)).medians().items():
                points.setdefault(name, []).append((count, seconds * MICROSECONDS))
            assert computed == call.stats()["computed"], "something was not stored"
    return points


def _tags(ground: Ground) -> Points:
    """Each tag is one more stamp, read in the same round trip."""
    variants: Variants = {"taskcache": {}}
    with ours(ground) as cache:
        for count in ground.scale.curve_tags:
            tags = tuple(f"tag{number}" for number in range(count))
            call = cache.cached(name=f"tags {count}", version=1, tags=tags)(named("tags", SMALL))
            assert SMALL == call(42, "hello") == call(42, "hello")
            variants["taskcache"][count] = code("call(42, 'hello')", call=call)
        return _rotated(ground, variants)


def _functions(ground: Ground) -> Points:
    """Many functions in turn, each with one call."""
    variants: Variants = {"taskcache": {}}
    with ours(ground) as cache:
        calls = [
            cache.cached(name=f"function {number}", version=1)(named(f"function {number}", SMALL))
            for number in range(max(ground.scale.curve_functions))
        ]
        for call in calls:
            assert SMALL == call(42, "hello") == call(42, "hello")
        for count in ground.scale.curve_functions:
            turn = itertools.cycle(calls[:count])
            variants["taskcache"][count] = code("next(calls)(42, 'hello')", calls=turn)
        return _rotated(ground, variants)


def _rotated(ground: Ground, variants: Variants) -> Points:
    """All points in one rotation: a curve whose points were measured one after the other draws the load of the machine."""
    flat = {(name, x): variant for name, of in variants.items() for x, variant in of.items()}
    times = rotate({repr(place): variant for place, variant in flat.items()}, *_effort(ground)).medians()
    points: Points = {}
    for name, x in flat:
        points.setdefault(name, []).append((x, times[repr((name, x))] * MICROSECONDS))
    return points


def _effort(ground: Ground) -> tuple[int, float]:
    return max(2, ground.scale.rounds // 3), ground.scale.batch_s
