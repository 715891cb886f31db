"""This is where a small fleet lives: processes, workers, a broker, and what befalls them, on a real server."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from functools import partial
from typing import Any, cast

import redis

from taskcache.calls.invocation import Invocation
from taskcache.calls.primitives import stored
from taskcache.codec.sealing import Codec
from taskcache.drivers.topology import Server
from taskcache.errors import NoServer
from taskcache.protocol.flight import Errand, invalidate
from taskcache.protocol.scripts import SCRIPTS, Script
from taskcache.protocol.stamps import bump, function_stamp, tag_stamp
from taskcache.protocol.steps import Call
from taskcache.settings import Settings
from tests.races.bodies import ADDED, TTL_MS, Message
from tests.races.callers import Beating, Caller, Direct, Other, Process
from tests.races.disasters import WATCHDOG_MS, Snapshot, disasters
from tests.races.fibers import Actions, Fiber
from tests.races.moves import Climate, Move
from tests.races.truth import LOOK, Invalidation, Run, Truth
from tests.races.workers import Worker

# Two keys of one function; one of them has a tag besides.
KEYS = {"f:a": (), "f:b": ("t",)}
LABEL, TAG = "f", "t"
# No lease of a run ends by itself: time passes when the explorer says so, so that a run is repeated exactly.
SETTINGS = Settings(name="race", lease_ms=12_000, watchdog_ms=WATCHDOG_MS)


class Fleet:
    """Everybody who takes part in one run."""

    def __init__(self, client: redis.Redis, climate: Climate, scripts: dict[str, Script] | None = None) -> None:
        client.flushdb()
        self.client, self.climate = client, climate
        self.settings, self.scripts = SETTINGS, scripts or SCRIPTS
        codec = Codec(SETTINGS)
        self.invocations = {
            key: Invocation.of(SETTINGS, codec, key, LABEL, tags, TTL_MS["lasting"]) for key, tags in KEYS.items()
        }
        self.truth = Truth(self.invocations)
        self.direct = cast(Server, Direct(self))
        self.broker: list[Message] = []
        self.mail: list[tuple[str, str, bytes]] = []
        self.discarded: dict[str, Exception] = {}
        self.budget = dict(climate.budget)
        self.is_draining = False
        # What a replica holds that hears of no more writes.
        self.replica: Snapshot | None = None
        # Whether the server may have changed since the last look, and what it held right after the last command.
        self.dirty = True
        self.seen: Any = None
        # What the last move was answered or told.
        self.shown: list[Any] = []
        # What it means that a command of an invalidation has run.
        self._effects: list[tuple[Call, Callable[[], Any]]] = []
        self.tokens: list[str] = []
        self._sent = self._begun = 0
        self._ears: Any = client.pubsub()  # type: ignore[no-untyped-call]  # redis-py
        self._ears.psubscribe("inbox:*")
        self._hear_all()
        self.processes = [Process(self, f"P{number}") for number in range(climate.processes)]
        self.workers = [Worker(self, f"W{number}") for number in range(climate.workers)]
        self.invalidators: list[Other] = []

    @property
    def all_processes(self) -> list[Process]:
        """Those that call, and the processes of workers, whose bodies may call as well."""
        return [*self.processes, *(worker.inside for worker in self.workers)]

    def close(self) -> None:
        for process in self.processes:
            process.kill()
        for worker in self.workers:
            worker.kill()
        for other in self.invalidators:
            other.fiber.bury()
        self._ears.close()

    # -- what its members need ------------------------------------------------------------------------------

    def errand(self, key: str, inbox: str, owner: str, left: Container[str] = ()) -> Errand:
        """`Invocation.errand` without a station."""
        invocation = self.invocations[key]
        return Errand(
            key=invocation.place(),
            stamps=invocation.stamps,
            lifetime_ms=invocation.lifetime_ms,
            settings=self.settings,
            inbox=lambda: inbox,
            owner=owner,
            usable=invocation.usable,
            opened=invocation.opened,
            failure=invocation.failure,
            was_left=left.__contains__,
            # Not for the first key, as it would be in a Cluster: its workers read the stamps before they claim.
            has_stamps_beside=key != next(iter(self.invocations)),
        )

    def renewer(self) -> Beating:
        return Beating(self)

    def named(self, token: str) -> str:
        """A short name of a token, the same in every repetition."""
        if token not in self.tokens:
            self.tokens.append(token)
        return f"T{self.tokens.index(token) + 1}"

    def message(self, token: str, key: str, *, since: int | None = None, claims: bool = False) -> Message:
        self._sent += 1
        return Message(self._sent, token, key, since, claims)

    def send(self, message: Message) -> None:
        self.broker.append(message)

    def requeue(self, message: Message | None) -> None:
        assert message is not None
        self.send(self.message(message.token, message.key, since=message.since, claims=message.claims))

    def launch(self, fiber: Fiber, key: str, token: str) -> None:
        self.send(self.message(token, key))
        fiber.send(None)

    def revoke(self, token: str) -> None:
        """`control.revoke(terminate=True)`: every worker knows the id, and ends it where it runs."""
        self.truth.revoked.add(token)
        for worker in self.workers:
            if worker.message is not None and worker.message.token == token:
                worker.end_child("revoked")
        self.truth.spent.add("revoke")

    def is_queued(self, key: str, token: str) -> bool:
        place = self.invocations[key].place()
        flights = [self.truth.server.get(name, {}) for name in (place.flight, place.retired(token))]
        return any(each.get(b"token") == token.encode() and each[b"state"] != b"running" for each in flights)

    # -- the server ------------------------------------------------------------------------------------------

    def execute(self, call: Call) -> Any:
        """Run one command or script, and note what it means."""
        self.dirty = True
        for command, mark in self._effects:
            if command is call:
                mark()
        script = self.scripts.get(call.name)
        with self.client.pipeline(transaction=False) as pipeline:
            # One round trip for both, since there are a hundred in a run.
            queue: Any = pipeline
            if script is None:
                options = {"get": True} if call.name == "SET" else {}
                queue.execute_command(call.name, *call.keys, *call.args, **options)
            else:
                queue.eval(script.text.decode(), len(call.keys), *call.keys, *call.args)
            queue.eval(LOOK, 0)
            reply, self.seen = queue.execute()
        self.shown.append(reply)
        if call.name == "renew" and reply == b"asserted":
            self.truth.check_asserted(str(call.args[0]))
        if call.name == "elect":
            self.named(str(call.args[0]))
        if call.name == "publish":
            self._hear_all()
        return reply

    def _hear_all(self) -> None:
        """Collect what was published: the answer to a PING comes after everything that was said before it."""
        self._ears.ping()
        while True:
            message = self._ears.get_message(timeout=5)
            if message is None:
                raise AssertionError("the server does not answer a PING")
            if message["type"] == "pong":
                return
            if message["type"] == "pmessage":
                data = message["data"]
                self.mail.append((message["channel"].decode().partition(":")[2], data[:36].decode(), data[36:]))

    # -- moves -------------------------------------------------------------------------------------------------

    def fault(self, kind: str, name: str, act: Callable[[], Any]) -> Iterator[Move]:
        """One of the faults of this climate, while its budget lasts."""
        if self.is_draining or not self.budget.get(kind):
            return

        def spend() -> None:
            self.budget[kind] -= 1
            self.truth.spent.add(kind)
            act()

        yield Move(name, 0.4, spend, is_fault=True)

    def command_moves(self, fiber: Fiber, go_on: Callable[..., None], *, can_fail: bool = True) -> Iterator[Move]:
        """What can happen to a fiber that asks the server."""
        if fiber.unheard:
            yield Move(f"{fiber.name} hears", 4, lambda: go_on(fiber.answer, fiber.unheard.pop()))
            return
        call = fiber.call
        if call is None:
            return

        def run() -> None:
            reply = self.execute(call)
            if call.name == "elect" and not self.is_draining:
                # Between the election and its reply others may act: a wake-up may even be faster.
                fiber.unheard.append(reply)
            else:
                go_on(fiber.answer, reply)

        yield Move(f"{fiber.name}: {call.name}", 4, run)
        yield from self.fault("lost_reply", f"{fiber.name}: {call.name}, reply lost", lambda: self.execute(call))
        if can_fail:

            def fail(runs: bool) -> None:
                if runs:
                    self.execute(call)
                # Nobody may renew what this fiber does not know it holds.
                self.truth.lost |= {str(call.args[0])} if call.name in ("elect", "claim") else set()
                go_on(fiber.throw, NoServer("away"))

            yield from self.fault("away", f"{fiber.name}: {call.name} fails", lambda: fail(False))
            yield from self.fault("away", f"{fiber.name}: {call.name} fails after it ran", lambda: fail(True))

    def body_moves(self, name: str, fiber: Fiber, go_on: Callable[..., None], *, is_worker: bool) -> Iterator[Move]:
        """How a body can end, and what it can do before."""
        run = self.truth.runs[fiber.asks.run]
        is_first = run.key == next(iter(KEYS))
        if self.climate.adds_tags and not self.is_draining and run.tagged is None:
            yield Move(f"{name}'s body adds a tag", self.climate.ending, partial(go_on, fiber.send, "adds a tag"))
        if self.climate.nests and is_worker and is_first and not run.has_called and not self.is_draining:
            yield Move(f"{name}'s body calls another", self.climate.ending, partial(go_on, fiber.send, "calls"))
        for how in self.climate.lifetimes if not self.is_draining else ("lasting",):
            yield Move(f"{name}'s body ends, {how}", self.climate.ending, partial(go_on, fiber.send, how))
        kinds = (
            {"fail": ("fails",), "interrupt": ("interrupted",)}
            if not is_worker
            else {"fail": ("fails",), "retry": ("retries", "retries later"), "reject": ("rejects",)}
        )
        for kind, ways in kinds.items():
            for how in ways:
                yield from self.fault(kind, f"{name}'s body {how}", partial(go_on, fiber.send, how))

    def moves(self) -> Iterator[Move]:
        """Everything that can happen now."""
        for _, move in self.moves_by_member():
            yield move

    def moves_by_member(self) -> Iterator[tuple[str, Move]]:
        """Everything that can happen now, with the name of whoever does it; that of nobody for what befalls them all."""
        members: list[Process | Worker | Other] = [*self.processes, *self.workers, *self.invalidators]
        for member in members:
            for move in member.moves():
                yield member.name, move
        for place, (inbox, token, envelope) in enumerate(self.mail[:4]):
            # Names do not tell places apart; a repetition takes the first that fits.
            told = f"{inbox} of {self.named(token)}{' with its value' if envelope else ''}"
            yield inbox, Move(f"tell {told}", 3, partial(self._post, place))
            if not self.is_draining:
                yield "", Move(f"lose what tells {told}", 1, partial(self.mail.pop, place), is_fault=True)
                for move in self.fault("twice", f"tell {told}, twice", partial(self.mail.append, self.mail[place])):
                    yield "", move
        if not self.is_draining:
            yield from self._beginnings()
            for move in disasters(self):
                yield "", move

    def _post(self, place: int) -> None:
        name, token, envelope = self.mail.pop(place)
        process = next(each for each in self.all_processes if each.name == name)
        self.shown.append((token, envelope))
        if process.is_alive:
            process.deliver(token, envelope)

    def _beginnings(self) -> Iterator[tuple[str, Move]]:
        if self._begun < self.climate.calls:
            for process in self.processes:
                for key in KEYS:
                    name = f"{process.name} asks for {key}"
                    yield process.name, Move(name, self.climate.beginning, partial(self._call, process, key))
                for token, key in self._waited():
                    name = f"{process.name} asks for {self.named(token)} by its id"
                    yield process.name, Move(name, self.climate.beginning / 3, partial(self._call, process, key, token))
        if len(self.invalidators) < self.climate.invalidations:
            for kind, act in self._invalidations():
                yield "", Move(kind, self.climate.invalidating, act)

    def _waited(self) -> list[tuple[str, str]]:
        """Tokens of results that somebody holds, with their keys."""
        calls = [call for process in self.processes for call in process.callers]
        return [(call.token, call.key) for call in calls if call.token and not call.owner and not call.polls][-1:]

    def _call(self, process: Process, key: str, polls: str = "") -> None:
        if not process.is_alive:
            process.is_alive = True
            process.early.clear()
        self._begun += 1
        computes = key in self.climate.computing
        process.callers.append(Caller(process, f"C{self._begun}", key, computes=computes, polls=polls))

    def _invalidations(self) -> Iterator[tuple[str, Callable[[], None]]]:
        name = f"I{len(self.invalidators)}"
        for key, invocation in self.invocations.items():
            bust = partial(invalidate, invocation.place())
            yield f"{name} busts {key}", partial(self._invalidate, f"{name} bust {key}", {key}, bust)
            yield f"{name} puts {key}", partial(self._put, f"{name} put {key}", key, invocation)
        everything = (function_stamp(SETTINGS.name, LABEL),)
        yield f"{name} bumps f", partial(self._invalidate, f"{name} bump", set(KEYS), partial(bump, everything))
        tagged = {key for key, tags in KEYS.items() if tags}
        tag = (tag_stamp(SETTINGS.name, TAG),)
        yield f"{name} bumps the tag", partial(self._invalidate, f"{name} tag", tagged, partial(bump, tag))
        if self.climate.adds_tags:
            added = partial(bump, (tag_stamp(SETTINGS.name, ADDED),))
            name_of = f"{name} bumps the added tag"
            yield name_of, partial(self._invalidate, f"{name} added tag", set(KEYS), added, is_of_added=True)

    def _invalidate(
        self, name: str, keys: set[str], steps: Callable[[], Any], put: Run | None = None, *, is_of_added: bool = False
    ) -> None:
        done = Invalidation(frozenset(keys), is_of_added)

        def mark() -> None:
            done.applied = done.applied or done.forgotten or self.truth.tick
            if put is not None:
                # Its value is as of the moment it is stored.
                put.born = self.truth.tick

        def marked() -> Actions:
            going = steps()
            reply = None
            try:
                while True:
                    step = going.send(reply)
                    if isinstance(step, Call) and step.name in ("forget", "DEL"):
                        self._effects.append((step, mark))
                    reply = yield step
            except StopIteration:
                return

        def told(_: Any, error: BaseException | None) -> None:
            if error is None:
                done.returned = self.truth.tick

        self.truth.invalidations.append(done)
        self.invalidators.append(Other(self, name, marked(), told))

    def _put(self, name: str, key: str, invocation: Invocation) -> None:
        run = self.truth.begin(key, f"put {len(self.truth.runs)}", "", None)
        run.is_active = False
        self._invalidate(name, {key}, lambda: stored(invocation, run.number, TTL_MS["lasting"]), run)

    def spoken(self, key: bytes) -> str:
        """A key with its token as it is named here."""
        text = key.decode()
        root, colon, token = text.rpartition(":")
        return f"{root}{colon}{self.named(token)}" if len(token) == 36 else text
