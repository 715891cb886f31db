"""This is where those who wait are told how a body ended: with values, an error, a retry, or an interruption."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain, repeat
from typing import Any, Final, TypeVar

from celery.exceptions import Ignore, Reject, Retry, WorkerShutdown, WorkerTerminate
from msgspec import Struct

from taskcache.calls import calling
from taskcache.calls.computing import Attempt
from taskcache.drivers import blocking, together
from taskcache.drivers.renewer import Lease
from taskcache.drivers.topology import Server
from taskcache.errors import ComputationLost, NoServer, UsageError
from taskcache.events import warn_once
from taskcache.launchers.task import HEADER, header_in, stage_of
from taskcache.protocol.flight import Claim, Lead, yield_back
from taskcache.protocol.steps import Steps
from taskcache.settings import Settings
from taskcache.worker.delivery import Delivery

# Between two tries to claim or to publish: short at first, since a server that restarts is back in a second.
PAUSES_S: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0)
# Values that are published in one round trip: few enough that a pipeline of large ones stays small.
PAGE: Final = 50

T = TypeVar("T")


class Run(Struct, frozen=True):
    """One call whose body runs, and the attempt that it is."""

    delivery: Delivery
    attempt: Attempt


def begun(delivery: Delivery, began: Lead | Claim) -> Run:
    """Begin to compute a flight that was claimed or elected; its lease is held by `told`."""
    errand = delivery.invocation.errand(delivery.station, delivery.owner)
    lease = None
    if delivery.task.request.is_eager or delivery.is_renamed:
        # No main process knows this attempt, so it is kept alive from here.
        lease = Lease(errand.key, delivery.token, delivery.owner, held=True)
    attempt = Attempt(
        delivery.invocation,
        delivery.function.options,
        errand,
        token=delivery.token,
        owner=delivery.owner,
        stamps=began.stamps,
        now_ms=began.now_ms,
        run=delivery.run,
        lease=lease,
        above=frozenset(delivery.header.get("above", ())),
        note_degraded=partial(calling.note_degraded, delivery.function),
    )
    return Run(delivery, attempt)


@contextmanager
def told(task: Any, runs: Sequence[Run]) -> Iterator[None]:
    """Run a body for these calls; whatever it raises is told to those who wait for them."""
    stage = stage_of(task.request)
    stage.runs = runs
    name = runs[0].delivery.function.name
    try:
        # In here, so that whatever comes between lets them go again.
        for run in runs:
            if run.attempt.lease is not None:
                run.delivery.station.renewer.hold(run.attempt.lease)
        yield
    except Retry:
        raise  # released before the message was sent: the flight waits for it
    except Reject as error:
        if getattr(error, "requeue", False):
            give_back(runs, in_ms=0)
        else:
            fail(runs, ComputationLost(f"{name} rejected its message."))
        raise
    except Ignore:
        fail(runs, ComputationLost(f"{name} raised Ignore."))
        raise
    except Exception as error:
        fail(runs, error)
        stage.is_told = True
        raise
    except BaseException as error:
        if is_of_the_worker(error, runs[0].delivery.is_in_child):
            if not runs[0].delivery.is_in_child:
                fail(runs, error)
            raise
        lost = no_error(name, error)
        fail(runs, lost)
        # Not as it is: Celery would take it for the death of a process, and run the body again where its options say so.
        raise lost from error
    finally:
        for run in runs:
            if run.attempt.lease is not None:
                run.delivery.station.renewer.drop(run.attempt.lease)


def is_of_the_worker(error: BaseException, is_in_child: bool) -> bool:
    """
    Whether an exception that is no Exception is an interruption of this worker, after which somebody else may compute.

    Everything else is the body's own, and would be the same in every run. In a pool's process SystemExit ends that
    process, and the main process tells so.
    """
    of_worker = (SystemExit,) if is_in_child else (WorkerShutdown, WorkerTerminate)
    # By name, since greenlets need not be installed.
    is_killed = any(kind.__name__ == "GreenletExit" for kind in type(error).__mro__)
    return is_killed or isinstance(error, (KeyboardInterrupt, *of_worker))


def no_error(name: str, error: BaseException) -> ComputationLost:
    """What is told of a call whose body ended with something that no caller may be given to raise."""
    return ComputationLost(
        f"{name} raised {type(error).__name__}{f' ({error})' if str(error) else ''}, which ends more than the call and is "
        "not passed on; catch it in the body, and raise an Exception or return a value."
    )


def fail(runs: Sequence[Run], error: BaseException) -> None:
    """End the flights of all these calls with one error."""
    publish(runs, [partial(run.attempt.fail, error) for run in runs])


def publish(runs: Sequence[Run], publications: Sequence[Callable[[], Steps[Any]]]) -> None:
    """Publish with patience: a finished value is offered past its lease too, since `kept` finds its waiters."""
    server, deadline = runs[0].delivery.station.server, patience_of(runs[0].delivery)
    for start in range(0, len(publications), PAGE):
        _publish_page(publications[start : start + PAGE], server, deadline, runs[0].delivery.function.name)


def _publish_page(page: Sequence[Callable[[], Steps[Any]]], server: Server, deadline: float, name: str) -> None:
    def speak() -> None:
        if len(page) == 1:
            blocking.run(page[0](), server)
        else:
            together.run([publication() for publication in page], server)

    try:
        patiently(speak, deadline)
    except NoServer as error:
        warn_once(f"unpublished {name} {error}", "taskcache: a result of %s could not be stored (%s)", name, error)
        raise


def patience_of(delivery: Delivery) -> float:
    """Until when what concerns a call is said to a server that is away, on the clock of `time.monotonic`."""
    settings: Settings = delivery.function.cache.settings
    return time.monotonic() + settings.publish_patience_ms / 1000


def patiently(speak: Callable[[], T], deadline: float) -> T:
    """Speak to the server, and again while it is away; raises NoServer at the deadline."""
    pauses = chain(PAUSES_S, repeat(PAUSES_S[-1]))
    while True:
        try:
            return speak()
        except NoServer:
            if time.monotonic() > deadline:
                raise
        time.sleep(next(pauses) * random.uniform(0.5, 1.0))


def give_back(runs: Sequence[Run], *, in_ms: int) -> None:
    """Give claimed flights back: they wait for a message that comes again."""
    server = runs[0].delivery.station.server
    try:
        together.run(
            [yield_back(run.attempt.errand, run.attempt.token, owner=run.attempt.owner, in_ms=in_ms) for run in runs],
            server,
        )
    except NoServer as error:
        # The message comes again all the same: it finds them taken, and later either free or gone, once their leases end.
        warn_once("give back", "taskcache: calls that are tried again wait until their leases are over (%s)", error)


def release_for_retry(task: Any, args: Any, kwargs: Any, options: dict[str, Any]) -> None:
    """
    Give the flights of a running task back before its retry message is sent.

    Raises UsageError before that when the retry has other arguments: the waiters of this key would wait for another.
    """
    runs: Sequence[Run] = stage_of(task.request).runs
    if not runs:
        _keep_direct(task)
        return
    request = task.request
    # As the message has them, sealed, is how many pass on what they were given.
    own_args = args is None or args is request.args
    own_kwargs = kwargs is None or kwargs == (request.kwargs or {})
    if not (own_args and own_kwargs) and not all(_has_arguments(run.delivery, args, kwargs) for run in runs):
        name = runs[0].delivery.function.name
        raise UsageError(
            f"A retry of {name} with other arguments would be another call, of which those who wait hear nothing; leave "
            f"args= and kwargs= out of retry(), or return what {name} gives when it is called with the others."
        )
    retries = task.request.retries + 1
    most = options.get("max_retries", task.max_retries)
    if most is not None and retries > most:
        return  # Celery raises the error itself, and that one is delivered
    countdown = options.get("countdown")
    if options.get("eta") is not None:
        countdown = max(0.0, options["eta"].timestamp() - time.time())
    if countdown is None:
        countdown = task.default_retry_delay
    give_back(runs, in_ms=round(countdown * 1000))
    flights = [(run.delivery.invocation.key, run.attempt.token) for run in runs]
    header = {**runs[0].delivery.header, "claims": True}
    header.pop("owner", None)
    header.pop("as_sent", None)
    if len(runs) == 1:
        header["key"], header["token"] = flights[0]
    else:
        del header["key"], header["token"]
        header["calls"] = flights
    if runs[0].delivery.sealed is not None:
        # Of the calls of its message only those that were computed here come again.
        task.request.args = tuple(run.delivery.sealed for run in runs)
    task.request.headers = {**(task.request.headers or {}), HEADER: header}


def _keep_direct(task: Any) -> None:
    """A body that ran without the cache has no flight to give back; its retry is still of who reads it from Celery."""
    header = header_in(task.request)
    if header.get("direct"):
        # As in a retry with a flight: else the main process would take the token for that of somebody else's.
        task.request.headers = {**(task.request.headers or {}), HEADER: {**header, "claims": True}}


def _has_arguments(delivery: Delivery, args: Any, kwargs: Any) -> bool:
    """Whether a retry with these arguments, None for the old ones, is one of the same call."""
    try:
        return (args is None or tuple(args) == delivery.args) and (kwargs is None or dict(kwargs) == delivery.kwargs)
    except Exception:  # noqa: BLE001 - whatever comparing them raises; an array has no single answer
        return False
