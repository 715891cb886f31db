"""This is where callers and workers reach their cache in every way there is: TLS, a socket, Sentinel, a Cluster."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from tests.nodes.server import ValkeyNode
from tests.nodes.topology import ClusterNodes, SentinelNodes
from tests.nodes.workers import WorkerNode
from tests.with_celery.apps.reached import Reached
from tests.with_celery.conftest import LEDGER_DB


def tls(fixture: Callable[[str], Any]) -> dict[str, Any]:
    """An address with a certificate and a password."""
    return {"url": fixture("start_redis")(tls=True, password="p/w").url()}


def unix_socket(fixture: Callable[[str], Any]) -> dict[str, Any]:
    """A socket in the file system."""
    return {"url": fixture("start_valkey")(unix=True).url()}


def sentinel(fixture: Callable[[str], Any]) -> dict[str, Any]:
    """Whoever is primary."""
    nodes: SentinelNodes = fixture("sentinels")
    return {"addresses": nodes.addresses, "service": nodes.SERVICE}


def cluster(fixture: Callable[[str], Any]) -> dict[str, Any]:
    """Three primaries."""
    nodes: ClusterNodes = fixture("cluster")
    return {"url": nodes.url}


@pytest.mark.parametrize("kind", [tls, unix_socket, sentinel, cluster])
def test_a_worker_and_its_callers_reach_their_cache(
    kind: Callable[[Callable[[str], Any]], dict[str, Any]],
    request: pytest.FixtureRequest,
    valkey: ValkeyNode,
    lasting_broker_url: str,
    cache_name: str,
) -> None:
    """Computed once for all who ask, woken with the value, found again, invalidated, computed anew."""
    name = f"reached-{uuid.uuid4().hex[:8]}"
    way = {
        "kind": kind.__name__,
        "name": cache_name,
        "queue": name,
        "broker": lasting_broker_url,
        "ledger": valkey.url(LEDGER_DB),
        **kind(request.getfixturevalue),
    }
    caller = Reached(way)
    with WorkerNode("tests.with_celery.apps.reached", pool="threads", env={"REACHED": json.dumps(way)}), caller.cache:
        led, joined = caller.held(name), caller.held(name)
        caller.ledger.wait_runs(name)
        assert (False, False) == (led.ready(), joined.ready())
        caller.ledger.open(f"{name}:gate")

        assert [f"{name} 1"] * 2 == [led(timeout=30), joined(timeout=30)]
        assert ("hit", f"{name} 1") == ((hit := caller.held(name)).source, hit())
        caller.cache.invalidate("held")
        assert f"{name} 2" == caller.held(name)(timeout=30)
        caller.held.bust(name)
        assert [f"{name} 3"] * 2 == list(caller.held.map([name, name])(timeout=30))
