"""This is where one call is sent as a Celery task: an ordinary `apply_async`, in bounded time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from celery import states
from celery.backends.base import DisabledBackend
from celery.result import AsyncResult
from celery.utils.saferepr import saferepr
from kombu.exceptions import EncodeError, OperationalError

from taskcache.errors import ComputationLost, DispatchFailed, Expired, Revoked, UnknownTask
from taskcache.events import warn_once
from taskcache.launcher import MessageMissing
from taskcache.launchers import apps
from taskcache.launchers.producers import messages_in, producer_of
from taskcache.launchers.task import HEADER, ROUTING

if TYPE_CHECKING:
    from taskcache.calling import Arguments
    from taskcache.decorators import AsyncFunction
    from taskcache.invocation import Invocation
    from taskcache.launchers.serializer import SealedArguments
    from taskcache.result import Result

# A queue that nobody serves is an operator's mistake far more often than a long queue, after this long.
UNSERVED_S: Final = 10.0
# No worker is busy with other messages of an empty queue for this long, as a rule; nor with those of a queue that goes on.
MISSING_S: Final = 10.0
LONGEST_MISSING_S: Final = 600.0
# When each queue was last seen to be served, by any call of this process, and when the youngest of these calls was sent.
_served_at: dict[tuple[int, str], float] = {}
_served_sent_at: dict[tuple[int, str], float] = {}


class CeleryLauncher:
    """Sends one call to the queue of its task."""

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
        self._token = ""
        # The first message of its flight and the last one; 0 in who joined and has sent none.
        self._first_at = self._sent_at = 0.0
        self._missing_at = 0.0
        self._patience_s = MISSING_S
        # Written now: what the caller changes afterwards is not what was called.
        self._reprs = (saferepr(arguments[0], 1024), saferepr(arguments[1], 1024))

    def launch(self, token: str) -> None:
        """Send the call under this token."""
        options: dict[str, Any] = dict(
            task_id=token,
            # The value goes to the cache, and only there.
            ignore_result=True,
            headers={HEADER: self._header(token)},
            argsrepr=self._reprs[0],
            kwargsrepr=self._reprs[1],
            **self._per_call(),
        )
        self._note_sent(token)
        if self._is_eager:
            # It runs now, and what it raises is delivered by its flight, also with `task_eager_propagates`.
            self._task.apply_async((self._sealed,), {}, throw=False, **options)
            return
        try:
            with producer_of(self._task.app) as producer:
                self._task.apply_async((self._sealed,), {}, producer=producer, retry=False, **options)
        except EncodeError as error:
            raise DispatchFailed(f"{self._function.name} could not be written as a message: {error}") from error
        except (OperationalError, OSError) as error:
            raise DispatchFailed(
                f"{self._function.name}: the broker {_url(self._task.app)} did not take the task ({error}); "
                "check broker_url and that the broker runs."
            ) from error

    def _note_sent(self, token: str) -> None:
        now = time.monotonic()
        if token != self._token:
            # After a takeover too: the message of another flight is another message.
            self._token, self._first_at, self._patience_s = token, now, MISSING_S
        self._sent_at, self._missing_at = now, now + self._patience_s

    @property
    def _is_eager(self) -> bool:
        return bool(self._task.app.conf.task_always_eager)

    def _header(self, token: str) -> dict[str, Any]:
        return {"key": self._invocation.key, "token": token, "above": sorted(self._above)}

    def _per_call(self) -> dict[str, Any]:
        """Where this call goes, and what `with_options` changed for it; everything else is on the task."""
        own = self._task.function.options.celery
        given = self._function.options.celery
        return {name: value for name, value in given.items() if name in ROUTING or own.get(name) != value}

    def inquire(self, token: str) -> BaseException | None:
        """Look at Celery's own state of a task that nobody has claimed."""
        if self._is_eager:
            return None
        seen_at = max(self._first_at, _served_at.get(self._queue_id, 0.0))
        if self._first_at and time.monotonic() - seen_at > UNSERVED_S:
            self._warn_unserved()
        return self._told(token) or self._missing()

    def _told(self, token: str) -> BaseException | None:
        backend = self._task.backend
        if isinstance(backend, DisabledBackend):
            return None
        try:
            meta = backend.get_task_meta(token)
        except Exception:  # noqa: BLE001 - the result backend is not ours to need: the flight goes on without its word
            return None
        return self._reason(meta)

    def _missing(self) -> MessageMissing | None:
        """
        Look whether our message is lost: 10 s after it was sent, and at growing distance.

        Its queue is empty, or messages that were sent after it have been served: it went with a worker that died, or a
        busy one has prefetched it. Sent again it costs a message, not a run.
        """
        now = time.monotonic()
        if not self._sent_at or now < self._missing_at:
            return None
        self._patience_s = min(2 * self._patience_s, LONGEST_MISSING_S)
        self._missing_at = now + self._patience_s
        try:
            waiting = messages_in(self._task.app, self._queue)
        except Exception:  # noqa: BLE001 - a broker that is away says nothing; the flight is sent again in its own time
            return None
        is_overtaken = self._sent_at < _served_sent_at.get(self._queue_id, 0.0)
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

    def note_served(self) -> None:
        """A long queue is not an unserved one."""
        queue = self._queue_id
        _served_at[queue] = time.monotonic()
        # Whichever of its messages was served, the first is as old as any.
        _served_sent_at[queue] = max(self._first_at, _served_sent_at.get(queue, 0.0))

    @property
    def _queue_id(self) -> tuple[int, str]:
        return id(self._task.app), self._queue

    @property
    def _queue(self) -> str:
        queue: str = self._function.options.celery.get("queue") or self._task.app.conf.task_default_queue
        return queue

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
        """Revoke the task; where it runs in a process of its own, that is ended."""
        try:
            self._task.app.control.revoke(token, terminate=True)
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
