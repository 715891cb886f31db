"""This is where a worker opens a message: whose call it is, what it is called with, and what is told when it cannot be."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from taskcache import events
from taskcache.calls.computing import new_owner
from taskcache.calls.invocation import Invocation
from taskcache.codec.pickling import is_interruption
from taskcache.drivers import blocking
from taskcache.drivers.station import Station
from taskcache.errors import ComputationLost, NoServer, TaskCacheError, UntrustedValue
from taskcache.launchers.serializer import SealedArguments
from taskcache.launchers.task import open_call
from taskcache.protocol.entry import new_token
from taskcache.protocol.flight import end

Body = Callable[..., Any]
E = TypeVar("E", bound=Exception)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One call of a message, in the process that runs it."""

    task: Any
    function: Any
    body: Body
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    header: dict[str, Any]
    invocation: Invocation
    # As it came in a message of several calls.
    sealed: SealedArguments | None = None
    # Elected here, under a token that the main process does not know and so does not renew.
    is_renamed: bool = False

    @property
    def station(self) -> Station:
        station: Station = self.function.cache.station
        return station

    @property
    def token(self) -> str:
        return str(self.header["token"])

    @property
    def owner(self) -> str:
        return str(self.header["owner"])

    @property
    def is_direct(self) -> bool:
        """Sent by `.delay()` or a canvas: whoever sent it reads the value from Celery."""
        return bool(self.header.get("direct"))

    @property
    def makes_its_flight(self) -> bool:
        return self.is_direct and not self.header.get("claims")

    @property
    def is_retry(self) -> bool:
        """Its arguments may come from work done before an invalidation, so it begins no flight (tests/model, H27, H32)."""
        if self.header.get("as_sent"):
            return False  # it comes again because a process died, with the arguments of the call
        return bool(self.task.request.retries or self.header.get("claims"))

    @property
    def is_in_child(self) -> bool:
        """In a process of the pool's: why it is interrupted is known to the main process, which tells it."""
        return self.header.get("main") not in (None, os.getpid())

    def run(self, steps: Any) -> Any:
        return blocking.run(steps, self.station.server)

    def renamed(self) -> Delivery:
        """A token is elected once, ever: a second election of the same message has another."""
        header = {**self.header, "token": new_token(), "owner": new_owner(), "claims": False}
        return replace(self, header=header, is_renamed=True)


def opened(
    task: Any,
    function: Any,
    body: Body,
    args: Any,
    kwargs: Any,
    header: dict[str, Any],
    sealed: SealedArguments | None = None,
) -> Delivery:
    """Open one call; when that cannot be, its waiters are told the error that is raised."""
    try:
        args, kwargs = open_call(function, args, kwargs)
        invocation = function.invocation(args, kwargs)
    except UntrustedValue as error:
        distrust(function.name, header, error)
        raise refuse(function, header, unreadable(function, error)) from error
    except Exception as error:
        # A row that is gone, a parameter that this code has not got, a `key_fn` that raises: their message is used up.
        refuse_unopened(function, header, error)
        raise
    if header.get("key", invocation.key) != invocation.key:
        reason = other_version(function)
        distrust(function.name, header, reason)
        raise refuse(function, header, reason)
    return Delivery(task, function, body, args, kwargs, header, invocation, sealed)


def distrust(name: str, header: dict[str, Any], error: TaskCacheError) -> None:
    """
    Count a message, or a call of one, that is refused here, and log the first one of each name.

    `name` is what this worker calls the task or its function: what an unread message says of itself is anybody's text.
    """
    events.emit(events.Event("untrusted", name, header.get("key", "")))
    events.warn_once(f"untrusted message {name}", "taskcache: a message of %s is refused here (%s)", name, error)


def refuse_message(task: Any, header: dict[str, Any], function: Any, error: UntrustedValue) -> ComputationLost:
    """Refuse a message as a whole: count it once, and tell those who wait for any of its calls."""
    distrust(task.name, header, error)
    reason = unreadable(function, error)
    calls = header["calls"] if "calls" in header else [(header.get("key"), header.get("token"))]
    with suppress(NoServer):
        for key, token in calls:
            if key is not None and token is not None:
                refuse(function, {"key": key, "token": token}, reason)
    return reason


def unreadable(function: Any, error: UntrustedValue) -> ComputationLost:
    return ComputationLost(
        f"The worker cannot read the arguments of {function.name} ({error}); give the caller and the worker the same "
        "secret: Cache(secret=...) or TASKCACHE_SECRET."
    )


def other_version(function: Any) -> ComputationLost:
    return ComputationLost(
        f"The worker has another version of {function.name}: the same arguments make another key there. "
        "Deploy the same code to callers and workers."
    )


def refuse_unopened(function: Any, header: dict[str, Any], error: Exception) -> None:
    """Tell the waiters what opening their call raised; a soft time limit is the task's, and no fault of the call."""
    if not is_interruption(error):
        refuse(function, header, error)


def log_failed(task: Any, name: str, error: Exception) -> None:
    """Log the error of one call of several: who waits has been told, but Celery logs that of a whole message only."""
    if not isinstance(error, (ComputationLost, *task.throws)):
        events.logger.error("taskcache: a call of %s failed", name, exc_info=error)


def refuse(function: Any, header: dict[str, Any], reason: E) -> E:
    """End the flight of a message that cannot be run, so that nobody waits for it."""
    # With `debug` nothing is read or stored, so there is nobody to tell.
    if "key" in header and not function.cache.debug:
        cache = function.cache
        errand = Invocation.of(cache.settings, cache.codec, header["key"], function.name, (), 0).errand(
            cache.station, ""
        )
        token = str(header["token"])
        blocking.run(
            end(errand, token, owner="", envelope=errand.failure(reason, token), ttl_ms=0), cache.station.server
        )
    return reason
