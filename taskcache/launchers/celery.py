"""This is where a call, or a chunk of calls, is sent as a Celery task: an ordinary `apply_async`, in bounded time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from celery import states
from celery.backends.base import DisabledBackend
from celery.result import AsyncResult
from celery.utils.saferepr import saferepr
from kombu.exceptions import EncodeError, OperationalError

from taskcache.errors import ComputationLost, DispatchFailed, Expired, Revoked, UnknownTask
from taskcache.events import warn_once
from taskcache.launcher import MessageMissing
from taskcache.launchers import apps, producers
from taskcache.launchers.chunk import Chunk, Message, described, parted
from taskcache.launchers.routes import queue_of
from taskcache.launchers.task import HEADER, ROUTING, open_call
from taskcache.protocol.entry import new_token

if TYPE_CHECKING:
    from taskcache.calls.calling import Arguments
    from taskcache.calls.invocation import Invocation
    from taskcache.decorators import AsyncFunction
    from taskcache.launchers.serializer import SealedArguments
    from taskcache.result import Result

# A queue that nobody serves is an operator's mistake far more often than a long queue, after this long.
UNSERVED_S: Final = 10.0
# Longer than its lease a call that was seen to run is not seen when its worker has died; and some looks of the waiter.
SILENT_S: Final = 2.0
# When each queue was last seen to be served, by any call of this process, and when the youngest of these calls was sent.
_served_at: dict[tuple[int, str], float] = {}
_served_sent_at: dict[tuple[int, str], float] = {}


def _shown(arguments: Any) -> str:
    """What Celery's logs and events show of arguments; nothing is shown without its walk through them."""
    return saferepr(arguments, 1024) if arguments else repr(arguments)


class CeleryLauncher:
    """Sends one call to the queue of its task, by itself or with others."""

    def __init__(
        self,
        task: Any,
        function: AsyncFunction[Any, Any],
        arguments: Arguments,
        sealed: SealedArguments,
        invocation: Invocation,
        above: frozenset[str],
    ) -> None:
        self._task = task
        self._function = function
        self._sealed = sealed
        self._invocation = invocation
        self._above = above
        # The message that this call was last sent in, and the flight that it was sent for.
        self._message: Message | None = None
        self._token = ""
        # Written now: what the caller changes afterwards is not what was called.
        self._reprs = (_shown(arguments[0]), _shown(arguments[1]))
        # Looked up now, because Celery's configuration is slow to ask and a wake-up asks for it.
        self._queue = queue_of(task.app, task.name, self._per_call())

    def launch(self, token: str) -> None:
        """Send the call under this token."""
        chunk = self._chunk(token)
        if chunk is not None and not chunk.is_over:
            chunk.send_again()  # its turn comes, unless the whole message is lost
            return
        if chunk is not None or token != self._token:
            # After a takeover too: the message of another flight is another message.
            self._token, self._message = token, Message(token)
        elif self._message is not None:
            self._message.note_sent()
        header = {**self._header(), "key": self._invocation.key, "token": token}
        self._send((self._sealed,), token, header, self._reprs, self._per_call())

    def launch_beside(self, token: str) -> None:
        """The same: a broker that is away has a bounded time."""
        self.launch(token)

    def arguments(self) -> Arguments:
        """The arguments of the call, as a worker would get them."""
        return open_call(self._function, (self._sealed,), {})

    def launch_together(self, calls: Sequence[tuple[CeleryLauncher, str]]) -> None:
        """Send several calls of this function in one message, or in as many as their keys need."""
        sizes = [len(launcher._invocation.redis_key) + len(token) for launcher, token in calls]
        for start, stop in parted(sizes):
            self._launch_message(calls[start:stop])

    def _launch_message(self, calls: Sequence[tuple[CeleryLauncher, str]]) -> None:
        sealed = tuple(launcher._sealed for launcher, _ in calls)
        reprs = described([launcher._reprs for launcher, _ in calls]), "{}"
        tokens = [token for _, token in calls]
        header = {**self._header(), "calls": [(launcher._invocation.key, token) for launcher, token in calls]}
        options = {**self._per_call(), **self._limits(len(calls))}
        task_id = new_token()

        def send() -> None:
            self._send(sealed, task_id, header, reprs, options)

        chunk = Chunk(task_id, tokens, send, self._function.cache.settings.lease_ms / 1000 + SILENT_S)
        send()
        for launcher, token in calls:
            launcher._token, launcher._message = token, chunk

    def _send(
        self,
        args: tuple[SealedArguments, ...],
        task_id: str,
        header: dict[str, Any],
        reprs: tuple[str, str],
        options: dict[str, Any],
    ) -> None:
        options = dict(
            task_id=task_id,
            # The value goes to the cache, and only there.
            ignore_result=True,
            headers={HEADER: header},
            argsrepr=reprs[0],
            kwargsrepr=reprs[1],
            **options,
        )
        if self._is_eager:
            # It runs now, and what it raises is delivered by its flight, also with `task_eager_propagates`.
            self._task.apply_async(args, {}, throw=False, **options)
            return
        try:
            producers.send(
                self._task.app,
                lambda producer: self._task.apply_async(args, {}, producer=producer, retry=False, **options),
            )
        except EncodeError as error:
            raise DispatchFailed(f"{self._function.name} could not be written as a message: {error}") from error
        except (OperationalError, OSError) as error:
            raise DispatchFailed(
                f"{self._function.name}: the broker {_url(self._task.app)} did not take the task ({error}); "
                "check broker_url and that the broker runs."
            ) from error

    @property
    def _is_eager(self) -> bool:
        return bool(self._task.app.conf.task_always_eager)

    def _header(self) -> dict[str, Any]:
        return {"above": sorted(self._above)}

    def _limits(self, calls: int) -> dict[str, float]:
        """The time limits of a message of so many calls; a batch function runs once for all of them."""
        if self._function.options.batch:
            return {}
        given, conf = self._function.options.celery, self._task.app.conf
        found = {name: given.get(name) or conf[f"task_{name}"] for name in ("time_limit", "soft_time_limit")}
        return {name: limit * calls for name, limit in found.items() if limit}

    def _chunk(self, token: str) -> Chunk | None:
        """The message of several calls in which this flight's was sent."""
        return self._message if isinstance(self._message, Chunk) and token == self._token else None

    def _per_call(self) -> dict[str, Any]:
        """Where this call goes, and what `with_options` changed for it; everything else is on the task."""
        own = self._task.function.options.celery
        given = self._function.options.celery
        return {name: value for name, value in given.items() if name in ROUTING or own.get(name) != value}

    def inquire(self, token: str) -> BaseException | None:
        """Look at Celery's own state of a task that nobody has claimed."""
        if self._is_eager:
            return None
        first_at = self._message.first_at if self._message is not None else 0.0
        seen_at = max(first_at, _served_at.get(self._queue_id, 0.0))
        if first_at and time.monotonic() - seen_at > UNSERVED_S:
            self._warn_unserved()
        chunk = self._chunk(token)
        if chunk is None:
            return self._told(token) or self._missing()
        reason = chunk.told(lambda: self._told(chunk.id))
        if type(reason) is ComputationLost:
            chunk.end()  # its task has failed, and this call was not begun: it is sent by itself
            reason = None
        if chunk.is_over:
            return MessageMissing()
        return reason or (None if chunk.is_taken else self._missing())

    def _told(self, task_id: str) -> BaseException | None:
        backend = self._task.backend
        if isinstance(backend, DisabledBackend):
            return None
        try:
            meta = backend.get_task_meta(task_id)
        except Exception:  # noqa: BLE001 - the result backend is not ours to need: the flight goes on without its word
            return None
        return self._reason(meta)

    def _missing(self) -> MessageMissing | None:
        """
        Look whether our message is lost: 10 s after it was sent, and at growing distance.

        Its queue is empty, or messages that were sent after it have been served: it went with a worker that died, or a
        busy one has prefetched it. Sent again it costs a message, not a run.
        """
        if self._message is None or not self._message.is_look_due():
            return None
        try:
            waiting = producers.messages_in(self._task.app, self._queue)
        except Exception:  # noqa: BLE001 - a broker that is away says nothing; the flight is sent again in its own time
            return None
        is_overtaken = self._message.sent_at < _served_sent_at.get(self._queue_id, 0.0)
        return MessageMissing() if waiting == 0 or (waiting and is_overtaken) else None

    def _reason(self, meta: dict[str, Any]) -> BaseException | None:
        status, result, name = meta.get("status"), meta.get("result"), self._function.name
        kind = type(result).__name__
        if status == states.REVOKED:
            if "expired" in str(result):
                return Expired(f"{name} expired in its queue; raise `expires=` or add workers.")
            return Revoked(f"{name} was revoked before it ran ({result}); call again to start a new computation.")
        if status == states.FAILURE and kind == "NotRegistered":
            return UnknownTask(
                f"A worker received {name} and does not know it; import the module that decorates it in the worker "
                "(`celery -A module worker`, include=[...], autodiscover), and restart workers that run older code."
            )
        if status == states.FAILURE:
            return ComputationLost(f"{name} failed before it was begun ({kind}: {result}).")
        return None

    def note_served(self, token: str) -> None:
        """A long queue is not an unserved one."""
        queue = self._queue_id
        _served_at[queue] = time.monotonic()
        if self._message is not None:
            # Whichever of its messages was served, the first is as old as any.
            _served_sent_at[queue] = max(self._message.first_at, _served_sent_at.get(queue, 0.0))
        chunk = self._chunk(token)
        if chunk is not None:
            chunk.note_served()

    @property
    def _queue_id(self) -> tuple[int, str]:
        return id(self._task.app), self._queue

    def _warn_unserved(self) -> None:
        app, queue = self._task.app, self._queue
        warn_once(
            f"unserved {queue}",
            "taskcache: calls have waited %d s in the queue %r and no worker has taken them; "
            "start one with: celery -A %s worker -Q %s",
            UNSERVED_S,
            queue,
            app.main or "module",
            queue,
        )

    def revoke(self, token: str) -> None:
        """Revoke the task, once nobody waits for any of its calls; where it runs in a process of its own, that is ended."""
        chunk = self._chunk(token)
        if chunk is not None and not chunk.abandon(token):
            return
        try:
            producers.revoke(self._task.app, token if chunk is None else chunk.id)
        except (OperationalError, OSError) as error:
            warn_once("revoke", "taskcache: an abandoned task could not be revoked (%s)", error)

    def is_in_worker(self) -> bool:
        """True inside a running Celery task of any kind."""
        return apps.running_app() is not None

    def async_result(self, token: str, result: Result[Any]) -> Any:
        """Celery's handle, which gives the flight's value and never a silent None."""
        return FlightAsyncResult(token, result, self._task)


def _url(app: Any) -> str:
    url: str = app.connection_for_write().as_uri()
    return url


class FlightAsyncResult(AsyncResult):  # type: ignore[type-arg]  # generic in the stubs only
    """An AsyncResult whose value is the flight's: it is in the cache, not in the result backend."""

    def __init__(self, token: str, result: Result[Any], task: Any) -> None:
        super().__init__(token, backend=task.backend, task_name=task.name, app=task.app)
        self.flight = result

    def get(  # type: ignore[override]  # polling options mean nothing here
        self, timeout: float | None = None, propagate: bool = True, **options: Any
    ) -> Any:
        """The value; raises celery.exceptions.TimeoutError when it is not there in time."""
        from celery.exceptions import TimeoutError as CeleryTimeout

        from taskcache.errors import NotReady

        try:
            return self.flight(timeout=timeout)
        except NotReady as error:
            raise CeleryTimeout(str(error)) from error
        except Exception as error:
            if propagate:
                raise
            return error

    wait = get  # type: ignore[assignment]  # Celery's older name

    @property
    def result(self) -> Any:
        return None if not self.flight.ready() else self.get(propagate=False)

    info = result  # Celery's other name

    @property
    def state(self) -> Any:
        names = {"queued": "PENDING", "running": "STARTED", "retrying": "RETRY", "done": "SUCCESS"}
        return names.get(self.flight.state, "REVOKED" if self.flight.state == "cancelled" else "FAILURE")

    status = state

    def ready(self) -> bool:
        return self.flight.ready()

    def successful(self) -> bool:
        return self.flight.state == "done"

    def failed(self) -> bool:
        return self.flight.state in ("failed", "lost")
