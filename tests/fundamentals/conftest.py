"""This is where each page of the tutorial gets a cache."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from taskcache import Cache


@pytest.fixture
def cache(redis_url: str, cache_name: str) -> Iterator[Cache]:
    """`Cache("redis://localhost:6379/0")` is all it takes; values live for a minute here."""
    with Cache(redis_url, name=cache_name, default_timeout=60) as cache:
        yield cache
