"""This is where several servers become one: a cluster of primaries, and a primary with replica and sentinels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import redis
from redis.sentinel import Sentinel

from tests.nodes.server import ServerNode, ValkeyNode
from tests.nodes.waiting import wait_until

SLOTS = 16_384


class ClusterMember(ValkeyNode):
    """One node of a cluster; the bus has a port of its own choice, so that both ports are known to be free."""

    def _lines(self) -> list[str]:
        lines = [*super()._lines(), "cluster-enabled yes", "cluster-node-timeout 2000", "cluster-announce-ip 127.0.0.1"]
        return [*lines, f"cluster-port {self.bus_port}", f"cluster-config-file nodes-{self.port}.conf"]

    @property
    def bus_port(self) -> int:
        """The port on which the members talk to each other."""
        # Outside of what `free_port` hands out, and different for each member.
        return self.port - 10_000


class ClusterNodes:
    """A cluster of primaries, optionally with one replica each."""

    def __init__(self, primaries: int = 3, *, replicas: bool = False) -> None:
        self.primaries = [ClusterMember() for _ in range(primaries)]
        self.replicas = [ClusterMember() for _ in range(primaries if replicas else 0)]

    @property
    def members(self) -> list[ClusterMember]:
        """All nodes, primaries first."""
        return [*self.primaries, *self.replicas]

    @property
    def url(self) -> str:
        """An address from which a cluster client finds the others."""
        return self.primaries[0].url()

    def client(self) -> redis.RedisCluster:
        """Open a cluster client. Close it, or use it in a `with`."""
        return redis.RedisCluster.from_url(self.url)

    def start(self) -> ClusterNodes:
        """Start the members, give them slots, and wait until every one says the cluster is complete."""
        for member in self.members:
            member.start()
        with ExitStack() as stack:
            clients = [stack.enter_context(member.client()) for member in self.members]
            primaries = clients[: len(self.primaries)]
            bounds = [SLOTS * index // len(primaries) for index in range(len(primaries) + 1)]
            for index, client in enumerate(primaries):
                _command(client, "CLUSTER", "ADDSLOTSRANGE", bounds[index], bounds[index + 1] - 1)
                _command(client, "CLUSTER", "SET-CONFIG-EPOCH", index + 1)
            for member in self.members[1:]:
                _command(clients[0], "CLUSTER", "MEET", "127.0.0.1", member.port, member.bus_port)
            wait_until(lambda: all(map(_knows_all_slots, clients)), "the cluster to be complete")
            for primary, replica in zip(primaries, clients[len(primaries) :], strict=False):
                _replicate(primary, replica)
        return self

    @contextmanager
    def moving(self, slot: int) -> Iterator[None]:
        """Give a slot to another primary: within, half of its keys are there; afterwards the slot and the other half."""
        with ExitStack() as stack:
            clients = [stack.enter_context(member.client()) for member in self.primaries]
            names = [_command(client, "CLUSTER", "MYID").decode() for client in clients]
            owner = next(at for at, client in enumerate(clients) if _owns(client, slot))
            taker = (owner + 1) % len(clients)
            _command(clients[taker], "CLUSTER", "SETSLOT", slot, "IMPORTING", names[owner])
            _command(clients[owner], "CLUSTER", "SETSLOT", slot, "MIGRATING", names[taker])
            keys = _command(clients[owner], "CLUSTER", "GETKEYSINSLOT", slot, 1000)
            half = (len(keys) + 1) // 2
            self._carry(clients[owner], taker, keys[:half])
            yield
            self._carry(clients[owner], taker, _command(clients[owner], "CLUSTER", "GETKEYSINSLOT", slot, 1000))
            for client in (clients[taker], clients[owner], *clients):
                _command(client, "CLUSTER", "SETSLOT", slot, "NODE", names[taker])

    def _carry(self, owner: redis.Redis, taker: int, keys: Sequence[bytes]) -> None:
        if keys:
            _command(owner, "MIGRATE", "127.0.0.1", self.primaries[taker].port, "", 0, 5000, "KEYS", *keys)

    def flush(self) -> None:
        """Empty every primary."""
        for member in self.primaries:
            member.empty()

    def __enter__(self) -> ClusterNodes:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop all members."""
        for member in self.members:
            member.close()


def _owns(client: redis.Redis, slot: int) -> bool:
    (mine,) = (line for line in _command(client, "CLUSTER", "NODES").decode().splitlines() if "myself" in line)
    spans = [span.split("-") for span in mine.split()[8:] if not span.startswith("[")]
    return any(int(span[0]) <= slot <= int(span[-1]) for span in spans)


def _command(client: redis.Redis, *words: object) -> Any:
    return client.execute_command(*words)  # type: ignore[no-untyped-call] # redis-py has no types here


def _knows_all_slots(client: redis.Redis) -> bool:
    said = _command(client, "CLUSTER", "INFO").decode().split()
    return "cluster_state:ok" in said and f"cluster_slots_ok:{SLOTS}" in said


def _replicate(primary: redis.Redis, replica: redis.Redis) -> None:
    primary_id = _command(primary, "CLUSTER", "MYID")

    def accepted() -> bool:
        # Refused until the replica has heard of its primary.
        with suppress(redis.ResponseError):
            _command(replica, "CLUSTER", "REPLICATE", primary_id)
            return True
        return False

    wait_until(accepted, "the replica to know its primary")
    wait_until(lambda: replica.info("replication").get("master_link_status") == "up", "the replica to be in sync")


class SentinelNode(ValkeyNode):
    """One sentinel that watches `primary` under the name `main`."""

    def __init__(self, primary: ServerNode, *, quorum: int) -> None:
        super().__init__()
        self.primary = primary
        self.quorum = quorum

    def _command(self) -> list[str]:
        # A sentinel rewrites its configuration file, so it wants a real one.
        path = self.folder / "sentinel.conf"
        if not path.exists():
            path.write_text("\n".join(self._lines()) + "\n")
        return [str(self.binary()), str(path), "--sentinel"]

    def _lines(self) -> list[str]:
        return [
            "bind 127.0.0.1",
            f"port {self.port}",
            f"dir {self.folder}",
            f"sentinel monitor main 127.0.0.1 {self.primary.port} {self.quorum}",
            "sentinel down-after-milliseconds main 1000",
            "sentinel failover-timeout main 5000",
        ]


class SentinelNodes:
    """A primary, its replica, and the sentinels that replace the one with the other; the service is called `main`."""

    SERVICE = "main"

    def __init__(self, sentinels: int = 3) -> None:
        self.primary = ValkeyNode()
        self.sentinels: list[SentinelNode] = []
        self.replica: ValkeyNode | None = None
        self._count = sentinels

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Where the sentinels listen."""
        return [("127.0.0.1", sentinel.port) for sentinel in self.sentinels]

    @property
    def celery_url(self) -> str:
        """The address as Celery wants it; `broker_transport_options` must say `master_name="main"`."""
        return ";".join(f"sentinel://127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)

    def start(self) -> SentinelNodes:
        """Start all, and wait until every sentinel knows the replica and the other sentinels."""
        self.primary.start()
        self.replica = ValkeyNode(config=[f"replicaof 127.0.0.1 {self.primary.port}"])
        self.replica.start()
        with self.replica.client() as client:
            wait_until(lambda: client.info("replication").get("master_link_status") == "up", "the replica's sync")
        for _ in range(self._count):
            self.sentinels.append(SentinelNode(self.primary, quorum=self._count // 2 + 1))
            self.sentinels[-1].start()
        for sentinel in self.sentinels:
            with sentinel.client() as client:
                self._wait_for_all(client)
        return self

    def _wait_for_all(self, client: redis.Redis) -> None:
        def is_complete() -> bool:
            said = _command(client, "SENTINEL", "MASTER", self.SERVICE)
            # A map in RESP3, a flat list in RESP2: which one it is depends on the version of redis-py.
            state = said if isinstance(said, dict) else dict(zip(said[::2], said[1::2], strict=True))
            return (1, self._count - 1) == (int(state[b"num-slaves"]), int(state[b"num-other-sentinels"]))

        wait_until(is_complete, "the sentinels to find each other and the replica")

    def primary_port(self) -> int:
        """Ask the first sentinel who is primary now."""
        with self.sentinels[0].client() as client:
            return int(_command(client, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.SERVICE)[1])

    def sentinel(self) -> Sentinel:
        """Make redis-py's client of the sentinels: `.master_for("main")` is a client of whoever is primary."""
        return Sentinel(self.addresses, socket_timeout=1)  # type: ignore[no-untyped-call] # redis-py has no types here

    def __enter__(self) -> SentinelNodes:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop all nodes."""
        for node in [*self.sentinels, *([self.replica] if self.replica else []), self.primary]:
            node.close()
