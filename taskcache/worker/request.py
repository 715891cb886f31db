"""This is where the worker's main process sees each delivery: it names the attempt, renews it, and tells of its death."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from billiard.einfo import ExceptionInfo
from billiard.exceptions import Terminated, WorkerLostError
from celery.exceptions import InvalidTaskError
from celery.worker import state
from celery.worker.request import Request
from celery.worker.strategy import default as default_strategy

from taskcache.computing import new_owner
from taskcache.drivers import blocking
from taskcache.drivers.renewer import Lease
from taskcache.errors import ComputationLost, Expired, NoServer, Revoked, TimeLimitExceeded
from taskcache.events import warn_once
from taskcache.invocation import Invocation
from taskcache.launchers.serializer import is_sealed
from taskcache.launchers.task import HEADER, read_header
from taskcache.protocol.entry import EntryKey, new_token
from taskcache.protocol.flight import end, yield_back
from taskcache.worker.leases import renewer_of

# The broker may give a message to a worker that stops coldly for as long as that worker's last question lasts, a second.
LAST_MESSAGE_MS = 1_500


def strategy(task: Any, app: Any, consumer: Any, **options: Any) -> Callable[..., Any]:
    """
    Celery's own way to take a message, for messages that are some.

    An empty or misshapen one would end the worker, and Celery prints the body of what it refuses, arguments and all.
    """
    take = default_strategy(task, app, consumer, **options)

    def careful(message: Any, body: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            is_message = _is_message(message.payload)
        except Exception as error:  # noqa: BLE001 - whatever a deserializer raises for bytes that anybody may have sent
            is_message, what = False, type(error).__name__
        else:
            what = "not args, kwargs and embedded options"
        if not is_message:
            message.body = b""
            raise InvalidTaskError(f"a message of {task.name} that cannot be read ({what})") from None
        return take(message, body, *args, **kwargs)

    return careful


def _is_message(payload: Any) -> bool:
    if isinstance(payload, dict):
        return True  # of Celery's first protocol, which looks for itself
    return (
        isinstance(payload, list | tuple)
        and len(payload) == 3
        and isinstance(payload[0], list | tuple)
        and isinstance(payload[1], dict)
        and (payload[2] is None or isinstance(payload[2], dict))
    )


class FlightRequest(Request):
    """One delivery of one message. The owner is made here: the same worker can receive the same message twice."""

    lease: Lease | None = None
    # What the stubs leave out of the class that Celery documents for subclassing.
    _request_dict: dict[str, Any]
    _args: Any
    _kwargs: Any
    task: Any
    _already_revoked: bool
    _already_cancelled: bool

    def __init__(self, message: Any, *args: Any, **kwargs: Any) -> None:
        try:
            super().__init__(message, *args, **kwargs)
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            # Celery ends the worker for a message that lacks what it expects, and prints the body of one it refuses.
            message.body = b""
            raise InvalidTaskError(f"a message without what a task message has ({type(error).__name__})") from None
        header = read_header(self._request_dict.get(HEADER))
        self._request_dict[HEADER] = header
        # Whatever a `key_fn` raises for arguments that do not fit: the body fails with the same words, and tells them.
        with suppress(Exception):
            self._complete(header)
            self.lease = Lease(self._place(header["key"]), header["token"], header["owner"])

    @property
    def function(self) -> Any:
        return self.task.function_for(self._request_dict)

    def _complete(self, header: dict[str, Any]) -> None:
        header.setdefault("token", new_token())
        header["owner"] = new_owner()
        # A body that is interrupted in another process than this one leaves the last word to this one.
        header["main"] = os.getpid()
        if "key" not in header:
            # Sent by name, by somebody who has no taskcache: the key is made of what came.
            header["direct"] = True
            if not is_sealed(self._args):
                header["key"] = self.function.make_key(tuple(self._args), dict(self._kwargs))

    def _place(self, key: str) -> EntryKey:
        return EntryKey.of(f"{self.function.cache.name}:{key}".encode("utf-8", "surrogatepass"))

    def info(self, safe: bool = False) -> Any:
        """What `celery inspect` shows: arguments as the caller described them, since only the body opens them."""
        return super().info(safe=safe or is_sealed(self._args))

    # -- it runs --------------------------------------------------------------------------------------

    def on_accepted(self, pid: Any, time_accepted: float) -> None:
        super().on_accepted(pid, time_accepted)
        if self.lease is not None and not self.function.cache.debug:
            self.lease.is_wanted = self._is_active
            try:
                renewer_of(self.function).hold(self.lease)
            except NoServer as error:
                warn_once("hold", "taskcache: leases cannot be kept alive (%s)", error)

    def _is_active(self) -> bool:
        return self in state.active_requests

    # -- it ends in a way that its child cannot tell ----------------------------------------------------

    def on_failure(self, exc_info: ExceptionInfo, send_failed_event: bool = True, return_ok: bool = False) -> None:
        error = exc_info.exception
        error = getattr(error, "exc", error) if type(error).__name__ == "ExceptionWithTraceback" else error
        if self._already_revoked or self._already_cancelled:
            pass  # told below: the child died of the signal that was sent to it
        elif isinstance(error, WorkerLostError | SystemExit | KeyboardInterrupt):
            if self.task.acks_late and self.task.reject_on_worker_lost:
                self._give_back()
            else:
                self._tell(ComputationLost(f"The process that computed {self.name} died: {error}. Call again."))
        elif isinstance(error, Terminated):
            self._tell(Revoked(f"{self.name} was revoked while it ran ({error}); call again to start a new one."))
        super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)

    def terminate(self, pool: Any, signal: Any = None) -> None:
        super().terminate(pool, signal)
        if self._already_revoked:
            self._tell(Revoked(f"{self.name} was revoked while it ran; call again to start a new computation."))

    def cancel(self, pool: Any, signal: Any = None, emit_retry: bool = True) -> None:
        """End a task because the broker was lost, which delivers its message again, or because this worker stops coldly."""
        super().cancel(pool, signal, emit_retry)
        # Acknowledged before it began, it is delivered by nobody but those who wait for it.
        self._give_back(None if self.task.acks_late else LAST_MESSAGE_MS)

    def on_timeout(self, soft: bool, timeout: float) -> None:
        if not soft:
            self._tell(
                TimeLimitExceeded(
                    f"{self.name} ran into its time limit of {timeout} s and was ended; "
                    "raise `time_limit=` or make the function faster."
                )
            )
        super().on_timeout(soft, timeout)

    def revoked(self) -> bool:
        # Looked at first: Celery puts what has expired on its list of revoked tasks.
        was_revoked = self.id in state.revoked
        gone: bool = super().revoked()
        if gone:
            expired = bool(self.expires) and not was_revoked
            self._tell(
                Expired(f"{self.name} expired in its queue; raise `expires=` or add workers.")
                if expired
                else Revoked(f"{self.name} was revoked before it ran; call again to start a new computation.")
            )
        return gone

    def _give_back(self, resend_ms: int | None = None) -> None:
        """The message comes again: whoever receives it finds a flight that it can claim at once."""
        if self.lease is None:
            return
        lease, station = self.lease, self.function.cache.station
        errand = self._errand(station)
        with suppress(NoServer):
            steps = yield_back(errand, lease.token, owner=lease.owner, in_ms=0, resend_ms=resend_ms)
            blocking.run(steps, station.server)

    def _tell(self, reason: ComputationLost) -> None:
        """End the flight with a reason, under this owner, or unclaimed; what has ended already stays as it is."""
        if self.lease is None:
            return
        lease, station = self.lease, self.function.cache.station
        errand = self._errand(station)
        try:
            envelope = errand.failure(reason, lease.token)
            for owner in (lease.owner, ""):
                said = blocking.run(end(errand, lease.token, owner=owner, envelope=envelope, ttl_ms=0), station.server)
                if said != "refused":
                    break
        except NoServer as error:
            warn_once("tell", "taskcache: waiters could not be told of a lost computation (%s)", error)

    def _errand(self, station: Any) -> Any:
        cache = self.function.cache
        key = self._request_dict[HEADER]["key"]
        return Invocation.of(cache.settings, cache.codec, key, self.function.name, (), 0).errand(station, "")
