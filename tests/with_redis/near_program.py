"""This is where other processes of the near cache's tests live: one that forks, and one that writes without end."""

from __future__ import annotations

import random
import time
from typing import Any

import redis

from taskcache import Cache
from taskcache.decorators import CachedFunction
from tests.with_redis.near import bring_near

TRUTH = "truth"


def counting(cache: Cache, truth: redis.Redis, **options: Any) -> CachedFunction[[int], int]:
    """A function whose right answer is a number in Redis that only grows."""

    @cache.cached(name="storm", version=1, timeout=60, **options)
    def number_of(place: int) -> int:
        return int(truth.hget(TRUTH, str(place)) or 0)

    return number_of


def beginning(url: str, name: str) -> tuple[Cache, CachedFunction[[int], int]]:
    """A cache with one near value, of a process that is about to fork."""
    truth = redis.Redis.from_url(url)
    truth.hset(TRUTH, "7", 1)
    truth.expire(TRUTH, 60)
    cache = Cache(url, name=name, default_timeout=60)
    number_of = counting(cache, truth, near=True)
    bring_near(cache, number_of, 7)
    return cache, number_of


def in_child(cache: Cache, number_of: CachedFunction[[int], int]) -> tuple[int, bool, int, bool]:
    """What a forked child holds at first, and whether values come near to it and go again."""
    near = cache.station.near(cache.settings)
    assert near is not None
    at_first = len(near.entries), near.is_up
    number = bring_near(cache, number_of, 7)
    number_of.put(2, 7)
    return *at_first, number, number_of(7) == 2


def storm(url: str, name: str, places: int, seconds: float, seed: int) -> list[tuple[float, int, int]]:
    """Let the truth grow and invalidate what is cached, in every way; gives (acknowledged at, place, number)."""
    chance, acknowledged = random.Random(seed), []
    with Cache(url, name=name, default_timeout=60) as cache, redis.Redis.from_url(url) as truth:
        number_of = counting(cache, truth)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            place = chance.randrange(places)
            number = int(truth.hincrby(TRUTH, str(place), 1))
            way = chance.random()
            if way < 0.4:
                number_of.bust(place)
            elif way < 0.8:
                number_of.put(number, place)
            elif way < 0.9:
                number_of.bust_all()
            else:
                cache.delete(number_of.key_for(place))
            acknowledged.append((time.monotonic(), place, number))
            time.sleep(chance.random() * 0.004)
        truth.expire(TRUTH, 60)
    return acknowledged
