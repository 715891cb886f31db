"""This is where each test of a script gets an empty place to run it."""

from __future__ import annotations

import pytest
import redis

from tests.lua.flights import Flights


@pytest.fixture
def flights(client: redis.Redis) -> Flights:
    """The scripts on one key of an empty server."""
    return Flights(client)
