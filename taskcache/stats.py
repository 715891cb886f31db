"""This is where a process counts what happened to the calls of one function."""

from __future__ import annotations

import weakref

from msgspec import Struct

from taskcache.drivers import threads


class Stats(Struct, eq=False, weakref=True):
    """
    Counters of one process; times are seconds. Adding is not locked: a lost count under a race is no reason to wait.

    The shortest ways to a hit look at no clock, so an average is that of the calls that were timed, and these are counted.
    """

    hits: int = 0
    misses: int = 0
    timed_hits: int = 0
    timed_misses: int = 0
    hit_seconds: float = 0.0
    miss_seconds: float = 0.0
    computed: int = 0
    failed: int = 0
    degraded: int = 0

    def hit(self, seconds: float) -> None:
        self.hits += 1
        self.timed_hits += 1
        self.hit_seconds += seconds

    def miss(self, seconds: float) -> None:
        self.misses += 1
        self.timed_misses += 1
        self.miss_seconds += seconds

    @property
    def hit_average(self) -> float:
        return self.hit_seconds / self.timed_hits if self.timed_hits else 0.0

    @property
    def miss_average(self) -> float:
        return self.miss_seconds / self.timed_misses if self.timed_misses else 0.0

    def as_dict(self) -> dict[str, float]:
        calls = self.hits + self.misses
        return {
            "hits": self.hits,
            "misses": self.misses,
            "computed": self.computed,
            "failed": self.failed,
            "degraded": self.degraded,
            "hit_ratio": self.hits / calls if calls else 0.0,
            "timed_hits": self.timed_hits,
            "timed_misses": self.timed_misses,
            "avg_hit_seconds": self.hit_average,
            "avg_miss_seconds": self.miss_average,
        }

    def as_walrus(self) -> dict[str, float]:
        return {
            "hits": self.hits,
            "misses": self.misses,
            "avg_hit_time": self.hit_average,
            "avg_miss_time": self.miss_average,
        }


_of_process: weakref.WeakSet[Stats] = weakref.WeakSet()


def stats_of_process() -> Stats:
    """Counters that a forked child begins at zero: what its parent has counted is told by the parent."""
    stats = Stats()
    _of_process.add(stats)
    return stats


def _after_fork() -> None:
    for stats in list(_of_process):
        # In its place: whatever answers calls quickly has it at hand.
        for name in Stats.__struct_fields__:
            setattr(stats, name, type(getattr(stats, name))())


threads.after_fork(_after_fork)
