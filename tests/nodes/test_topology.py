"""This is where we check that clusters and sentinels come up complete."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from tests.nodes.topology import ClusterNodes, SentinelNodes
from tests.nodes.waiting import wait_until


def test_a_cluster_keeps_keys_on_three_primaries(cluster: ClusterNodes) -> None:
    """A cluster client reaches every slot."""
    with cluster.client() as client:
        for number in range(50):
            client.set(f"key-{number}", number, ex=60)
        read = [client.get(f"key-{number}") for number in range(50)]

    assert [str(number).encode() for number in range(50)] == read


@pytest.fixture
def mortal_sentinels() -> Iterator[SentinelNodes]:
    """Sentinels of this test's own, with a primary that may die."""
    with SentinelNodes(sentinels=1) as nodes:
        yield nodes


def test_sentinels_replace_a_dead_primary(mortal_sentinels: SentinelNodes) -> None:
    """When the primary is killed, the sentinels name the replica instead."""
    assert mortal_sentinels.replica is not None

    mortal_sentinels.primary.kill()

    replica_port = mortal_sentinels.replica.port
    wait_until(lambda: mortal_sentinels.primary_port() == replica_port, "the replica to become primary", timeout=20)
    with redis.Redis(port=replica_port) as client:
        wait_until(lambda: client.info("replication")["role"] == "master", "the replica to accept it")


def test_three_sentinels_know_each_other(sentinels: SentinelNodes) -> None:
    """The sentinels name the primary they were given."""
    assert sentinels.primary.port == sentinels.primary_port()
