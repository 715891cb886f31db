"""This is where a worker takes messages: its main process renews and tells, its child claims, computes and publishes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from taskcache.calls.computing import new_owner
from taskcache.drivers.renewer import Lease
from taskcache.errors import ComputationLost, NoServer, Revoked
from taskcache.protocol.entry import new_token, read
from taskcache.protocol.flight import Lead, begin, end, judged, obtain, yield_back
from taskcache.protocol.steps import Wait
from tests.races.bodies import Message, compute
from tests.races.callers import Caller, Other, Process
from tests.races.fibers import Actions, Body, Fiber, Nested, Send
from tests.races.moves import Move

if TYPE_CHECKING:
    from tests.races.fleet import Fleet


class Worker:
    """One machine that runs one message at a time."""

    def __init__(self, fleet: Fleet, name: str) -> None:
        self.fleet, self.name = fleet, name
        self.message: Message | None = None
        self.owner = ""
        self.child: Fiber | None = None
        # What the main process does not know yet: how its child ended.
        self.news = ""
        self.main = fleet.renewer()
        self.own = fleet.renewer()
        self.others: list[Other] = []
        self.inside = Process(fleet, f"{name}'s inside", is_inside=True)

    def moves(self) -> Iterator[Move]:
        fleet = self.fleet
        if self.message is None:
            yield from self._take_moves()
        elif self.child is not None:
            yield from fleet.command_moves(self.child, self._go_on)
            asks = self.child.asks
            if isinstance(asks, Body):
                yield from fleet.body_moves(self.name, self.child, self._go_on, is_worker=True)
            elif isinstance(asks, Send):
                yield Move(f"{self.name} sends its retry", 4, lambda: self._send(asks))
                yield from fleet.fault(
                    "refuse", f"the broker refuses {self.name}", lambda: self._go_on(self._child().throw, OSError())
                )
            yield from fleet.fault("crash_child", f"the child of {self.name} dies", lambda: self.end_child("died"))
        elif self.news:
            yield Move(f"the main process of {self.name} hears", 2, self._hear)
        yield from self.inside.moves()
        for other in self.others:
            yield from other.moves()
        if self.main.leases():
            yield Move(f"{self.name} renews", 0.4, self.main.beat_all)
        if self.own.leases():
            yield Move(f"the child of {self.name} renews", 0.4, self.own.beat_all)
        if self.message is not None:
            yield from fleet.fault("crash_worker", f"{self.name} is killed", self.kill)

    def _take_moves(self) -> Iterator[Move]:
        for message in self.fleet.broker:
            yield Move(f"{self.name} takes message {message.number}", 3, partial(self._take, message))

    def _take(self, message: Message) -> None:
        fleet = self.fleet
        fleet.broker.remove(message)
        self.owner = new_owner()
        lease = Lease(fleet.invocations[message.key].place(), message.token, self.owner)
        if message.token in fleet.truth.revoked:
            reason = Revoked("revoked before it ran")
            # Celery stores REVOKED too, where a caller that inquires finds it.
            fleet.discarded[message.token] = reason
            self.others.append(Other(fleet, f"{self.name} discards", self._told(message, lease, reason)))
            return
        self.message = message
        self.main.hold(lease)
        self.child = Fiber(self.name, self._steps(message, self.owner), self._ended)
        self.child.start()

    def _steps(self, message: Message, owner: str) -> Actions:
        """`execution._begin_sent`."""
        fleet, key = self.fleet, message.key
        errand = fleet.errand(key, "", owner)
        claim = yield from begin(errand, message.token, owner=owner, inline=False, again=message.claims)
        if claim.word == "run":
            yield from compute(fleet, key, errand, message.token, owner, claim.stamps, message=message)
        elif claim.word == "taken":
            fleet.send(fleet.message(message.token, key, since=message.since, claims=message.claims))
        elif claim.word == "gone" and not message.claims:
            yield from self._take_over(message)

    def _take_over(self, message: Message) -> Actions:
        """`execution._take_over`."""
        fleet, key = self.fleet, message.key
        owner, token = new_owner(), new_token()
        errand = fleet.errand(key, "", owner)
        first = yield from read((errand.key.entry, *errand.stamps))
        if (yield from judged(errand, first[0], first[1:])) is not None:
            return
        found = yield from until_wait(obtain(errand, first, token))
        if not isinstance(found, Lead):
            return
        lease = Lease(errand.key, found.token, owner, held=True)
        self.own.hold(lease)
        try:
            again = Message(message.number, found.token, key)
            yield from compute(fleet, key, errand, found.token, owner, found.stamps, lease=lease, message=again)
        finally:
            self.own.drop(lease)

    def _send(self, asks: Send) -> None:
        self.fleet.send(asks.message)
        self._go_on(self._child().send, None)

    def _child(self) -> Fiber:
        assert self.child is not None
        return self.child

    def _go_on(self, step: Any, *args: Any) -> None:
        step(*args)
        child = self.child
        if child is not None and isinstance(child.asks, Nested):
            key = child.asks.key
            computes = key in self.fleet.climate.computing

            def told() -> None:
                if not child.is_over:
                    self._go_on(child.send, None)

            name = f"{self.name}'s call {len(self.inside.callers) + 1}"
            self.inside.callers.append(Caller(self.inside, name, key, computes=computes, told=told))

    def _ended(self, value: Any, error: BaseException | None) -> None:
        if error is not None and not isinstance(error, NoServer):
            raise AssertionError(f"{self.name} failed") from error
        self.child, self.news = None, "done"

    # -- ends that the child does not tell ---------------------------------------------------------------

    def end_child(self, news: str) -> None:
        """The child is killed; its main process will know."""
        if self.child is None:
            return
        self.child.bury()
        self.child, self.news = None, news
        self.own.forget()
        self.inside.kill()
        # The next child is another process.
        self.inside.is_alive = True
        self.inside.early.clear()

    def kill(self) -> None:
        """The whole machine is gone; with acks_late the broker has the message still."""
        message = self.message
        self.end_child("")
        self.main.forget()
        if self.fleet.climate.acks_late and message is not None:
            self.fleet.requeue(message)
        self.message, self.news, self.others = None, "", []

    def _hear(self) -> None:
        message, fleet = self.message, self.fleet
        assert message is not None
        news, self.news, self.message = self.news, "", None
        lease = Lease(fleet.invocations[message.key].place(), message.token, self.owner)
        self.main.forget()
        if news == "died" and fleet.climate.requeues:
            self.others.append(Other(fleet, f"{self.name} gives back", self._given_back(message)))
        elif news in ("died", "revoked"):
            reason = Revoked("revoked while it ran") if news == "revoked" else ComputationLost("its child died")
            self.others.append(Other(fleet, f"{self.name} tells", self._told(message, lease, reason)))

    def _given_back(self, message: Message) -> Actions:
        errand = self.fleet.errand(message.key, "", "")
        yield from yield_back(errand, message.token, owner=self.owner, in_ms=0)
        self.fleet.requeue(message)

    def _told(self, message: Message, lease: Lease, reason: ComputationLost) -> Actions:
        """`FlightRequest._tell`."""
        errand = self.fleet.errand(message.key, "", "")
        envelope = errand.failure(reason, message.token)
        for owner in (lease.owner, ""):
            said = yield from end(errand, message.token, owner=owner, envelope=envelope, ttl_ms=0)
            if said != "refused":
                return


def until_wait(steps: Any) -> Actions:
    """`blocking.run_until_wait`, as steps: None when they would wait."""
    reply: Any = None
    error: BaseException | None = None
    while True:
        try:
            step = steps.send(reply) if error is None else steps.throw(error)
        except StopIteration as done:
            return done.value
        if isinstance(step, Wait):
            steps.close()
            return None
        error = None
        try:
            reply = yield step
        except BaseException as thrown:
            error = thrown
