"""This is where a worker runs one call: it claims the flight, computes, publishes, and says what became of it."""

from __future__ import annotations

from typing import Any, Final

from celery.exceptions import Ignore

from taskcache.calls import calling, following
from taskcache.calls.current import computing
from taskcache.drivers import blocking
from taskcache.errors import NoServer
from taskcache.launchers import apps
from taskcache.launchers.serializer import are_sealed
from taskcache.launchers.task import HEADER, header_of, open_call, stage_of
from taskcache.protocol.flight import Claim, Landing, Lead, NothingLeft, begin, obtain
from taskcache.worker import ending
from taskcache.worker.delivery import Body, Delivery, opened

LONGEST_RESEND_S: Final = 60.0
# `read_header` takes no larger number.
MOST_AGAIN: Final = 63


def execute(task: Any, body: Body, args: Any, kwargs: Any, function: Any = None) -> Any:
    """Run a delivered call under its flight; what it returns and raises is what Celery is told."""
    function = function or task.function
    if task.request.called_directly:
        return body(*args, **kwargs)
    if function.cache.debug:
        args, kwargs = open_call(function, args, kwargs)
        return body(*args, **kwargs)
    stage = stage_of(task.request)
    if stage.runs and not are_sealed(args):
        return body(*args, **kwargs)  # called like a function by the body that runs: a call of its own, of no message
    delivery = opened(task, function, body, args, kwargs, header_of(task.request))
    try:
        return _begin_direct(delivery) if delivery.makes_its_flight else _begin_sent(delivery)
    except NoServer as error:
        if stage.runs or stage.is_told:
            raise  # the body has run: its own error, or its publication failed, and a second run would fare no better
        if not delivery.is_direct or stage.is_in_chunk:
            raise  # it would be computed for nobody: its waiters are told through the server, or have it sent again
        calling.note_degraded(function, error)
        return body(*delivery.args, **delivery.kwargs)


def _begin_direct(delivery: Delivery) -> Any:
    """A message without a flight: it is a caller first, and its sender wants the value."""
    station, invocation = delivery.station, delivery.invocation
    deaths = 0
    while True:
        landing, first = calling.look(station, invocation)
        if landing is not None:
            return calling.landed(landing)
        errand = invocation.errand(station, delivery.owner)
        wait, ended = blocking.run_until_wait(obtain(errand, first, delivery.token), station.server)
        if isinstance(ended, Lead):
            return _compute(delivery, ended)
        if wait is not None:
            ended = _followed(delivery, wait.token)
        assert ended is not None
        # Who led it was killed, or interrupted: a caller begins anew then, and nobody has elected our token yet.
        deaths += 1
        if not isinstance(ended.error, NothingLeft) or deaths > errand.settings.max_deaths:
            stage_of(delivery.task.request).is_told = True
            return calling.landed(ended)


def _followed(delivery: Delivery, token: str) -> Landing:
    """Wait for somebody else's flight. This slot may be the one it waits for, so what nobody has begun is computed here."""
    station, invocation = delivery.station, delivery.invocation
    pending = following.attend(station, invocation, token)
    arguments = (delivery.args, delivery.kwargs)
    following.wait(
        station,
        pending,
        None,
        0.0,
        lambda: calling.claim_here(delivery.function, station, invocation, token, lambda: arguments),
    )
    assert pending.landing is not None
    return pending.landing


def _begin_sent(delivery: Delivery) -> Any:
    """A message of a flight: claim it, and do what the claim says."""
    errand = delivery.invocation.errand(delivery.station, "")
    again = delivery.is_retry

    def begun() -> Claim:
        claim: Claim = delivery.run(begin(errand, delivery.token, owner=delivery.owner, inline=False, again=again))
        return claim

    # Who reads its value from Celery needs no server for it; for all others it is of no use before there is one.
    claim = begun() if delivery.is_direct else ending.patiently(begun, ending.patience_of(delivery))
    if delivery.is_direct and claim.word == "gone" and again:
        return delivery.body(*delivery.args, **delivery.kwargs)
    if delivery.is_direct and claim.word not in ("run", "taken"):
        return _begin_direct(delivery.renamed())
    return _compute(*taken_up(delivery, claim))


def taken_up(delivery: Delivery, claim: Claim) -> tuple[Delivery, Claim | Lead]:
    """What is to be computed after a claim; raises Ignore when that is nothing, once the message is taken care of."""
    if claim.word == "run":
        return delivery, claim
    if claim.word == "taken":
        # It may be a retry, or a redelivery after a death: dropped, the flight could wait for nobody.
        send_again(delivery.task, delivery.header, claim.left_ms / 1000)
    elif claim.word == "gone":
        return _taken_over(delivery)
    raise Ignore(f"flight {claim.word}")


def _taken_over(delivery: Delivery) -> tuple[Delivery, Lead]:
    """The flight vanished: elect another, under a token of its own, unless that is somebody's already."""
    if delivery.is_retry:
        raise Ignore("a retry whose flight is over")
    station, invocation = delivery.station, delivery.invocation
    landing, first = calling.look(station, invocation)
    if landing is not None:
        raise Ignore("stored meanwhile")
    renamed = delivery.renamed()
    errand = invocation.errand(station, renamed.owner)
    _, ended = blocking.run_until_wait(obtain(errand, first, renamed.token), station.server)
    if isinstance(ended, Lead):
        return renamed, ended
    raise Ignore("led by another")


def send_again(task: Any, header: dict[str, Any], left_s: float) -> None:
    """Have the call of this request delivered again, when whoever computes it now may have died."""
    request = task.request
    again = int(header.get("again", 0))
    countdown = min(LONGEST_RESEND_S, max(left_s, 0.0) + 2.0**again)
    header = {**header, "again": min(again + 1, MOST_AGAIN)}
    header.pop("owner", None)
    # As Celery's own retry is made: with the rest of its chain, its chord, its links and its limits.
    again_sent = task.signature_from_request(
        request,
        countdown=countdown,
        headers={**(request.headers or {}), HEADER: header},
        ignore_result=request.ignore_result,
        retries=request.retries,
    )
    again_sent.apply_async()


def _compute(delivery: Delivery, began: Lead | Claim) -> Any:
    """Run the body, and end the flight the way the body ended."""
    run = ending.begun(delivery, began)
    with ending.told(delivery.task, [run]):
        with apps.running(delivery.task), computing(run.attempt.computation):
            value = delivery.body(*delivery.args, **delivery.kwargs)
        sealed = run.attempt.seal(value)
    try:
        ending.publish([run], [lambda: run.attempt.publish(sealed)])
    except NoServer:
        if not delivery.is_direct:
            raise  # who sent a direct one reads it from Celery
    return sealed.value
