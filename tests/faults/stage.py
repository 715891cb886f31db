"""This is where the servers, workers and clients of the scenarios live, and where they are healed in between."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import redis
from celery import Celery

from tests.nodes.prompt import Prompt
from tests.nodes.proxy import FaultProxy
from tests.nodes.server import ValkeyNode
from tests.nodes.waiting import wait_until
from tests.nodes.workers import Pool, WorkerNode
from tests.with_celery.apps.ledger import Ledger

APP = "tests.faults.app"
SECRET = "a secret of the faults and long enough"
LONG_S = 40.0
BACKEND_DB = 1


class Client(Prompt):
    """A process that asks for values; it may be killed, interrupted and forked."""

    def __init__(self, env: Mapping[str, str]) -> None:
        # Its clock first: who imports `time` later gets the wrong one.
        clock = "import tests.faults.clock.sitecustomize"
        asking = "from tests.faults.asking import *\nwarm()"
        super().__init__(f"import os; os.environ.update({dict(env)!r})\n{clock}\n{asking}")

    def is_in_main_thread_wait(self) -> bool:
        """True when the main thread sleeps in a call that has no other process to hear from: a futex."""
        return "futex" in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/wchan").read_text()

    def exited(self) -> int:
        """End with the end of input and give the exit code."""
        self.exit()
        code = self.process.returncode
        assert code is not None
        return code


class Stage:
    """Three servers (cache with result backend, broker, ledger), a proxy before the first two, and who uses them."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.cache = self._stack.enter_context(ValkeyNode())
        self.broker = self._stack.enter_context(ValkeyNode())
        self.calm = self._stack.enter_context(ValkeyNode())
        # The clients' network; workers are nearer to the servers.
        self.cache_net = self._stack.enter_context(FaultProxy("127.0.0.1", self.cache.port))
        # For a worker that is to be cut off.
        self.worker_net = self._stack.enter_context(FaultProxy("127.0.0.1", self.cache.port))
        self.broker_net = self._stack.enter_context(FaultProxy("127.0.0.1", self.broker.port))
        self.ledger = Ledger(self.calm.url(1))
        self._workers: dict[tuple[Any, ...], list[WorkerNode]] = {}
        self._clients: list[Client] = []

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """End everything."""
        for worker in self.workers():
            worker.close()
        for client in self._clients:
            client.kill()
        self._stack.close()

    # -- who uses it

    def env(self, *, queue: str, through_proxy: bool, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment of a process of the application."""
        # Celery's results are on the cache's server: what happens to the one happens to the other.
        cache, broker, backend = self.cache.url(), self.broker.url(), self.cache.url(BACKEND_DB)
        if through_proxy:
            cache, broker, backend = self.cache_net.url(cache), self.broker_net.url(broker), self.cache_net.url(backend)
        own = {"FAULTS_CACHE": cache, "FAULTS_BROKER": broker, "FAULTS_QUEUE": queue, "FAULTS_SECRET": SECRET}
        return {**own, "FAULTS_BACKEND": backend, "FAULTS_LEDGER": self.calm.url(1), **(more or {})}

    def worker(
        self, pool: Pool, queue: str, *, concurrency: int = 2, more: int = 0, env: Mapping[str, str] | None = None
    ) -> WorkerNode:
        """
        The one running worker of a queue: one that ran already, when nobody has killed it.

        `more=1` is a second one beside it, for what the first one cannot do any more.
        """
        kind = (pool, queue, concurrency, tuple(sorted((env or {}).items())))
        found = self._workers.setdefault(kind, [])
        for dead in [worker for worker in found if not worker.is_running]:
            dead.close()
            found.remove(dead)
        for worker in found[more + 1 :]:
            worker.close()
        del found[more + 1 :]
        while len(found) <= more:
            full = self.env(queue=queue, through_proxy=False, more=env)
            found.append(WorkerNode(APP, pool=pool, concurrency=concurrency, env=full))
            found[-1].start()
        return found[more]

    def dismiss(self, queue: str) -> None:
        """End the workers of a queue."""
        for kind in [kind for kind in self._workers if kind[1] == queue]:
            for worker in self._workers.pop(kind):
                worker.close()

    def workers(self) -> list[WorkerNode]:
        """Every worker there is."""
        return [worker for workers in self._workers.values() for worker in workers]

    def clients(self, count: int, queue: str, more: Mapping[str, str] | None = None) -> list[Client]:
        """New client processes, which boot side by side."""
        env = self.env(queue=queue, through_proxy=True, more=more)
        clients = [Client(env) for _ in range(count)]
        self._clients += clients
        for client in clients:
            client.ask("None")
        return clients

    # -- between scenarios

    def heal(self) -> None:
        """Make everything well again, whatever was done to it."""
        for net in (self.cache_net, self.worker_net, self.broker_net):
            net.delay, net.blackhole, net.refuse, net.truncate_after = 0.0, False, False, None
        for node in (self.cache, self.broker):
            if not node.is_running:
                node.start()
            with suppress(Exception):
                node.resume()
            with node.client() as client:
                _make_well(client)
        for each in self._clients:
            each.kill()
        self._clients.clear()
        for worker in self.workers():
            if worker.is_running:
                worker.resume()

    def wait_workers_connected(self) -> None:
        """After a broker was away: wait until each worker reads its queue again."""
        with self.broker.client() as client:

            def reading() -> bool:
                readers = [each for each in client.client_list() if each["cmd"].lower() == "brpop"]
                return len(readers) >= sum(worker.is_running for worker in self.workers())

            wait_until(reading, "the workers to read their queues again", 60)

    def settle(self, queue: str) -> None:
        """Wait until nothing is left that could begin to run: no message in the queue, no task in a worker, no flight."""
        serving = [each for kind, found in self._workers.items() if kind[1] == queue for each in found]
        names = [each.name for each in serving if each.is_running]
        if names:
            wait_until(lambda: self._is_settled(queue, names), f"nothing to be left of {queue}", LONG_S)

    def _is_settled(self, queue: str, names: list[str]) -> bool:
        if self._has_more(queue):
            return False
        app: Any = Celery("settling", broker=self.broker.url(), set_as_current=False)
        app.conf.broker_pool_limit = 0
        inspect = app.control.inspect(destination=names, timeout=5, limit=len(names))
        for look in (inspect.active, inspect.reserved, inspect.scheduled):
            told = look() or {}
            if len(told) < len(names) or any(told.values()):
                return False
        # Once more: a task may have been given back in between.
        return not self._has_more(queue)

    def _has_more(self, queue: str) -> bool:
        if self.messages(queue):
            return True
        if not self.cache.is_running:
            return False
        with self.cache.client() as client:
            return any(client.scan_iter("*:flight"))

    def messages(self, queue: str) -> int:
        """How many messages wait in a queue."""
        with self.broker.client() as client:
            return int(client.llen(queue))


def _make_well(client: redis.Redis) -> None:
    for command in (["CLIENT", "UNPAUSE"], ["SCRIPT", "KILL"], ["REPLICAOF", "NO", "ONE"]):
        with suppress(redis.ResponseError):
            client.execute_command(*command)  # type: ignore[no-untyped-call] # redis-py has no types here
    client.config_set("maxmemory", 0)


def new_name(kind: str) -> str:
    """A name nobody else uses, for runs and gates in the ledger."""
    return f"{kind}-{uuid.uuid4().hex[:8]}"


def own_queue() -> str:
    """A queue nobody else uses, here or in another test process."""
    return f"faults-{os.getpid()}-{uuid.uuid4().hex[:6]}"
