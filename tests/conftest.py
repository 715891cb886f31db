"""This is where we give tests their servers, and look after them that nothing is left behind."""

from __future__ import annotations

import shutil
import signal
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
import redis

from tests.nodes import NODES_ARE_DOCKER
from tests.nodes.proxy import FaultProxy
from tests.nodes.server import RedisNode, ValkeyNode
from tests.nodes.topology import ClusterNodes, SentinelNodes
from tests.nodes.workers import WorkerNode

pytest_plugins = ["tests.plugins.left_behind", "tests.plugins.no_skips", "tests.plugins.shuffle"]

if NODES_ARE_DOCKER:
    pytest_plugins.append("pytest_docker_tools.plugin")

# One server serves as cache, broker and result backend; only the cache promises that every key has a TTL.
CACHE_DB, BROKER_DB, BACKEND_DB, LASTING_BROKER_DB, LASTING_BACKEND_DB = range(5)


def pytest_configure(config: pytest.Config) -> None:
    """Take Ctrl-C as in a terminal: a job in the background of a script is started deaf to it, and so are its children."""
    config.addinivalue_line(
        "markers", "own_server: the test counts what its server is asked, so nobody else may use it"
    )
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def valkey() -> Iterator[ValkeyNode]:
    """The Valkey all tests of this process share. Do not hurt it: `start_valkey` gives you one of your own."""
    with ValkeyNode() as node:
        yield node


@pytest.fixture
def start_valkey() -> Iterator[Callable[..., ValkeyNode]]:
    """Start Valkeys of your own: `start_valkey(config=[...], password=..., unix=True)`."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(ValkeyNode(**options))


@pytest.fixture
def start_redis() -> Iterator[Callable[..., RedisNode]]:
    """Start servers with this machine's own `redis-server`: `start_redis(tls=True)`. Skips where there is none."""
    for program in ("redis-server", "openssl"):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}: apt-get install {program}")
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(RedisNode(**options))


@pytest.fixture
def redis_url(request: pytest.FixtureRequest, start_valkey: Callable[..., ValkeyNode]) -> str:
    """
    The address of an empty database; after the test every key in it must have a TTL.

    A test that counts what a server was asked is marked `own_server`: threads of an earlier test may still ask.
    """
    if request.node.get_closest_marker("own_server"):
        return start_valkey().url(CACHE_DB)
    request.getfixturevalue("leaves_no_key_without_ttl")
    shared: ValkeyNode = request.getfixturevalue("valkey")
    return shared.url(CACHE_DB)


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    """A plain client of the database the test's cache uses, to look at what is really there (bytes)."""
    with redis.Redis.from_url(redis_url, socket_timeout=10) as client:
        yield client


@pytest.fixture
def broker_url(valkey: ValkeyNode) -> str:
    """An empty Celery broker on the same server."""
    valkey.empty(BROKER_DB)
    return valkey.celery_url(BROKER_DB)


@pytest.fixture
def backend_url(valkey: ValkeyNode) -> str:
    """An empty Celery result backend on the same server."""
    valkey.empty(BACKEND_DB)
    return valkey.celery_url(BACKEND_DB)


@pytest.fixture(scope="session")
def lasting_broker_url(valkey: ValkeyNode) -> str:
    """A broker for workers that several tests share: never emptied, because kombu declares each queue only once."""
    return valkey.celery_url(LASTING_BROKER_DB)


@pytest.fixture(scope="session")
def lasting_backend_url(valkey: ValkeyNode) -> str:
    """A result backend that goes with `lasting_broker_url`."""
    return valkey.celery_url(LASTING_BACKEND_DB)


@pytest.fixture
def proxy(valkey: ValkeyNode, redis_url: str) -> Iterator[FaultProxy]:
    """A network that misbehaves on command, in front of `redis_url`; its own address is `proxy.url(redis_url)`."""
    with FaultProxy("127.0.0.1", valkey.port) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def _cluster() -> Iterator[ClusterNodes]:
    with ClusterNodes() as nodes:
        yield nodes


@pytest.fixture
def cluster(_cluster: ClusterNodes) -> Iterator[ClusterNodes]:
    """An empty cluster of three primaries, shared by the tests of this process: do not hurt it."""
    _cluster.flush()
    yield _cluster
    eternal = [key for member in _cluster.primaries for key in member.keys_without_ttl()]
    assert [] == eternal, "keys without a TTL in the cluster"


@pytest.fixture(scope="session")
def _sentinels() -> Iterator[SentinelNodes]:
    with SentinelNodes() as nodes:
        yield nodes


@pytest.fixture
def sentinels(_sentinels: SentinelNodes) -> SentinelNodes:
    """An empty primary with replica and three sentinels, shared by the tests of this process: do not hurt it."""
    _sentinels.primary.empty()
    return _sentinels


@pytest.fixture
def start_worker() -> Iterator[Callable[..., WorkerNode]]:
    """Start Celery workers: `start_worker("module", pool="threads", cwd=..., env=...)`; killed after the test."""
    with ExitStack() as stack:
        yield lambda module, **options: stack.enter_context(WorkerNode(module, **options))


@pytest.fixture
def cache_name() -> str:
    """A cache name nobody else uses, so that a late write of an earlier test cannot be mistaken for ours."""
    return f"cache-{uuid.uuid4().hex[:8]}"
