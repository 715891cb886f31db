"""This is where one thread keeps all waits of a process: woken by the inbox, looking for itself once a second."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from taskcache.drivers import threads
from taskcache.drivers.dispatch import Dispatch, Order, Told
from taskcache.drivers.early import Early
from taskcache.drivers.inbox import Inbox
from taskcache.drivers.pending import Pending
from taskcache.drivers.topology import Obstructed, Server
from taskcache.drivers.waited import Followers, Heard, Job, Watch
from taskcache.errors import NoServer
from taskcache.events import logger
from taskcache.launcher import Launcher
from taskcache.protocol.flight import Ending, Errand, Landing
from taskcache.protocol.steps import Call, Inquire, Launch, Pause, Step, Wait
from taskcache.protocol.watch import Sighting

# The finest time the protocol asks for is the grace of a vanished flight, 0.25 s.
TURN_S = 0.25
# A pause that ends just after a turn is over with that turn: else each of 0.25 s would last for two.
EARLY_S = 0.05
# How many questions go into one pipeline; a server answers this many in a few milliseconds.
PIPELINE = 500

# A thread without a wait for this long ends; the next wait starts another.
IDLE_S = 10.0


class Keeper:
    """All waits of this process on one server: an inbox, and a thread that carries their steps on in pipelines."""

    def __init__(self, server: Server, patience_s: float) -> None:
        self._server = server
        self._patience_s = patience_s
        self._inbox = Inbox(
            server, on_message=self._hear, on_reconnect=self._look_at_all, on_silence=self._forget_early
        )
        # What the inbox heard of flights that nobody waited for yet.
        self._early = Early()
        self._dispatch = Dispatch()
        self._watches: dict[str, Watch] = {}
        self._woken: deque[tuple[Watch, bytes | None]] = deque()
        self._ready: deque[tuple[Watch | Pending, Any]] = deque()
        self._away: list[Job] = []
        self._asked: list[Job] = []
        # What workers have served: told at the next turn, and not while those who wait are woken.
        self._served: deque[tuple[Launcher, str]] = deque()
        # Reentrant: a signal's handler, or what the collector ends, may call a function of ours in the middle of this.
        self._lock = threading.RLock()
        self._condition = threading.Condition(self._lock)
        self._runs = False
        self._rests_at = 0.0
        self._is_closed = False

    def inbox(self) -> str:
        """The channel where this process hears of ended flights; subscribed before this returns."""
        return self._inbox.open()

    def follow(
        self,
        errand: Errand,
        wait: Wait,
        launcher: Launcher | None,
        heard: Heard,
        noticed: Callable[[Sighting], None],
    ) -> None:
        """Call `heard(ending)` once, from another thread, when the flight of `wait` has ended."""
        with self._lock:
            # First: where no thread can be started, nobody is left behind in the books.
            self._start()
            found = watching = self._watches.get(wait.token)
            # A watch begun by the id of a result cannot send a lost message again; who can takes its place.
            if watching is None or (watching.launcher is None and launcher is not None):
                watching = self._watches[wait.token] = Watch(errand, wait.token, wait.leads, launcher)
                if found is not None:
                    watching.followers, found.followers, found.ended = found.followers, [], True
                next(watching.steps)
                watching.due = time.monotonic() + errand.settings.watchdog_ms / 1000
            watching.followers.append((heard, noticed))
            early = self._early.take(wait.token)
        if early is not None:
            self._hear(wait.token, early)

    def wait(self, errand: Errand, wait: Wait, launcher: Launcher | None = None) -> Ending:
        """Block this thread until the flight has ended."""
        endings: threads.Mailbox[Ending | BaseException] = threads.Mailbox()
        heard = endings.put  # one object, by which it is found again
        self.follow(errand, wait, launcher, heard, lambda sighting: None)
        try:
            ending = endings.get()
        except BaseException:
            self.unfollow(wait.token, heard)
            raise
        if isinstance(ending, BaseException):
            raise ending
        return ending

    def unfollow(self, token: str, heard: Heard) -> bool:
        """Forget one who waited; True when nobody in this process waits for that flight any more."""
        with self._lock:
            watching = self._watches.get(token)
            if watching is None:
                return True
            watching.followers = [pair for pair in watching.followers if pair[0] is not heard]
            if not watching.followers:
                del self._watches[token]
                return True
            return False

    def adopt(self, pending: Pending, wait: Wait) -> None:
        """Carry a call on from its first wait to its end."""
        pending.token, pending.leads = wait.token, wait.leads
        self.follow(pending.errand, wait, pending.launcher, partial(self.resume, pending), pending.notice)

    def abandon(self, pending: Pending) -> bool:
        """Stop carrying a call on; True when nobody in this process waits for its flight any more."""
        with self._lock:
            watching = self._watches.get(pending.token)
            followers = [] if watching is None else watching.followers
            heard = next((each for each, _ in followers if isinstance(each, partial) and each.args == (pending,)), None)
        return heard is not None and self.unfollow(pending.token, heard)

    def resume(self, pending: Pending, ending: Ending | BaseException) -> None:
        """Take one more step of a call whose flight has ended."""
        if ending and not isinstance(ending, BaseException):
            # The value is here: it settles in the thread that heard it, nearly always without a round trip.
            step = self._advance(pending, ending)
            if step is not None:
                with self._lock:
                    self._asked.append(Job(pending, step))
                    self._start()
                    self._condition.notify()
            return
        with self._lock:
            self._ready.append((pending, ending))
            self._start()
            self._condition.notify()

    def waits(self) -> int:
        """How many flights this process waits for."""
        return len(self._watches)

    def close(self) -> None:
        """Stop hearing; what is waited for still is found by looking, and the thread ends with the last wait."""
        self._inbox.close()
        with self._lock:
            self._is_closed = True
            self._condition.notify()

    def hush(self) -> None:
        """Stop hearing, without a lock: for a finalizer, which may run in any thread. Ours ends when it has nothing to do."""
        self._inbox.close()

    # -- what the inbox says ------------------------------------------------------------------------

    def _hear(self, token: str, envelope: bytes) -> None:
        with self._lock:
            watching = self._watches.get(token)
            # Of one that is waited for a word is kept all the same: who comes later looks at once.
            self._early.keep(token, envelope if watching is None else b"", time.monotonic())
            if watching is None:
                return
            if not envelope:
                self._woken.append((watching, b""))
                self._condition.notify()
                return
            followers = self._ended(watching)
        self._tell(watching, followers, envelope)

    def _forget_early(self) -> None:
        with self._lock:
            self._early.forget(time.monotonic())

    def _look_at_all(self) -> None:
        with self._lock:
            self._woken.extend((watching, b"") for watching in list(self._watches.values()))
            self._condition.notify()

    # -- the thread -----------------------------------------------------------------------------------

    def _start(self) -> None:
        self._rests_at = time.monotonic() + IDLE_S
        if not self._runs:
            threads.start(self._run, "taskcache-keeper")
            self._runs = True

    def _run(self) -> None:
        next_turn = 0.0
        try:
            while True:
                with self._lock:
                    if not self._sleep(next_turn):
                        self._runs = False
                        return
                    now = time.monotonic()
                    todo = self._take_woken()
                    if now >= next_turn:
                        next_turn = now + TURN_S
                        self._early.forget(now)
                        todo += [
                            (watching, None) for watching in list(self._watches.values()) if self._is_due(watching, now)
                        ]
                    ready, jobs = list(self._ready), [*self._away, *self._asked]
                    self._ready.clear()
                    self._away, self._asked = [], []
                try:
                    self._turn([*todo, *ready], jobs)
                except Exception:  # noqa: BLE001 - this thread serves every wait of the process: it must go on
                    logger.exception("taskcache: a turn of the keeper failed")
        except BaseException:
            with self._lock:
                self._runs = False
            raise

    def _sleep(self, next_turn: float) -> bool:
        """
        Wait for something to do, or for the next turn; False when nothing was waited for for a while.

        Its turns go on meanwhile, so that a new wait need not wake this thread.
        """
        now = time.monotonic()
        if self._woken or self._ready or self._asked:
            return True
        if self._watches or self._away:
            self._rests_at = now + IDLE_S
        elif self._is_closed or now >= self._rests_at:
            return False
        if now < next_turn:
            self._condition.wait(next_turn - now)
        return True

    def _take_woken(self) -> list[tuple[Watch | Pending, Any]]:
        todo: list[tuple[Watch | Pending, Any]] = []
        while self._woken:
            watching, heard = self._woken.popleft()
            if watching.pausing:
                watching.pausing = False
                todo.append((watching, heard))
            else:
                watching.nudged = True
                if watching.order is not None:
                    # A result backend that is away may be asked for minutes, and the flight is over now.
                    watching.order.is_abandoned, watching.order = True, None
                    todo.append((watching, None))
        return todo

    def _is_due(self, watching: Watch, now: float) -> bool:
        if watching.pausing and watching.due <= now + EARLY_S:
            watching.pausing = False
            return True
        return False

    def _turn(self, answers: list[tuple[Watch | Pending, Any]], jobs: list[Job]) -> None:
        """Send each of them its answer, then ask together for whatever they want next, until all of them wait."""
        while answers or jobs:
            for owner, reply in answers:
                step = self._advance(owner, reply)
                if step is not None:
                    jobs.append(Job(owner, step))
            asked, jobs = jobs[:PIPELINE], jobs[PIPELINE:]
            try:
                answers = self._ask(asked)
            except NoServer as error:
                # Asked page by page, a server that does not answer would hold up this thread for the time of each.
                answers, jobs = self._hold([*asked, *jobs], error), []
        while self._served:
            launcher, token = self._served.popleft()
            launcher.note_served(token)

    def _ask(self, jobs: list[Job]) -> list[tuple[Watch | Pending, Any]]:
        """Ask for several at once; raises NoServer when nothing was answered."""
        calls: list[Call] = [job.step for job in jobs if isinstance(job.step, Call)]
        if not calls:
            return []
        try:
            replies = self._server.replies(calls)
        except NoServer:
            raise
        except Exception:  # noqa: BLE001 - one question that cannot be sent must not take the others with it
            replies = [self._asked_alone(call) for call in calls]
        answers: list[tuple[Watch | Pending, Any]] = []
        for job, reply in zip(jobs, replies, strict=True):
            if isinstance(reply, NoServer) and not isinstance(reply, Obstructed):
                answers += self._hold([job], reply)
            else:
                answers.append((job.owner, reply))
        return answers

    def _asked_alone(self, call: Call) -> Any:
        try:
            return self._server.call(call)
        except Exception as error:  # noqa: BLE001 - thrown into the steps
            return error

    def _hold(self, jobs: list[Job], error: NoServer) -> list[tuple[Watch | Pending, Any]]:
        """The server is away: ask again at the next turn, and give up when it stays away."""
        now, given_up = time.monotonic(), []
        for job in jobs:
            job.away_since = job.away_since or now
            if isinstance(job.owner, Watch):
                job.owner.away = True
            if now - job.away_since > self._patience_s:
                given_up.append((job.owner, error))
            else:
                self._away.append(job)
        return given_up

    def _advance(self, owner: Watch | Pending, reply: Any) -> Step | None:
        """Send an answer into some steps; gives back their next call, or None when they wait or are done."""
        if isinstance(owner, Watch) and owner.ended:
            return None
        try:
            if isinstance(reply, BaseException):
                step: Step = owner.steps.throw(reply)
            else:
                step = owner.steps.send(reply.reason if isinstance(reply, Told) else reply)
            return step if isinstance(step, Call) else self._take_up(owner, step)
        except StopIteration as done:
            self._end(owner, done.value)
        except BaseException as error:  # noqa: BLE001 - whatever ended the steps is what their waiters are told
            self._end(owner, error)
        return None

    def _take_up(self, owner: Watch | Pending, step: Step) -> Step | None:
        """Begin what takes its time; gives back the next call of steps that do not wait for it."""
        if isinstance(step, Pause):
            assert isinstance(owner, Watch)
            owner.due = time.monotonic() + step.seconds
            owner.pausing = True
            if owner.nudged:
                # Woken while it looked: it looks again, and hears that its pause did not last.
                owner.nudged = False
                self._woken.append((owner, b""))
            return None
        if isinstance(step, Wait):
            assert isinstance(owner, Pending)
            self.adopt(owner, step)
            return None
        assert owner.launcher is not None
        assert isinstance(step, Launch | Inquire)
        order = Order(owner.launcher, step, lambda order, reply: self._answer(owner, order, reply))
        if isinstance(owner, Watch):
            # Woken while it looked, it does not wait for a broker before it looks again.
            order.is_abandoned = owner.nudged
            owner.order = None if owner.nudged else order
        self._dispatch.take(order)
        return self._advance(owner, None) if order.is_abandoned else None

    def _end(self, owner: Watch | Pending, ending: Any) -> None:
        if isinstance(owner, Pending):
            if isinstance(ending, Landing):
                owner.settle(ending)
            else:
                owner.fail(ending)
            return
        with self._lock:
            followers = self._ended(owner)
        self._tell(owner, followers, ending)

    def _ended(self, watching: Watch) -> Followers:
        """Take a watch off the books; gives back those who are to be told."""
        if self._watches.get(watching.token) is watching:
            del self._watches[watching.token]
        followers, watching.followers = watching.followers, []
        watching.ended = True
        return followers

    def _tell(self, watching: Watch, followers: Followers, ending: Ending | BaseException) -> None:
        for heard, _ in followers:
            try:
                heard(ending)
            except BaseException:  # noqa: BLE001 - one who cannot hear any more must not keep it from the others
                logger.exception("taskcache: a waiter could not be told")
        if isinstance(ending, bytes) and watching.launcher is not None:
            self._served.append((watching.launcher, watching.token))

    def _answer(self, owner: Watch | Pending, order: Order, reply: Any) -> None:
        """Bring the answer of a slow step back to the thread, unless the steps went on without it."""
        with self._lock:
            if order.is_abandoned:
                return
            if isinstance(owner, Watch):
                owner.order = None
            self._ready.append((owner, reply))
            self._start()
            self._condition.notify()
