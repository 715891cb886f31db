"""This is where we look at what is left once everybody rests: keys, connections, threads, files and processes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from taskcache.protocol.flight import STAMP_MARGIN_MS
from taskcache.settings import Settings
from tests.nodes.waiting import wait_until
from tests.soak.footprint import Footprint
from tests.soak.words import TIMEOUT_S

if TYPE_CHECKING:
    from tests.soak.stage import Stage

_DEFAULTS = Settings()
# How long each kind of key may stay at most.
_LONGEST_MS = (
    (re.compile(rb":(flight|retired:[^:]+)$"), _DEFAULTS.queued_ms + 5_000),
    (re.compile(rb":outcome:[^:]+$"), _DEFAULTS.error_linger_ms),
    (re.compile(rb"^soak~"), TIMEOUT_S * 1000 + STAMP_MARGIN_MS),
    (re.compile(rb"^soak:"), TIMEOUT_S * 1000),
)
# One of each in a process, however much it waits for and whatever broke; Celery and asyncio have some of their own.
_OURS = "taskcache-"
# While it works: 4 threads or 16 coroutines, one line each at most, with inbox, keeper, renewer and one for its loop.
_CONNECTIONS = 24
# Ten producers are kept at most, which kombu has two connections for; they are Celery's and outlive the cache.
_BROKER_CONNECTIONS = 24
# Loops, pipes and files of the interpreter; sockets are counted apart.
_FILES = 24
# Connections of a worker's processes to the cache: a pool and a renewer for main and for each of three children.
_WORKER_CONNECTIONS = 4 * 16
# What the load itself makes a process of a worker keep, once: threads of pools, connections, loops.
_MORE_THREADS = 16
_MORE_FILES = 32


class Leftovers:
    """The look at a fleet at rest; writes into the table and the list of violations of a report."""

    def __init__(self, stage: Stage, left: dict[str, str], violations: list[str]) -> None:
        self.stage, self.left, self.violations = stage, left, violations

    def look(self) -> None:
        """At keys and clients first, then at the workers, and at the server's connections last."""
        self._keys()
        self._clients()
        self._workers()
        self._connections()

    def _keys(self) -> None:
        seen: dict[str, int] = {}
        with self.stage.cache.client() as client:
            keys = list(client.scan_iter(count=1000))
            ttls = [client.pttl(key) for key in keys]
        for key, ttl_ms in zip(keys, ttls, strict=True):
            kind, longest = self._kind(key)
            seen[kind] = seen.get(kind, 0) + 1
            if ttl_ms == -1 or ttl_ms > longest:
                self.violations.append(f"leaked key: {key!r} has a TTL of {ttl_ms} ms, at most {longest} are expected")
        self.left["keys, each with a TTL"] = ", ".join(f"{count} {kind}" for kind, count in sorted(seen.items()))

    def _kind(self, key: bytes) -> tuple[str, int]:
        for pattern, longest in _LONGEST_MS:
            found = pattern.search(key)
            if found is not None:
                return ("flights", "outcomes", "stamps", "entries")[_LONGEST_MS.index((pattern, longest))], longest
        return "unknown", 0

    def _clients(self) -> None:
        most: dict[str, int] = {}
        for fact in self.stage.facts():
            for when in ("during", "after"):
                if when not in fact:
                    continue
                seen = fact[when]
                counted = {"threads": sum(seen["threads"].values()), "other files": seen["others"]}
                counted |= {f"connections to the {name}": seen["connections"][name] for name in ("cache", "broker")}
                for what, count in counted.items():
                    name = f"{what} of a client {when} its work, at most"
                    most[name] = max(most.get(name, 0), count)
                self._judge(f"client {fact['client']}", when, seen)
            if fact.get("waits"):
                self.violations.append(f"leaked wait: client {fact['client']} still keeps {fact['waits']}")
        self.left.update({name: str(count) for name, count in most.items()})

    def _judge(self, who: str, when: str, seen: dict[str, Any]) -> None:
        most = 1 if when == "during" else 0
        many = {name: count for name, count in seen["threads"].items() if name.startswith(_OURS) and count > most}
        if many:
            self.violations.append(f"leaked threads: {who} has {many} {when} its work")
        if seen["connections"]["cache"] > (_CONNECTIONS if when == "during" else 0):
            self.violations.append(f"leaked connections: {who} has {seen['connections']} {when} its work")
        if seen["connections"]["broker"] > _BROKER_CONNECTIONS:
            self.violations.append(f"leaked connections: {who} has {seen['connections']} {when} its work")
        if seen["others"] > _FILES:
            self.violations.append(f"leaked files: {who} has {seen['others']} open {when} its work")

    def _workers(self) -> None:
        for worker, before in zip(self.stage.workers, self.stage.before, strict=True):
            try:
                worker.wait_ready(60)
            except AssertionError:
                # Chaos took its broker away while it booted, and Celery gives up then.
                worker.stop()
                worker.start()
            expected = worker.concurrency if worker.pool == "prefork" else 0

            def has_its_children(worker: Any = worker, expected: int = expected) -> bool:
                return len(worker.pool_processes()) == expected

            try:
                wait_until(has_its_children, "the pool to be whole", 20)
            except AssertionError:
                children = len(worker.pool_processes())
                self.violations.append(f"{worker!r} has {children} pool processes instead of {expected}")
            after = Footprint.of(worker)
            self.left[f"threads and files of {worker.pool}, before and after"] = " → ".join(
                f"{each.threads} and {each.files}" for each in (before, after)
            )
            if after.threads > before.threads + _MORE_THREADS or after.files > before.files + _MORE_FILES:
                self.violations.append(f"leaked threads or files: {worker!r} had {before}, and has {after} at rest")

    def _connections(self) -> None:
        with self.stage.cache.client() as client:

            def others() -> list[Any]:
                own = client.client_id()
                return [found for found in client.client_list() if int(found["id"]) != own]

            # The clients have ended: what is connected now are the workers.
            with_workers = len(others())
            if with_workers > _WORKER_CONNECTIONS:
                self.violations.append(f"leaked connections: {with_workers} while only workers are there")
            for worker in self.stage.workers:
                if worker.is_running:
                    worker.kill()
            try:
                wait_until(lambda: not others(), "the last connection to be closed", 20)
            except AssertionError:
                self.violations.append(f"leaked connections: {others()} after everybody has ended")
            self.left["connections with workers, and after them"] = f"{with_workers}, {len(others())}"
