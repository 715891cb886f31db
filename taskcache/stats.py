"""This is where a process counts what happened to the calls of one function."""

from __future__ import annotations

from msgspec import Struct


class Stats(Struct):
    """Counters of one process; times are seconds. Adding is not locked: a lost count under a race is no reason to wait."""

    hits: int = 0
    misses: int = 0
    hit_seconds: float = 0.0
    miss_seconds: float = 0.0
    computed: int = 0
    failed: int = 0
    degraded: int = 0

    def hit(self, seconds: float) -> None:
        self.hits += 1
        self.hit_seconds += seconds

    def miss(self, seconds: float) -> None:
        self.misses += 1
        self.miss_seconds += seconds

    def as_dict(self) -> dict[str, float]:
        calls = self.hits + self.misses
        return {
            "hits": self.hits,
            "misses": self.misses,
            "computed": self.computed,
            "failed": self.failed,
            "degraded": self.degraded,
            "hit_ratio": self.hits / calls if calls else 0.0,
            "avg_hit_seconds": self.hit_seconds / self.hits if self.hits else 0.0,
            "avg_miss_seconds": self.miss_seconds / self.misses if self.misses else 0.0,
        }

    def as_walrus(self) -> dict[str, float]:
        return {
            "hits": self.hits,
            "misses": self.misses,
            "avg_hit_time": self.hit_seconds / self.hits if self.hits else 0.0,
            "avg_miss_time": self.miss_seconds / self.misses if self.misses else 0.0,
        }
