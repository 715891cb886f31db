"""This is where a worker runs a batch function: claims all calls of a message together, and gives the body one list."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from functools import partial
from typing import Any

from celery.exceptions import Ignore

from taskcache.batching import BoundCall, answers
from taskcache.calls.computing import Sealed, pack_progress
from taskcache.calls.current import Computation, Progress, computing
from taskcache.codec.pickling import is_interruption
from taskcache.drivers import together
from taskcache.errors import NoServer, UntrustedValue, ValueTooLarge
from taskcache.launchers import apps
from taskcache.launchers.serializer import SealedArguments
from taskcache.protocol import scripts
from taskcache.protocol.flight import Claim, begin
from taskcache.protocol.steps import Steps
from taskcache.worker import ending
from taskcache.worker.delivery import Delivery, distrust, log_failed, opened, refuse, refuse_unopened, unreadable
from taskcache.worker.ending import Run
from taskcache.worker.execution import taken_up

# The header that a call would have had by itself, the call, and what gives it a request of its own.
Part = tuple[dict[str, Any], SealedArguments, AbstractContextManager[None]]


def execute(task: Any, parts: Sequence[Part]) -> None:
    """Compute those calls of a message that are still wanted, with one run of the body."""
    found: list[tuple[Delivery, AbstractContextManager[None]]] = []
    for header, sealed, alone in parts:
        # The local worker finds the function in each call: all of them are computed by the first one's.
        name = found[0][0].function.name if found else None
        delivery = _opened(task, header, sealed, name)
        if delivery is not None:
            found.append((delivery, alone))
    if found:
        runs = _claimed(found)
        if runs:
            _compute(task, runs)


def _opened(task: Any, header: dict[str, Any], sealed: SealedArguments, name: str | None) -> Delivery | None:
    """Open one call of the function `name`; when that cannot be, its waiters are told, and the others go on."""
    try:
        function, args, kwargs = task.open_one(sealed)
        if not function.options.batch:
            raise UntrustedValue("not a batch function")
        if name not in (None, function.name):
            raise UntrustedValue("a call of another function than its neighbours")
    except UntrustedValue as error:
        distrust(task.name, header, error)
        function = task.function_for(task.request)
        refuse(function, header, unreadable(function, error))
        return None
    except Exception as error:  # noqa: BLE001 - whatever finding an argument again raises; it is this call's alone
        function = task.function_for(task.request)
        refuse_unopened(function, header, error)
        _go_on_without(task, function, error)
        return None
    try:
        return opened(task, function, function.origin.body, args, kwargs, header, sealed)
    except Exception as error:  # noqa: BLE001 - as above
        _go_on_without(task, function, error)
        return None


def _go_on_without(task: Any, function: Any, error: Exception) -> None:
    """Leave out a call whose waiters have been told; raises what is no fault of this one."""
    if is_interruption(error) or isinstance(error, NoServer):
        raise error
    log_failed(task, function.name, error)


def _claimed(found: Sequence[tuple[Delivery, AbstractContextManager[None]]]) -> list[Run]:
    """Claim all of them in one pipeline; what the claims do not leave to us is taken care of, each by itself."""
    first = found[0][0]

    def begun() -> list[Claim]:
        return together.run(
            [
                begin(
                    *(each.invocation.errand(each.station, ""), each.token),
                    owner=each.owner,
                    inline=False,
                    again=each.is_retry,
                )
                for each, _ in found
            ],
            first.station.server,
        )

    claims = ending.patiently(begun, ending.patience_of(first))
    wanted = []
    for (delivery, alone), claim in zip(found, claims, strict=True):
        with suppress(Ignore), alone:
            wanted.append(taken_up(delivery, claim))
    return [ending.begun(delivery, began) for delivery, began in wanted]


def _compute(task: Any, runs: Sequence[Run]) -> None:
    function = runs[0].delivery.function
    computation = _shared(runs)
    with ending.told(task, runs):
        with apps.running(task), computing(computation):
            returned = task.run_batch(function, [BoundCall(run.delivery.args, run.delivery.kwargs) for run in runs])
        values = answers(returned, len(runs), function.name)
    publications = [_publication(run, value, function.name) for run, value in zip(runs, values, strict=True)]
    ending.publish(runs, publications)


def _publication(run: Run, value: Any, name: str) -> Callable[[], Steps[Any]]:
    """How one call ends: with its value, or with the error that is its value or that storing it raised."""
    if isinstance(value, BaseException):
        # CancelledError is among what `asyncio.gather(..., return_exceptions=True)` gives.
        error = value if isinstance(value, Exception) else ending.no_error(name, value)
        return partial(run.attempt.fail, error)
    try:
        return partial(_published, run, run.attempt.seal(value))
    except Exception as error:  # noqa: BLE001 - it is this call's alone
        return partial(run.attempt.fail, error)


def _published(run: Run, sealed: Sealed) -> Steps[None]:
    with suppress(ValueTooLarge):  # this call's alone, and who waits for it was told
        yield from run.attempt.publish(sealed)


def _shared(runs: Sequence[Run]) -> Computation:
    """One computation for all calls: what the body tells of it, is told of each."""
    first = runs[0].attempt.computation
    if len(runs) == 1:
        return first
    server = runs[0].delivery.station.server

    def renew(packed: bytes) -> list[str]:
        try:
            return [
                scripts.text(reply) for reply in together.run([run.attempt.renewal(packed) for run in runs], server)
            ]
        except NoServer:
            return ["away"]

    def tell(progress: Progress) -> None:
        packed = pack_progress(progress)
        for run in runs:
            if run.attempt.lease is not None:
                run.attempt.lease.progress = packed
        renew(packed)

    computation = Computation(
        computes=frozenset().union(*(run.attempt.computation.computes for run in runs)),
        # A tag's stamp is the same for all of them.
        tags=first.tags,
        tell=tell,
        ask_cancelled=lambda: all(word in ("ended", "unowned") for word in renew(b"")),
    )
    for run in runs:
        run.attempt.computation = computation
    return computation
