"""This is where errors of redis-py are put into words: whatever says «not now» is NoServer, and named."""

from __future__ import annotations

import pytest
from redis.exceptions import (
    AskError,
    ClusterDownError,
    ClusterError,
    MovedError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TryAgainError,
)

from taskcache.drivers.topology import Server
from taskcache.errors import NoServer

SERVER = Server("redis://127.0.0.1:1/0")


@pytest.mark.parametrize(
    "error",
    [ClusterError("TTL exhausted."), AskError("7 127.0.0.1:2"), MovedError("7 127.0.0.1:2"), TryAgainError("later")],
    ids=lambda error: type(error).__name__,
)
def test_a_slot_that_moves_for_long_is_no_server(error: RedisError) -> None:
    """A value is offered again, and a wait goes on: nothing is wrong with either."""
    explained = SERVER.explain(error)

    assert (NoServer, True) == (type(explained), "cannot serve now" in str(explained))


@pytest.mark.parametrize("error", [ClusterDownError("CLUSTERDOWN"), RedisClusterException("no node")])
def test_a_cluster_that_is_down_cannot_be_reached(error: RedisError | RedisClusterException) -> None:
    """Its words are about the address, not about a moment."""
    assert "cannot be reached" in str(SERVER.explain(error))


@pytest.mark.parametrize("reason", ["DB index is out of range", "SELECT is not allowed in cluster mode"])
def test_a_database_that_is_not_there_is_no_server(reason: str) -> None:
    """Connecting ends with it: there is nobody to speak to at this address, and its number is what is wrong."""
    explained = SERVER.explain(ResponseError(reason))

    assert (NoServer, True) == (type(explained), "correct the number" in str(explained))
