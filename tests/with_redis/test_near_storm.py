"""This is where one process writes without end, others read what they hold near, and nobody sees what is too old."""

from __future__ import annotations

from taskcache.near.tracking import TRUST_S
from tests.near.staleness import measure


def test_no_value_is_older_than_the_bound(redis_url: str, cache_name: str) -> None:
    """Three threads read what another process busts, puts and deletes: never older than the bound, mostly not even ms."""
    seen = measure(redis_url, cache_name, seconds=4.0, readers=3)
    print(f"{seen.reads} reads, {seen.writes} writes, {len(seen.ages)} old", seen.ages[-3:])

    assert seen.writes > 100
    # Asking the server takes ten times as long.
    assert seen.reads > 50_000
    assert max(seen.ages, default=0.0) <= TRUST_S
    assert seen.quantile(0.95) <= 0.01
