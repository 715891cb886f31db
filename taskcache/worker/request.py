"""This is where the worker's main process sees each delivery: it names the attempt, renews it, and tells of its death."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from billiard.einfo import ExceptionInfo
from billiard.exceptions import Terminated, WorkerLostError
from celery.exceptions import InvalidTaskError
from celery.worker import state
from celery.worker.request import Request
from celery.worker.strategy import default as default_strategy

from taskcache.calls.computing import new_owner
from taskcache.calls.invocation import Invocation
from taskcache.drivers import together
from taskcache.drivers.renewer import Lease
from taskcache.drivers.topology import Server
from taskcache.errors import ComputationLost, Expired, NoServer, Revoked, TimeLimitExceeded, UntrustedValue
from taskcache.events import warn_once
from taskcache.launchers.serializer import accept, are_sealed
from taskcache.launchers.task import HEADER, read_header
from taskcache.protocol import scripts
from taskcache.protocol.entry import EntryKey, new_token
from taskcache.protocol.flight import Errand, end, yield_back
from taskcache.worker import deaths
from taskcache.worker.delivery import refuse_message
from taskcache.worker.leases import renewer_of

# Who is told why a message ended: all of its calls, or those of them that have begun.
ALL: Final = "all"
RUNNING: Final = "running"
# The broker may give a message to a worker that stops coldly for as long as that worker's last question lasts, a second.
LAST_MESSAGE_MS = 1_500


def strategy(task: Any, app: Any, consumer: Any, **options: Any) -> Callable[..., Any]:
    """
    Celery's own way to take a message, for messages that are some.

    An empty or misshapen one would end the worker, and Celery prints the body of what it refuses, arguments and all.
    """
    # Once more: a program may have named what it accepts after its tasks were made.
    accept(app)
    deaths.heard_by(consumer)
    take = default_strategy(task, app, consumer, **options)

    def careful(message: Any, body: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            is_message = _is_message(message.payload)
        except Exception as error:  # noqa: BLE001 - whatever a deserializer raises for bytes that anybody may have sent
            is_message, what = False, type(error).__name__
        else:
            what = "not args, kwargs and embedded options"
        if not is_message:
            raise _refused(task, message, f"a message of {task.name} that cannot be read ({what})") from None
        try:
            return take(message, body, *args, **kwargs)
        except InvalidTaskError as error:
            raise _refused(task, message, str(error)) from None

    return careful


def _refused(task: Any, message: Any, what: str) -> InvalidTaskError:
    """Count a message that Celery is to refuse, tell those who wait for its calls, and leave Celery nothing to print."""
    message.body = b""
    headers = message.headers if isinstance(message.headers, dict) else {}
    header = read_header(headers.get(HEADER))
    try:
        refuse_message(task, header, task.function_for(headers), UntrustedValue(what))
    except Exception as error:  # noqa: BLE001 - whatever a forged header leads to; the worker's main process goes on
        warn_once("refused", "taskcache: nobody could be told of a message that was refused (%s)", type(error).__name__)
    return InvalidTaskError(what)


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

    # Of all its calls, also of those whose turn has not come: which of them runs is known to the child that runs them,
    # and renewing what nobody has claimed does nothing.
    leases: tuple[Lease, ...] = ()
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
            # Celery ends the worker for a message that lacks what it expects.
            raise InvalidTaskError(f"a message without what a task message has ({type(error).__name__})") from None
        header = read_header(self._request_dict.get(HEADER))
        self._request_dict[HEADER] = header
        # Whatever a `key_fn` raises for arguments that do not fit: the body fails with the same words, and tells them.
        with suppress(Exception):
            self._complete(header)
            self.leases = tuple(Lease(self._place(key), token, header["owner"]) for key, token in self._calls())

    @property
    def function(self) -> Any:
        return self.task.function_for(self._request_dict)

    def _complete(self, header: dict[str, Any]) -> None:
        header["owner"] = new_owner()
        # A body that is interrupted in another process than this one leaves the last word to this one.
        header["main"] = os.getpid()
        if not header.get("claims") and ("calls" in header or "token" in header):
            # It has a flight. Somebody who says that it makes one would have it computed for nobody.
            header.pop("direct", None)
        if "calls" in header:
            return
        if "token" not in header:
            header["token"] = new_token()
        if "key" not in header:
            # Sent by name, by somebody who has no taskcache: the key is made of what came.
            header["direct"] = True
            if not are_sealed(self._args):
                header["key"] = self.function.make_key(tuple(self._args), dict(self._kwargs))

    def _calls(self) -> list[tuple[str, str]]:
        """Key and token of each call that this message carries."""
        header = self._request_dict[HEADER]
        calls: list[tuple[str, str]] = header["calls"] if "calls" in header else [(header["key"], header["token"])]
        return calls

    def _place(self, key: str) -> EntryKey:
        return EntryKey.of(f"{self.function.cache.name}:{key}".encode("utf-8", "surrogatepass"))

    def info(self, safe: bool = False) -> Any:
        """What `celery inspect` shows: arguments as the caller described them, since only the body opens them."""
        return super().info(safe=safe or are_sealed(self._args))

    # -- it runs --------------------------------------------------------------------------------------

    def on_accepted(self, pid: Any, time_accepted: float) -> None:
        super().on_accepted(pid, time_accepted)
        if not self.leases or self.function.cache.debug:
            return
        deaths.watch(pid)
        try:
            renewer = renewer_of(self.function)
        except NoServer as error:
            warn_once("hold", "taskcache: leases cannot be kept alive (%s)", error)
            return
        for lease in self.leases:
            lease.is_wanted = self._is_active
            renewer.hold(lease)

    def _is_active(self) -> bool:
        return self in state.active_requests

    # -- it ends in a way that its child cannot tell ----------------------------------------------------

    def on_failure(self, exc_info: ExceptionInfo, send_failed_event: bool = True, return_ok: bool = False) -> None:
        error = exc_info.exception
        error = getattr(error, "exc", error) if type(error).__name__ == "ExceptionWithTraceback" else error
        if self._already_revoked or self._already_cancelled:
            pass  # told below: the child died of the signal that was sent to it
        elif isinstance(error, WorkerLostError | SystemExit | KeyboardInterrupt):
            # Celery 5.7 and later.
            is_tried_again = bool(getattr(self.task, "retry_on_worker_lost", False))
            if is_tried_again and self._has_retries:
                # Celery sends this header, completed: without this it would look like that of a forger, and who reads the
                # value from Celery would be told nothing where the flight is over by then.
                header = self._request_dict[HEADER]
                # And it is the message as it was sent, whose calls may begin, unless it was that of a retry before.
                header["as_sent"] = bool(
                    header.get("as_sent") or not (self._request_dict.get("retries") or header.get("claims"))
                )
                header["claims"] = True
                self._give_back(in_ms=round(self.task.default_retry_delay * 1000))
            elif self.task.acks_late and self.task.reject_on_worker_lost and not is_tried_again:
                self._give_back()
            else:
                self._tell(
                    ComputationLost(f"The process that computed {self.name} died: {error}. Call again."), RUNNING
                )
        elif isinstance(error, Terminated):
            self._tell(Revoked(f"{self.name} was revoked while it ran ({error}); call again to start a new one."))
        super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)

    def terminate(self, pool: Any, signal: Any = None) -> None:
        super().terminate(pool, signal)
        if self._already_revoked:
            self._tell(Revoked(f"{self.name} was revoked while it ran; call again to start a new computation."))

    def cancel(self, pool: Any, signal: Any = None, emit_retry: bool = True) -> None:
        """End a task because the broker was lost, which delivers its message again, or because this worker stops coldly."""
        try:
            super().cancel(pool, signal, emit_retry)
        except NotImplementedError:
            # `solo` and `threads` can end no body. It goes on, and is nobody else's yet; or the worker's end interrupts it.
            return
        # Acknowledged before it began, it is delivered by nobody but those who wait for it.
        self._give_back(None if self.task.acks_late else LAST_MESSAGE_MS)

    def on_timeout(self, soft: bool, timeout: float) -> None:
        if not soft:
            self._tell(
                TimeLimitExceeded(
                    f"{self.name} ran into its time limit of {timeout} s and was ended; "
                    "raise `time_limit=` or make the function faster."
                ),
                RUNNING,
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

    @property
    def _has_retries(self) -> bool:
        """Whether Celery sends another try of its own; with none left it does not even give the message back."""
        retries, most = self._request_dict.get("retries") or 0, self.task.max_retries
        return most is None or retries < most

    def _give_back(self, resend_ms: int | None = None, in_ms: int = 0) -> None:
        """The message comes again: whoever receives it finds flights that it can claim at once."""
        if not self.leases:
            return
        with suppress(NoServer):
            together.run(
                [
                    yield_back(errand, token, owner=self._owner, in_ms=in_ms, resend_ms=resend_ms)
                    for errand, token in self._running()
                ],
                self._server,
            )

    def _tell(self, reason: ComputationLost, told: str = ALL) -> None:
        """
        End flights with a reason, under this owner, or unclaimed; what has ended already stays as it is.

        RUNNING: of several calls those that have not begun are left alone. Their waiters send them again.
        """
        if not self.leases:
            return
        try:
            left = self._running() if told == RUNNING else self._errands()
            for owner in (self._owner, ""):
                said = together.run(
                    [
                        end(errand, token, owner=owner, envelope=errand.failure(reason, token), ttl_ms=0)
                        for errand, token in left
                    ],
                    self._server,
                )
                left = [each for each, word in zip(left, said, strict=True) if word == "refused"]
        except NoServer as error:
            warn_once("tell", "taskcache: waiters could not be told of a lost computation (%s)", error)

    def _running(self) -> list[tuple[Errand, str]]:
        """
        Those of several calls that run: their leases can be renewed. A single call is always meant.

        The others have not begun, or have failed once and wait for a retry, which is a message of its own.
        """
        calls = self._errands()
        if len(calls) == 1:
            return calls
        words = together.run(
            [
                scripts.renew(
                    errand.key.around(token),
                    token=token,
                    owner=self._owner,
                    lease_ms=errand.settings.lease_ms,
                    held=0,
                    progress=b"",
                )
                for errand, token in calls
            ],
            self._server,
        )
        return [each for each, word in zip(calls, words, strict=True) if scripts.text(word) in ("live", "retired")]

    @property
    def _server(self) -> Server:
        server: Server = self.function.cache.station.server
        return server

    @property
    def _owner(self) -> str:
        owner: str = self._request_dict[HEADER]["owner"]
        return owner

    def _errands(self) -> list[tuple[Errand, str]]:
        """Each call of this message, with the token of its flight."""
        function, cache = self.function, self.function.cache
        return [
            (Invocation.of(cache.settings, cache.codec, key, function.name, (), 0).errand(cache.station, ""), token)
            for key, token in self._calls()
        ]
