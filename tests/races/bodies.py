"""This is where a body runs under a flight, as calling.lead and worker/execution have it run: same steps, same order."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from taskcache.calls.computing import fresh_stamp
from taskcache.calls.invocation import sealed_value
from taskcache.drivers.renewer import Lease
from taskcache.errors import NoServer
from taskcache.protocol.flight import Errand, Landing, end, yield_back
from taskcache.protocol.stamps import tag_stamp
from tests.races.fibers import Actions, Body, Nested, Send

if TYPE_CHECKING:
    from tests.races.fleet import Fleet
    from tests.races.truth import Run

# A tag that bodies add while they run, to calls that did not name it.
ADDED = "added"
TTL_MS = {"lasting": 600_000, "short": 10_000, "zero": 0}
# How often a publication that no server answers is tried again, as PAUSES_S within the patience.
PATIENCE = 3


@dataclass(slots=True)
class Message:
    """One copy of a task on its way."""

    number: int
    token: str
    key: str
    # When the work of its arguments began, for a retry.
    since: int | None = None
    claims: bool = False


def compute(
    fleet: Fleet,
    key: str,
    errand: Errand,
    token: str,
    owner: str,
    stamps: bytes,
    *,
    lease: Lease | None = None,
    message: Message | None = None,
) -> Actions:
    """Run the body and end its flight the way it ended; gives the landing of a leader that computed here."""
    invocation = fleet.invocations[key]
    run = fleet.truth.begin(key, token, owner, message.since if message is not None else None)
    how, error, added = yield from _ran(fleet, run, errand)
    if how == "retries" or how == "retries later":
        assert message is not None
        yield from yield_back(errand, token, owner=owner, in_ms=0 if how == "retries" else 60_000)
        try:
            yield Send(fleet.message(token, key, since=run.born, claims=True))
        except Exception as refused:
            error = refused
            how = "fails"
        else:
            return None
    if how == "rejects":
        yield from yield_back(errand, token, owner=owner, in_ms=0)
        fleet.requeue(message)
        return None
    if how == "interrupted":
        yield from end(errand, token, owner=owner, envelope=b"", ttl_ms=0)
        raise KeyboardInterrupt
    ttl_ms, envelope = 0, b""
    if how == "fails":
        envelope = invocation.failure(error, token)
    else:
        ttl_ms = TTL_MS[how]
        envelope = sealed_value(
            invocation,
            run.number,
            token=token,
            created_ms=0,
            ttl_ms=ttl_ms,
            cost_ms=0,
            stamps=stamps,
            more_tags=added,
        )
    if message is None and lease is not None and lease.lost and how != "fails":
        return Landing(run.number, None, 0)
    for turn in range(PATIENCE):
        try:
            yield from end(errand, token, owner=owner, envelope=envelope, ttl_ms=ttl_ms, is_error=how == "fails")
            break
        except NoServer:
            if message is None or turn == PATIENCE - 1:
                break
    return Landing(None, error, 0) if how == "fails" else Landing(run.number, None, 0)


def _ran(fleet: Fleet, run: Run, errand: Errand) -> Generator[Any, Any, tuple[str, Exception, dict[str, bytes]]]:
    """Run the body; gives how it ended, the error if it fails, and the stamps of the tags it added."""
    error: Exception = ValueError(f"failed in run {run.number}")
    added: dict[str, bytes] = {}
    try:
        while (how := (yield Body(run.number))) in ("adds a tag", "calls"):
            if how == "calls":
                run.has_called = True
                yield Nested(next(key for key in fleet.invocations if key != run.key))
            else:
                added[ADDED] = yield from fresh_stamp(tag_stamp(fleet.settings.name, ADDED), errand.stamp_lifetime_ms)
                run.tagged = fleet.truth.tick
    except NoServer as away:
        error, how = away, "fails"
    except KeyboardInterrupt:
        how = "interrupted"
    finally:
        # Also when its process is killed.
        run.is_active = False
    return how, error, added
