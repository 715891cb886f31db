"""This is where a process calls: its calls, the flights it waits for, and what its inbox hears."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from taskcache.calls.computing import new_owner
from taskcache.drivers.renewer import Lease, Renewer
from taskcache.errors import Cancelled, DispatchFailed, NoServer, Revoked
from taskcache.launcher import MessageMissing
from taskcache.protocol.flight import Landing, Lead, attend, begin, depart, obtain
from taskcache.protocol.steps import Call, Inquire, Launch, Pause, Wait
from taskcache.protocol.watch import watch
from tests.races.bodies import compute
from tests.races.fibers import Actions, Body, Fiber
from tests.races.moves import Move
from tests.races.truth import Violation

if TYPE_CHECKING:
    from tests.races.fleet import Fleet


class Caller:
    """One call, in one thread or coroutine of its process."""

    def __init__(
        self,
        process: Process,
        name: str,
        key: str,
        *,
        computes: bool,
        polls: str = "",
        told: Callable[[], None] | None = None,
    ) -> None:
        self.process, self.name, self.key = process, name, key
        # The token it asks for by the id of a result.
        self.polls = polls
        # Whom to tell of its end: the body that made this call.
        self.told = told
        self.claiming: Other | None = None
        self.fleet = process.fleet
        self.began = self.fleet.truth.tick
        self.ended = ""
        self.token = ""
        self.owner = new_owner() if computes else ""
        self.errand = self.fleet.errand(key, process.inbox, self.owner, process.left)
        self.fiber = Fiber(name, self._steps(), self._end)
        self.go_on(self.fiber.start)

    @property
    def launches(self) -> bool:
        """Whether it can send a lost message again; who asks by an id cannot."""
        return not self.owner and not self.polls

    def _steps(self) -> Actions:
        if self.polls:
            return (yield from attend(self.errand, self.polls))
        found: Landing | Lead = yield from obtain(self.errand)
        if isinstance(found, Lead):
            lease = Lease(self.errand.key, found.token, self.owner, held=True)
            self.process.renewer.hold(lease)
            try:
                found = yield from compute(
                    self.fleet, self.key, self.errand, found.token, self.owner, found.stamps, lease=lease
                )
            finally:
                self.process.renewer.drop(lease)
        return found

    def go_on(self, step: Any, *args: Any) -> None:
        """Give its steps an answer; when they wait for a flight, wait for it."""
        step(*args)
        while isinstance(self.fiber.asks, Wait):
            wait = self.fiber.asks
            self.token = wait.token
            if not self.process.follow(self, wait):
                break

    def _end(self, value: Any, error: BaseException | None) -> None:
        if self.ended:
            return
        self.ended = type(error).__name__ if error is not None else "a value"
        if self.polls:
            return  # It asked for that computation, old or not.
        told = value.error if isinstance(value, Landing) else error
        if isinstance(told, Revoked) and self.token in self.process.left:
            raise Violation(f"I7: {self.name} stayed and hears that its own process had it revoked")
        self.fleet.truth.deliver(self.name, self.key, self.began, value, error)
        if self.told is not None:
            self.told()

    def moves(self) -> Iterator[Move]:
        fleet, fiber, asks = self.fleet, self.fiber, self.fiber.asks
        if self.ended:
            return
        yield from fleet.command_moves(fiber, self.go_on)
        if isinstance(asks, Launch):
            yield Move(f"{self.name} launches", 4, lambda: self.go_on(fleet.launch, fiber, self.key, asks.token))
            yield from fleet.fault(
                "refuse", f"the broker refuses {self.name}", lambda: self.go_on(fiber.throw, DispatchFailed())
            )
        elif isinstance(asks, Body):
            yield from fleet.body_moves(self.name, fiber, self.go_on, is_worker=False)
        elif isinstance(asks, Wait) and self.told is not None:
            # Inside of a worker at once: the slot that it waits for may be its own.
            is_claiming = self.claiming is not None and not self.claiming.fiber.is_over
            if not is_claiming and fleet.is_queued(self.key, asks.token):
                yield Move(f"{self.name} claims what it waits for", 2, self.claim)
        elif isinstance(asks, Wait) and not self.owner and not self.polls:
            yield from fleet.fault("leave", f"{self.name} leaves", self.leave)
            if fleet.is_queued(self.key, asks.token):
                yield from fleet.fault("inline", f"{self.name} claims what it waits for", self.claim)
        if asks is not None and not isinstance(asks, Body):
            yield from fleet.fault("interrupt", f"{self.name} is interrupted", self.interrupt)

    def leave(self) -> None:
        """`Result.cancel`."""
        fleet, token = self.fleet, self.token
        self.ended = "left"
        self.fiber.bury()
        if self.process.unfollow(self, token):
            envelope = fleet.invocations[self.key].failure(Cancelled(), token)
            revokes = fleet.climate.revokes

            def told(word: Any, error: BaseException | None) -> None:
                if revokes and word in ("running", "ended"):
                    self.process.left.append(token)
                    fleet.revoke(token)

            self.process.also(f"{self.name}'s leave", depart(self.errand, token, envelope=envelope), told)

    def interrupt(self) -> None:
        """KeyboardInterrupt in the thread that waits."""
        if isinstance(self.fiber.asks, Wait):
            self.process.unfollow(self, self.token)
        self.go_on(self.fiber.throw, KeyboardInterrupt())

    def claim(self) -> None:
        """`calling.claim_here`: compute in this process what nobody has begun."""
        owner, token = new_owner(), self.token
        errand = self.fleet.errand(self.key, self.process.inbox, owner)

        def steps() -> Actions:
            claim = yield from begin(errand, token, owner=owner, inline=True)
            if claim.word != "run":
                return
            lease = Lease(errand.key, token, owner, held=True)
            self.process.renewer.hold(lease)
            try:
                yield from compute(self.fleet, self.key, errand, token, owner, claim.stamps, lease=lease)
            finally:
                self.process.renewer.drop(lease)

        self.claiming = self.process.also(f"{self.name}'s claim", steps())


class Watching:
    """A waited flight, followed by all callers of a process that want it."""

    def __init__(self, process: Process, caller: Caller, wait: Wait) -> None:
        self.process, self.token, self.key = process, wait.token, caller.key
        self.name = f"{process.name}'s watch of {process.fleet.named(wait.token)}"
        self.followers: list[Caller] = []
        self.launches = caller.launches
        steps = watch(
            caller.errand, wait.token, leads=wait.leads, noticed=lambda sighting: None, launches=self.launches
        )
        self.fiber = Fiber(self.name, steps, self._end)
        self.fiber.start()

    def _end(self, ending: Any, error: BaseException | None) -> None:
        self.process.finish(self, error if error is not None else ending)

    def go_on(self, step: Any, *args: Any) -> None:
        step(*args)

    def moves(self) -> Iterator[Move]:
        fleet, fiber, asks = self.process.fleet, self.fiber, self.fiber.asks
        yield from fleet.command_moves(fiber, self.go_on, can_fail=False)
        if isinstance(asks, Pause) and self.followers:
            yield Move(f"{self.name} looks", 0.4, lambda: fiber.send(None))
        elif isinstance(asks, Launch):
            yield Move(f"{self.name} launches", 4, lambda: fleet.launch(fiber, self.key, self.token))
            yield from fleet.fault("refuse", f"the broker refuses {self.name}", lambda: fiber.throw(DispatchFailed()))
        elif isinstance(asks, Inquire):
            yield Move(f"{self.name} inquires", 4, lambda: fiber.send(fleet.discarded.get(self.token)))
            if not any(message.token == self.token for message in fleet.broker) and not fleet.is_draining:
                yield Move(f"{self.name} misses its message", 1, lambda: fiber.send(MessageMissing()))


class Process:
    """One client process: an inbox, its watches, its renewer."""

    def __init__(self, fleet: Fleet, name: str, *, is_inside: bool = False) -> None:
        self.fleet, self.name = fleet, name
        # A worker's, which lives and dies with the body that runs in it.
        self.is_inside = is_inside
        self.inbox = f"inbox:{name}"
        self.is_alive = True
        self.watches: dict[str, Watching] = {}
        self.early: dict[str, bytes] = {}
        # Flights that it left as the last one, and had revoked.
        self.left: list[str] = []
        self.callers: list[Caller] = []
        self.others: list[Other] = []
        self.renewer = fleet.renewer()

    def also(self, name: str, steps: Actions, told: Any = None) -> Other:
        """Do something beside the calls."""
        self.others.append(Other(self.fleet, name, steps, told))
        return self.others[-1]

    # -- what the keeper does

    def follow(self, caller: Caller, wait: Wait) -> bool:
        """Wait for a flight; True when it was over already and the caller has gone on."""
        found = watching = self.watches.get(wait.token)
        if watching is None or (not watching.launches and caller.launches):
            watching = self.watches[wait.token] = Watching(self, caller, wait)
            if found is not None:
                watching.followers, found.followers = found.followers, []
                self.others.append(Other.of(found))
        watching.followers.append(caller)
        early = self._take_early(wait.token)
        if early:
            self._hear(wait.token, early)
            return True
        return False

    def unfollow(self, caller: Caller, token: str) -> bool:
        watching = self.watches.get(token)
        if watching is None:
            return False
        if caller in watching.followers:
            watching.followers.remove(caller)
        if watching.followers:
            return False
        # What it has asked for already is still run: it finds nobody to tell.
        del self.watches[token]
        self.others.append(Other.of(watching))
        return True

    def deliver(self, token: str, envelope: bytes) -> None:
        """A message of the inbox."""
        self.early[token] = envelope
        if self._hear(token, envelope):
            self._take_early(token)

    def _take_early(self, token: str) -> bytes | None:
        envelope = self.early.get(token)
        if envelope:
            self.early[token] = b""
        return envelope

    def _hear(self, token: str, envelope: bytes) -> bool:
        watching = self.watches.get(token)
        if watching is None:
            return False
        if envelope:
            self.finish(watching, envelope)
        elif isinstance(watching.fiber.asks, Pause):
            watching.fiber.send(b"")
        return True

    def finish(self, watching: Watching, ending: Any) -> None:
        if self.watches.get(watching.token) is watching:
            del self.watches[watching.token]
        watching.fiber.bury()
        followers, watching.followers = watching.followers, []
        for caller in followers:
            if isinstance(ending, BaseException):
                caller.go_on(caller.fiber.throw, ending)
            else:
                caller.go_on(caller.fiber.send, ending)

    # -- what may happen next

    def moves(self) -> Iterator[Move]:
        if not self.is_alive:
            return
        for caller in self.callers:
            yield from caller.moves()
        for watching in list(self.watches.values()):
            yield from watching.moves()
        for other in self.others:
            yield from other.moves()
        if self.renewer.leases():
            yield Move(f"{self.name} renews", 0.4, self.renewer.beat_all)
        if not self.is_inside:
            yield from self.fleet.fault("crash_process", f"{self.name} is killed", self.kill)

    def kill(self) -> None:
        self.is_alive = False
        for caller in self.callers:
            if not caller.ended:
                caller.ended = "killed"
                caller.fiber.bury()
        for watching in self.watches.values():
            watching.fiber.bury()
        for other in self.others:
            other.fiber.bury()
        self.watches, self.others = {}, []
        self.renewer.forget()


class Other:
    """Steps beside the calls: a leave, a claim, an invalidation, what a main process tells."""

    def __init__(self, fleet: Fleet, name: str, steps: Actions, told: Any = None) -> None:
        self.fleet, self.name = fleet, name
        self.fiber = Fiber(name, steps, self._end)
        self._told = told
        self.fiber.start()

    @classmethod
    def of(cls, watching: Watching) -> Other:
        """A watch that nobody follows any more: the one command it has asked for."""

        def last() -> Actions:
            call = watching.fiber.call
            if call is not None:
                yield call

        return cls(watching.process.fleet, f"{watching.name}, abandoned", last())

    def _end(self, value: Any, error: BaseException | None) -> None:
        if error is not None and not isinstance(error, NoServer | KeyboardInterrupt):
            raise AssertionError(f"{self.name} failed") from error
        if self._told is not None:
            self._told(value, error)

    def go_on(self, step: Any, *args: Any) -> None:
        step(*args)

    def moves(self) -> Iterator[Move]:
        if self.fiber.is_over:
            return
        yield from self.fleet.command_moves(self.fiber, self.go_on)
        if isinstance(self.fiber.asks, Body):
            yield from self.fleet.body_moves(self.name, self.fiber, self.go_on, is_worker=False)


class Direct:
    """The server as the renewer sees it."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def replies(self, calls: list[Call]) -> list[Any]:
        return [self._fleet.execute(call) for call in calls]


class Beating(Renewer):
    """The real renewer, without its thread: it beats when it is told to."""

    def __init__(self, fleet: Fleet) -> None:
        super().__init__(lambda: fleet.direct, fleet.settings.lease_ms)
        self._fleet = fleet
        self._runs = True

    def leases(self) -> list[Lease]:
        return list(self._leases.values())

    def beat_all(self) -> None:
        self.beat(self._fleet.direct)
        self._fleet.dirty = True

    def forget(self) -> None:
        self._leases.clear()
