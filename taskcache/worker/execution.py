"""This is where a worker runs one task: it claims the flight, computes, publishes, and says what became of it."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from celery.exceptions import Ignore, Reject, Retry

from taskcache import calling, following
from taskcache.computing import Attempt, Sealed, new_owner
from taskcache.current import computing
from taskcache.drivers import blocking
from taskcache.drivers.renewer import Lease
from taskcache.drivers.station import Station
from taskcache.errors import ComputationLost, NoServer, UntrustedValue
from taskcache.events import warn_once
from taskcache.invocation import Invocation
from taskcache.launchers import apps
from taskcache.launchers.task import HEADER, open_call, read_header
from taskcache.protocol.entry import new_token
from taskcache.protocol.flight import Claim, Landing, Lead, begin, end, obtain, yield_back

Body = Callable[..., Any]
LONGEST_RESEND_S: Final = 60.0
# Between two tries to publish: short at first, since a server that restarts is back in a second.
PUBLISH_PAUSES_S: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0)


@dataclass(slots=True)
class Delivery:
    """One message in the process that runs it."""

    task: Any
    function: Any
    body: Body
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    header: dict[str, Any]
    station: Station
    invocation: Invocation

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
    def is_in_child(self) -> bool:
        """In a process of the pool's: why it is interrupted is known to the main process, which tells it."""
        return self.header.get("main") not in (None, os.getpid())

    def run(self, steps: Any) -> Any:
        return blocking.run(steps, self.station.server)


def execute(task: Any, body: Body, args: Any, kwargs: Any, function: Any = None) -> Any:
    """Run a delivered task under its flight; what it returns and raises is what Celery is told."""
    function = function or task.function
    if function.cache.debug or task.request.called_directly:
        return body(*args, **kwargs)
    header = header_of(task.request)
    try:
        args, kwargs = open_call(function, args, kwargs)
    except UntrustedValue as error:
        raise refuse(function, header, unreadable(function, error)) from error
    invocation = function.invocation(args, kwargs)
    if header.get("key", invocation.key) != invocation.key:
        raise refuse(function, header, other_version(function))
    try:
        station = function.cache.station
        delivery = Delivery(task, function, body, args, kwargs, header, station, invocation)
        return _begin_direct(delivery) if _makes_its_flight(delivery) else _begin_sent(delivery)
    except NoServer as error:
        if getattr(task.request, "taskcache_attempt", None) is not None:
            raise  # the body has run: what failed is its publication, and a second run would fare no better
        calling.note_degraded(function, error)
        return body(*args, **kwargs)


def header_of(request: Any) -> dict[str, Any]:
    """Our header of a delivery; in eager mode there is no main process to have completed it."""
    own = request.headers if isinstance(request.headers, dict) else {}
    # What the main process has completed comes first: another one beside it is of somebody's making.
    found = read_header(getattr(request, HEADER, None) or own.get(HEADER)) or {"direct": True}
    found.setdefault("token", new_token())
    found.setdefault("owner", new_owner())
    return found


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


def refuse(function: Any, header: dict[str, Any], reason: ComputationLost) -> ComputationLost:
    """End the flight of a message that cannot be run, so that nobody waits for it."""
    if "key" in header:
        cache = function.cache
        errand = Invocation.of(cache.settings, cache.codec, header["key"], function.name, (), 0).errand(
            cache.station, ""
        )
        token = str(header["token"])
        blocking.run(
            end(errand, token, owner="", envelope=errand.failure(reason, token), ttl_ms=0), cache.station.server
        )
    return reason


def _makes_its_flight(delivery: Delivery) -> bool:
    return delivery.is_direct and not delivery.header.get("claims")


def _begin_direct(delivery: Delivery) -> Any:
    """A message without a flight: it is a caller first, and its sender wants the value."""
    station, invocation = delivery.station, delivery.invocation
    landing, first = calling.look(station, invocation)
    if landing is not None:
        return calling.landed(landing)
    errand = invocation.errand(station, delivery.owner)
    wait, ended = blocking.run_until_wait(obtain(errand, first, delivery.token), station.server, launch=_no_launch)
    if isinstance(ended, Landing):
        return calling.landed(ended)
    if isinstance(ended, Lead):
        return _compute(delivery, ended, delivery.token)
    assert wait is not None
    # Somebody else's: this slot may be the one it waits for, so what nobody has begun is computed here.
    pending = following.attend(station, invocation, wait.token)
    arguments = (delivery.args, delivery.kwargs)
    following.wait(
        station,
        pending,
        None,
        0.0,
        lambda: calling.claim_here(delivery.function, station, invocation, wait.token, arguments),
    )
    assert pending.landing is not None
    return calling.landed(pending.landing)


def _no_launch(step: Any) -> None:
    raise AssertionError(f"a direct delivery computes itself and launches nothing: {step!r}")


def _begin_sent(delivery: Delivery) -> Any:
    """A message of a flight: claim it, and do what the claim says."""
    errand = delivery.invocation.errand(delivery.station, "")
    claim: Claim = delivery.run(begin(errand, delivery.token, owner=delivery.owner, inline=False))
    if claim.word == "run":
        return _compute(delivery, claim, delivery.token)
    if claim.word == "taken":
        # It may be a retry, or a redelivery after a death: dropped, the flight could wait for nobody.
        _send_again(delivery, claim.left_ms / 1000)
    elif claim.word == "gone":
        return _take_over(delivery)
    elif delivery.is_direct:
        return _begin_direct(_renamed(delivery))
    raise Ignore(f"flight {claim.word}")


def _take_over(delivery: Delivery) -> Any:
    """The flight vanished: elect another, under a token of its own, unless that is somebody's already."""
    if delivery.task.request.retries or delivery.header.get("claims"):
        # Its arguments may come from work done before an invalidation (tests/model, H27): what it gives is not stored.
        if delivery.is_direct:
            return delivery.body(*delivery.args, **delivery.kwargs)
        raise Ignore("a retry whose flight is over")
    if delivery.is_direct:
        return _begin_direct(_renamed(delivery))
    station, invocation = delivery.station, delivery.invocation
    landing, first = calling.look(station, invocation)
    if landing is not None:
        raise Ignore("stored meanwhile")
    renamed = _renamed(delivery)
    errand = invocation.errand(station, renamed.owner)
    _, ended = blocking.run_until_wait(obtain(errand, first, renamed.token), station.server, launch=_no_launch)
    if isinstance(ended, Lead):
        return _compute(renamed, ended, renamed.token)
    raise Ignore("led by another")


def _renamed(delivery: Delivery) -> Delivery:
    """A token is elected once, ever: a second election of the same message has another."""
    header = {**delivery.header, "token": new_token(), "owner": new_owner(), "claims": False}
    return Delivery(
        delivery.task,
        delivery.function,
        delivery.body,
        delivery.args,
        delivery.kwargs,
        header,
        delivery.station,
        delivery.invocation,
    )


def _send_again(delivery: Delivery, left_s: float) -> None:
    task, request = delivery.task, delivery.task.request
    again = int(delivery.header.get("again", 0))
    countdown = min(LONGEST_RESEND_S, max(left_s, 0.0) + 2.0**again)
    header = {**delivery.header, "again": again + 1}
    header.pop("owner", None)
    task.apply_async(
        request.args,
        request.kwargs,
        task_id=request.id,
        countdown=countdown,
        headers={HEADER: header},
        ignore_result=request.ignore_result,
        retries=request.retries,
    )


def _compute(delivery: Delivery, began: Lead | Claim, token: str) -> Any:
    """Run the body, and end the flight the way the body ended."""
    attempt = _attempt(delivery, began, token)
    delivery.task.request.update({"taskcache_attempt": (delivery, attempt)})
    try:
        with apps.running(delivery.task), computing(attempt.computation):
            value = delivery.body(*delivery.args, **delivery.kwargs)
        sealed = attempt.seal(value)
    except Retry:
        raise  # released before the message was sent: the flight waits for it
    except Reject as error:
        if getattr(error, "requeue", False):
            delivery.run(yield_back(attempt.errand, token, owner=attempt.owner, in_ms=0))
        else:
            _publish(attempt, lambda: attempt.fail(ComputationLost(f"{delivery.function.name} rejected its message.")))
        raise
    except Ignore:
        _publish(attempt, lambda: attempt.fail(ComputationLost(f"{delivery.function.name} raised Ignore.")))
        raise
    except BaseException as error:
        told = error
        if isinstance(error, Exception) or not delivery.is_in_child:
            _publish(attempt, lambda: attempt.fail(told))
        raise
    finally:
        if attempt.lease is not None:
            delivery.station.renewer.drop(attempt.lease)
    try:
        return _deliver(attempt, sealed)
    except NoServer:
        if not delivery.is_direct:
            raise
        return sealed.value  # who sent it reads it from Celery


def _attempt(delivery: Delivery, began: Lead | Claim, token: str) -> Attempt:
    errand = delivery.invocation.errand(delivery.station, delivery.owner)
    lease = None
    if delivery.task.request.is_eager or token != header_of(delivery.task.request).get("token"):
        # No main process knows this attempt, so it is kept alive from here.
        lease = delivery.station.renewer.hold(Lease(errand.key, token, delivery.owner, held=True))
    return Attempt(
        delivery.invocation,
        delivery.function.options,
        errand,
        token=token,
        owner=delivery.owner,
        stamps=began.stamps,
        now_ms=began.now_ms,
        run=delivery.run,
        lease=lease,
        above=frozenset(delivery.header.get("above", ())),
    )


def _deliver(attempt: Attempt, sealed: Sealed) -> Any:
    _publish(attempt, lambda: attempt.publish(sealed))
    return sealed.value


def _publish(attempt: Attempt, publication: Callable[[], Any]) -> None:
    """Publish with patience: a finished value is offered past its lease too, since `kept` finds its waiters."""
    deadline = time.monotonic() + attempt.errand.settings.publish_patience_ms / 1000
    for turn in range(1_000_000):
        try:
            attempt.run(publication())
            return
        except NoServer as error:
            if time.monotonic() > deadline:
                warn_once(f"unpublished {error}", "taskcache: a result could not be stored (%s)", error)
                raise
            pause = PUBLISH_PAUSES_S[min(turn, len(PUBLISH_PAUSES_S) - 1)]
            time.sleep(pause * random.uniform(0.5, 1.0))


def release_for_retry(task: Any, options: dict[str, Any]) -> None:
    """Give the flight of a running task back before its retry message is sent."""
    held = getattr(task.request, "taskcache_attempt", None)
    if held is None:
        return
    delivery, attempt = held
    retries = task.request.retries + 1
    most = options.get("max_retries", task.max_retries)
    if most is not None and retries > most:
        return  # Celery raises the error itself, and that one is delivered
    countdown = options.get("countdown")
    if options.get("eta") is not None:
        countdown = max(0.0, options["eta"].timestamp() - time.time())
    if countdown is None:
        countdown = task.default_retry_delay
    attempt.run(yield_back(attempt.errand, attempt.token, owner=attempt.owner, in_ms=round(countdown * 1000)))
    header = {**delivery.header, "key": delivery.invocation.key, "token": attempt.token, "claims": True}
    header.pop("owner", None)
    task.request.headers = {**(task.request.headers or {}), HEADER: header}
