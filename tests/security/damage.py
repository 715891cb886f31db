"""This is where good bytes become bad ones: cut, bent, put together wrongly, and with another version written on them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

F = TypeVar("F", bound=Callable[..., Any])
# `python -m tests.security` runs the same tests for longer, each round from another seed.
ROUND = os.environ.get("TASKCACHE_FUZZ_ROUND")


def fuzz(examples: int) -> Callable[[F], F]:
    """Run a test with so many examples: the same in each run, or others in each round of a long one."""
    made: Callable[[F], F] = settings(
        max_examples=examples if ROUND is None else 10 * examples,
        derandomize=ROUND is None,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    return made


def damaged(good: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Bytes that are nearly some of `good`."""
    return st.sampled_from(list(good)).flatmap(_damaged_one)


def _damaged_one(good: bytes) -> st.SearchStrategy[bytes]:
    places = st.integers(0, max(0, len(good) - 1))
    return st.one_of(
        places.map(lambda end: good[:end]),
        places.map(lambda start: good[start:]),
        st.lists(st.tuples(places, st.integers(1, 255)), min_size=1, max_size=4).map(lambda bends: _bent(good, bends)),
        st.binary(min_size=1, max_size=40).map(lambda more: good + more),
        st.tuples(places, places, st.binary(max_size=24)).map(
            lambda cut: good[: min(cut[:2])] + cut[2] + good[max(cut[:2]) :]
        ),
        # The version stands in the second byte of everything we write.
        st.integers(0, 255).map(lambda version: good[:1] + bytes((version,)) + good[2:]),
    ).filter(lambda bad: bad != good)


def spoilt(good: bytes, random: Random) -> bytes:
    """Do the same to bytes that are others in each run, which no strategy may depend on."""
    start, end = sorted(random.randrange(len(good) + 1) for _ in range(2))
    noise = random.randbytes(random.randint(1, 24))
    bends = [(random.randrange(len(good)), random.randint(1, 255)) for _ in range(random.randint(1, 4))]
    version = bytes((random.randrange(256),))
    return random.choice(
        [
            *(good[:end], good[start:], good + noise, noise, good[:start] + noise + good[end:]),
            *(_bent(good, bends), good[:1] + version + good[2:]),
        ]
    )


def _bent(good: bytes, bends: list[tuple[int, int]]) -> bytes:
    bad = bytearray(good)
    for place, bits in bends:
        bad[place] ^= bits
    return bytes(bad)
