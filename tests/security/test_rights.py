"""This is where the rights of `deploy/users.acl` are proven: enough for everything a cache does, and not one too many."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from fnmatch import fnmatchcase
from functools import partial

import pytest
from redis.cluster import RedisCluster
from redis.exceptions import RedisClusterException, RedisError

from taskcache import Cache, NoServer
from taskcache.cli import main as command_line
from tests.deploy.files import DEPLOY
from tests.deploy.servers import GuardedValkey
from tests.nodes.server import ValkeyNode
from tests.nodes.topology import ClusterNodes
from tests.nodes.waiting import wait_until
from tests.nodes.workers import WorkerNode
from tests.security.actions import ACTIONS, Caller, functions, listing, primitives
from tests.security.conftest import APP
from tests.security.vault import SECRET


def granted() -> list[str]:
    """What the file grants to `taskcache`: +commands, patterns of ~keys and of &channels."""
    text = (DEPLOY / "users.acl").read_text()
    block = text.partition("user taskcache\n")[2].partition("\nuser ")[0]
    lines = [line for line in block.splitlines() if not line.lstrip().startswith("#")]
    rights = " ".join(lines).split()
    # No category, no permission of another kind: each word here is tried below.
    assert all(re.fullmatch(r"\+[\w|]+|[~&]\S+", right) for right in rights)
    return rights


@pytest.fixture(scope="module")
def server() -> Iterator[GuardedValkey]:
    """The cache with the users of the file."""
    with GuardedValkey("taskcache") as node:
        assert isinstance(node, GuardedValkey)
        yield node


@pytest.fixture(scope="module")
def caller(server: GuardedValkey) -> Iterator[Caller]:
    """A caller and a worker that have the rights of the file at the cache, and a broker of their own."""
    with ValkeyNode() as broker:
        env = {
            "ATTACKED_CACHE": server.url_for("taskcache"),
            "ATTACKED_BROKER": broker.celery_url(),
            "ATTACKED_LEDGER": broker.url(1),
            "ATTACKED_SECRET": SECRET,
            "ATTACKED_NAMES": "rights",
        }
        with WorkerNode(APP, pool="threads", concurrency=8, env=env):
            caller = Caller(env)
            yield caller
            caller.close()


def refused_in(server: GuardedValkey, caller: Caller) -> tuple[set[str], str]:
    """Do everything a cache does, in new connections; what was refused first, and what went wrong."""
    caller.cache.close()
    for name, action in ACTIONS.items():
        problem = _run(partial(action, caller), server)
        if refused := refusals(server):
            return refused, f"{name}: {problem}"
        if problem:
            return set(), f"{name}: {problem}"
    return set(), ""


def settle(caller: Caller) -> None:
    """Wait until the caller, which leaves a server alone that has refused it, asks again."""

    def is_served() -> bool:
        try:
            return "served" == str(caller.cache.get("nothing", "served"))
        except NoServer:
            return False

    wait_until(is_served, "the caller to ask again", 20)


def refusals(server: GuardedValkey) -> set[str]:
    """The commands, keys and channels that the server has refused to anybody."""
    words = [entry["object"] for entry in server.refused()]
    return {word.decode() if isinstance(word, bytes) else str(word) for word in words}


def covers(right: str, refused: str) -> bool:
    """Tell whether what was refused is what the right is about: a command, or a key or channel of its pattern."""
    return refused == right[1:] if right[0] == "+" else fnmatchcase(refused, right[1:])


def _run(action: Callable[[], None], server: GuardedValkey) -> str:
    """Without its rights an action may go on trying: the refusal in the server's log is enough."""
    failed: list[str] = []

    def act() -> None:
        try:
            action()
        except Exception as error:
            failed.append(f"{type(error).__name__}: {error}")

    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    wait_until(lambda: not thread.is_alive() or refusals(server), "the action to end", 60)
    # With its rights back it comes to its end, so that the next one is not disturbed.
    if thread.is_alive():
        restore(server)
        thread.join(60)
    return "".join(failed)


def restore(server: GuardedValkey, without: str = "") -> None:
    """Give the user what the file says, all or without one right; what was refused stays on record."""
    rights = [right for right in granted() if right != without]
    with server.client() as admin:
        admin.execute_command("ACL", "SETUSER", "taskcache", "nocommands", "resetkeys", "resetchannels", *rights)


def begin(server: GuardedValkey, without: str = "") -> None:
    """The same on a server that has refused nothing and knows no script."""
    with server.client() as admin:
        admin.script_flush()
        restore(server, without)
        admin.acl_log_reset()


def test_nothing_that_a_cache_does_is_refused(server: GuardedValkey, caller: Caller) -> None:
    """Plain keys, functions, near values, workers, tags, retries, progress, cancellation, listing, the command line."""
    begin(server)
    settle(caller)

    assert (set(), "") == refused_in(server, caller)


def test_ping_does_without_what_it_may_not_ask(caller: Caller, capsys: pytest.CaptureFixture[str]) -> None:
    """INFO is nothing that a cache needs; the command line says so and tells the rest."""
    assert 0 == command_line(["ping", "--url", caller.url])

    said = capsys.readouterr().out
    assert "INFO is not permitted" in said
    assert "median of" in said


CLUSTER = ["+cluster|slots", "+command"]


def in_cluster(cluster: ClusterNodes, rights: list[str]) -> set[str]:
    """Use a cache on a Cluster with these rights; what was refused, by any node."""
    for member in cluster.members:
        with member.client() as admin:
            admin.execute_command("ACL", "SETUSER", "taskcache", "reset", "on", ">pw", *rights)
            admin.acl_log_reset()
    # Without the commands that find the nodes, redis-py does not get as far as an error of its server.
    with suppress(RedisError, RedisClusterException):
        client = RedisCluster(host="127.0.0.1", port=cluster.primaries[0].port, username="taskcache", password="pw")
        with Cache(client, name="cache", default_timeout=60) as cache:
            for action in (primitives, functions, listing):
                action(cache)
        client.close()
    refused: set[str] = set()
    for member in cluster.members:
        with member.client() as admin:
            refused |= {str(entry["object"]) for entry in admin.acl_log()}
    return refused


def test_a_cluster_needs_two_rights_more(cluster: ClusterNodes) -> None:
    """The two that the file names are enough, and each is needed."""
    assert all(right in (DEPLOY / "users.acl").read_text() for right in CLUSTER)
    assert set() == in_cluster(cluster, granted() + CLUSTER)
    for right in CLUSTER:
        assert {right[1:]} == in_cluster(cluster, [other for other in granted() + CLUSTER if other != right])


@pytest.mark.parametrize("right", granted())
def test_no_right_can_be_dropped(server: GuardedValkey, caller: Caller, right: str) -> None:
    """Without this command, or this pattern of keys or channels, something that a cache does is refused."""
    restore(server)
    settle(caller)
    begin(server, without=right)
    try:
        refused, problem = refused_in(server, caller)
    finally:
        restore(server)

    needed = any(covers(right, word) for word in refused)
    assert needed, f"{right} is granted in users.acl and nothing needs it ({refused} {problem})"
