"""
This is where a worker runs a message of several calls, one after another, each as if it had come by itself.

Each call is claimed when its turn comes, under a request of its own whose id is the flight's token. So what became of it
meanwhile (computed by somebody else, cancelled, sent again by its waiters) is found by the same code as for one call, and
what Celery does for one call (a retry, above all) it does for this one and not for the whole message.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from celery.exceptions import Ignore, Reject, Retry

from taskcache.errors import NoServer, TaskCacheError, UntrustedValue
from taskcache.launchers.serializer import SealedArguments, are_sealed
from taskcache.launchers.task import HEADER, STAGE, Stage, header_of, stage_of
from taskcache.worker import batches
from taskcache.worker.delivery import log_failed, refuse_message
from taskcache.worker.execution import send_again

Part = tuple[dict[str, Any], SealedArguments]


class CallsFailed(TaskCacheError):
    """Some calls of this message failed, and who called them was told; the others have their values."""


def execute(task: Any, args: Sequence[Any]) -> None:
    """Run what is left to do of a chunk; what Celery is told is that some calls failed, or that none did."""
    header = header_of(task.request)
    function = task.function_for(task.request)
    if function.cache.debug:
        return  # nothing is read or stored here, so there is nobody to compute for
    shared = {name: value for name, value in header.items() if name != "calls"}
    own = [{**shared, "key": key, "token": token} for key, token in header["calls"]]
    if not are_sealed(args) or len(args) != len(own):
        error = UntrustedValue("the calls of a chunk are not those it was sent with")
        raise refuse_message(task, header, function, error)
    parts = list(zip(own, args, strict=True))
    if not task.has_batches(header):
        _run_one_after_another(task, parts, function.name)
        return
    with_request = [(each, sealed, as_one(task, each, sealed, len(parts))) for each, sealed in parts]
    batches.execute(task, with_request)


def _run_one_after_another(task: Any, parts: Sequence[Part], name: str) -> None:
    failed = 0
    for header, sealed in parts:
        with as_one(task, header, sealed, len(parts)):
            try:
                task.run_one(sealed)
            except (Ignore, Retry):
                continue  # somebody else's, or it comes again by itself
            except Reject as error:
                if getattr(error, "requeue", False):
                    send_again(task, header, 0.0)
            except NoServer as error:
                if not stage_of(task.request).is_told:
                    raise  # nobody would get what the others give: their waiters send them again
                failed += 1
                log_failed(task, name, error)
            except Exception as error:  # noqa: BLE001 - it is this call's alone, and its waiters have been told
                failed += 1
                log_failed(task, name, error)
    if failed:
        raise CallsFailed(f"{failed} of {len(parts)} calls of {name} in one message failed; the log has each error.")


@contextmanager
def as_one(task: Any, header: dict[str, Any], sealed: SealedArguments, calls: int) -> Iterator[None]:
    """Give a call of a chunk the request that it would have had if it had been sent by itself."""
    whole = task.request
    task.push_request(
        id=header["token"],
        args=(sealed,),
        headers={**(whole.headers or {}), HEADER: header},
        # The limits of the message are those of its calls together.
        timelimit=[limit and limit / calls for limit in whole.timelimit or (None, None)],
        **{HEADER: header, STAGE: Stage(is_in_chunk=True)},
    )
    try:
        yield
    finally:
        task.pop_request()
