"""This is where tests that need a server and no worker get their cache."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from taskcache import Cache
from tests.with_redis.gate import Gate


@pytest.fixture
def cache(redis_url: str, cache_name: str) -> Iterator[Cache]:
    """An empty cache of this test's own, whose entries live for a minute."""
    with Cache(redis_url, name=cache_name, default_timeout=60) as cache:
        yield cache


@pytest.fixture
def gate() -> Iterator[Gate]:
    """A place inside of a computation where it stops until the test lets it go on."""
    gate = Gate()
    yield gate
    gate.open()
