"""This is where a row of the matrix is put into words: a fault, what every waiter must see, and how it went."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

from tests.faults.stage import LONG_S, Client, Stage, new_name, own_queue
from tests.faults.words import BRIEF_LEASE_S, LEASE_S, LONG_LEASE_S, twin_of
from tests.nodes.waiting import wait_until
from tests.nodes.workers import Pool, WorkerNode

# How long Celery's own waiters are waited for after the fault before we say that they hang.
CELERY_PATIENCE_S: Final = 15.0
ALL: Final[tuple[Pool, ...]] = ("prefork", "threads", "gevent", "solo")
# Those that hear of messages and orders while a body runs.
HEARING: Final = ALL[:3]


@dataclass(frozen=True)
class Answer:
    """What one waiter was told, and how long after the fault; `seconds` is None when it still waits."""

    word: str
    said: str
    seconds: float | None


@dataclass
class Observed:
    """One run of one scenario."""

    answers: list[Answer]
    runs: int
    celery: Answer | None
    celery_runs: int


@dataclass(frozen=True)
class Scenario:
    """One row. `words` are what a waiter may be told: "value", or the name of an error."""

    name: str
    fault: str
    sees: str
    words: tuple[str, ...]
    at_most: int
    within_s: float
    pools: tuple[Pool, ...]
    play: Callable[[Play], None]
    at_least: int
    # Why there is no Celery beside it; "" when there is.
    without_celery: str
    conf: dict[str, Any]
    lease_s: float

    @property
    def sentence(self) -> str:
        return " ".join((self.play.__doc__ or "").split())


MATRIX: list[Scenario] = []


def row(
    fault: str,
    *,
    sees: str = "the value",
    words: Sequence[str] = ("value",),
    at_most: int = 1,
    at_least: int | None = None,
    within_s: float,
    pools: tuple[Pool, ...] = ("prefork",),
    without_celery: str = "",
    conf: dict[str, Any] | None = None,
    lease_s: float = LEASE_S,
) -> Callable[[Callable[[Play], None]], Callable[[Play], None]]:
    """Put a scenario on the matrix."""

    def add(play: Callable[[Play], None]) -> Callable[[Play], None]:
        least = (1 if at_most else 0) if at_least is None else at_least
        MATRIX.append(
            Scenario(
                *(play.__name__, fault, sees, tuple(words), at_most, within_s, pools, play, least),
                *(without_celery, conf or {}, lease_s),
            )
        )
        return play

    return add


@dataclass
class Play:
    """One performance of a scenario: who takes part, and what they heard."""

    stage: Stage
    scenario: Scenario
    pool: Pool
    with_celery: bool
    name: str = ""
    queue: str = ""
    clients: list[Client] = field(default_factory=list)
    asked: list[tuple[Client, int]] = field(default_factory=list)
    twin: tuple[Client, int] | None = None
    faulted_at: float | None = None
    # Workers that only this performance uses end with it.
    _queues: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.name = new_name(self.scenario.name)
        # Workers with another lease have a queue of their own.
        self.queue = f"faults-{self.pool}-{self.scenario.lease_s:g}"

    # -- who takes part

    def worker(self, **options: Any) -> WorkerNode:
        """The one worker of this queue; with `more=1` a second one, for what the first cannot do any more."""
        env = {**self._env, **options.pop("env", {})}
        return self.stage.worker(self.pool, self.queue, env=env, **options)

    def alone(self) -> str:
        """Use a queue of this performance's own, on which no worker is."""
        self.queue = own_queue()
        self._queues.append(self.queue)
        return self.queue

    def people(self, count: int = 2, env: Mapping[str, str] | None = None) -> list[Client]:
        """Client processes."""
        conf = {"FAULTS_CONF": json.dumps(self.scenario.conf)} if self.scenario.conf else {}
        self.clients = self.stage.clients(count, self.queue, {**self._env, **conf, **(env or {})})
        return self.clients

    @property
    def _env(self) -> dict[str, str]:
        return {"FAULTS_LEASE": f"{self.scenario.lease_s:g}"}

    # -- what they do

    def ask(
        self, function: str, *, waiters: Sequence[int] = (2, 1), timeout: float = 90, first_leads: bool = False
    ) -> None:
        """
        Ask for one value: two waiters in the first client process and one in the second, unless `waiters` says else.

        They ask at the same time, unless the first is to lead. Celery's own waiter is in the first process too.
        """
        if not self.clients:
            self.people(len(waiters))
        self.asked.append((self.clients[0], int(self.clients[0].ask(f"ask({function!r}, {self.name!r}, {timeout})"))))
        if first_leads:
            self.clients[0].ask(f"begun({self.asked[0][1]})")
        if self.with_celery:
            # A moment longer than we look: whether it hangs is for us to say.
            plain = f"ask('plain.{function.rpartition('.')[2]}', {self.twin_name!r}, {timeout})"
            self.twin = (self.clients[0], int(self.clients[0].ask(plain)))
        for client, count in zip(self.clients, waiters, strict=False):
            for _ in range(count - (client is self.clients[0])):
                self.asked.append((client, int(client.ask(f"ask({function!r}, {self.name!r}, {timeout})"))))

    @property
    def twin_name(self) -> str:
        return twin_of(self.name)

    def begun(self, count: int = 1) -> None:
        """Wait until the body runs, and Celery's too."""
        self.stage.ledger.wait_runs(self.name, count, timeout=LONG_S)
        if self.twin is not None:
            self.stage.ledger.wait_runs(self.twin_name, count, timeout=LONG_S)

    def dispatched(self) -> str:
        """Wait until every call has its Result; gives the first one's task id."""
        ids = [client.ask(f"begun({ticket})") for client, ticket in self.asked]
        if self.twin is not None:
            self.twin[0].ask(f"begun({self.twin[1]})")
        return str(ids[0])

    def task_ids(self) -> list[str]:
        """The task's id, and that of Celery's own."""
        first = [self.dispatched()]
        return first + ([str(self.twin[0].ask(f"begun({self.twin[1]})"))] if self.twin is not None else [])

    @contextmanager
    def fault(self) -> Iterator[None]:
        """Do the fault; times are counted from here."""
        self.faulted_at = time.monotonic()
        yield

    def open(self) -> None:
        """Let the bodies end."""
        self.stage.ledger.open(self.name)
        self.stage.ledger.open(self.twin_name)

    def begun_again(self) -> None:
        """Wait until a successor's body runs."""
        self.stage.ledger.wait_runs(self.name, 2, timeout=LONG_S)

    def renewed(self) -> None:
        """Wait until the worker's main process has renewed the flight, and so knows that it holds it."""
        with self.stage.cache.client() as cache:
            seen = [1 << 62]

            def grew() -> bool:
                left = [cache.pttl(key) for key in cache.scan_iter("*:flight")]
                seen.append(max(left, default=0))
                return seen[-1] > seen[-2]

            wait_until(grew, "a renewal", LONG_S)

    def occupy(self, worker: WorkerNode, count: int) -> None:
        """Give every slot of a worker, and every place it prefetches, a body that stays there until `vacate`."""
        for number in range(count):
            self.clients[0].ask(f"begun(ask('held', {f'{self.name}-before-{number}'!r}))")
        self.stage.ledger.wait_runs(f"{self.name}-before-0", timeout=LONG_S)

    def vacate(self) -> None:
        """Let those bodies end."""
        for number in range(9):
            self.stage.ledger.open(f"{self.name}-before-{number}")

    def control(self, verb: str, ids: Sequence[str], **options: Any) -> None:
        """Give the workers an order about tasks, as an operator does."""
        self.clients[-1].ask(f"getattr(app.app.control, {verb!r})({list(ids)!r}, **{options!r})")

    def leader_has_reported(self) -> None:
        """Wait until the leader has told the flight that its message was sent."""
        with self.stage.cache.client() as cache:

            def reported() -> bool:
                seconds, micros = cache.time()
                now_ms = seconds * 1000 + micros // 1000
                flights = [cache.hget(key, "resend_at") for key in cache.scan_iter("*:flight")]
                return any(int(at or 0) > now_ms + 10_000 for at in flights)

            wait_until(reported, "the leader's report", LONG_S)

    def refused(self, function: str) -> list[int]:
        """The processes whose value of this call was refused, one for each time."""
        key = self.clients[-1].ask(f"app.{function}.make_key(({self.name!r},), {{}})")
        return self.stage.ledger.pids(f"refused {key}")

    def runs(self) -> int:
        """How often the body has begun to run."""
        return self.stage.ledger.runs(self.name)

    def flights(self) -> list[bytes]:
        """The flights that are in the cache now."""
        with self.stage.cache.client() as cache:
            return list(cache.scan_iter("*:flight"))

    def followed(self) -> None:
        """Wait until a second process is known to the one flight in the cache that computes here."""
        with self.stage.cache.client() as cache:

            def known() -> bool:
                fields = [cache.hkeys(key) for key in cache.scan_iter("*:flight")]
                return any(len([each for each in names if each.startswith(b"w:")]) >= 2 for names in fields)

            wait_until(known, "a follower", LONG_S)

    def stored(self, function: str) -> str | None:
        """The value in the cache, as a client sees it."""
        told = self.clients[0].ask(f"(lambda entry: entry and entry.value)(app.{function}.peek({self.name!r}))")
        return None if told is None else str(told)

    def pids(self) -> list[int]:
        """The processes in which bodies began to run, Celery's too."""
        return [*self.stage.ledger.pids(self.name), *self.stage.ledger.pids(self.twin_name)]

    def answered(self, timeout: float = 60) -> None:
        """Wait until every waiter of ours was told."""
        for client, ticket in self.asked:
            wait_until(lambda c=client, t=ticket: c.ask(f"is_answered({t})"), "an answer", timeout)  # type: ignore[misc]

    # -- how it went

    def perform(self) -> Observed:
        """Play it, look at what came of it, and heal the stage."""
        self.stage.cache.empty()
        try:
            self.scenario.play(self)
            return self._observe()
        finally:
            self.open()
            self.stage.heal()
            for queue in self._queues:
                self.stage.dismiss(queue)

    def _observe(self) -> Observed:
        since = self.faulted_at
        assert since is not None, "a scenario says when its fault happens"
        answers = [_answer(client.ask(f"answer({ticket})"), since) for client, ticket in self.asked]
        celery = None
        if self.twin is not None:
            client, ticket = self.twin
            with suppress(AssertionError):
                left = max(1.0, CELERY_PATIENCE_S - (time.monotonic() - since))
                wait_until(lambda: client.ask(f"is_answered({ticket})"), "Celery", left)
            told = client.ask(f"answer({ticket}, 0)")
            celery = _answer(told, since)
        # A second run that waits for a slot is one, too.
        self.open()
        self.stage.settle(self.queue)
        ledger = self.stage.ledger
        return Observed(answers, ledger.runs(self.name), celery, ledger.runs(self.twin_name))


def _answer(told: list[Any] | None, since: float) -> Answer:
    if told is None:
        return Answer("still waiting", "", None)
    return Answer(told[0], told[1], told[2] - since)


def failures(scenario: Scenario, observed: Observed, name: str = "") -> list[str]:
    """What an observation has against the row's promise; empty when it holds."""
    found = [
        f"a waiter was told {answer.word}: {answer.said}"
        for answer in observed.answers
        if answer.word not in scenario.words
    ]
    found += [
        f"a waiter was told after {answer.seconds:.1f} s, not {scenario.within_s:g} s"
        for answer in observed.answers
        if answer.seconds is not None and answer.seconds > scenario.within_s
    ]
    if not scenario.at_least <= observed.runs <= scenario.at_most:
        found.append(f"it ran {observed.runs} times, not {scenario.at_least} to {scenario.at_most}")
    return found


__all__ = [
    "ALL",
    "BRIEF_LEASE_S",
    "HEARING",
    "LEASE_S",
    "LONG_LEASE_S",
    "MATRIX",
    "Observed",
    "Play",
    "Scenario",
    "failures",
    "row",
]
