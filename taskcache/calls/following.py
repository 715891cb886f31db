"""This is where we wait for, find again, and leave a flight on behalf of a result."""

from __future__ import annotations

import base64
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import msgspec

from taskcache.calls.computing import progress_of
from taskcache.calls.current import Progress
from taskcache.calls.invocation import Invocation
from taskcache.calls.primitives import as_ms
from taskcache.drivers import blocking, threads
from taskcache.drivers.pending import Landed, Pending
from taskcache.drivers.station import Station
from taskcache.errors import Cancelled, ComputationLost, NoServer, UsageError
from taskcache.protocol import flight
from taskcache.protocol.flight import Landing
from taskcache.protocol.steps import Call, Wait
from taskcache.protocol.watch import Sighting

# A waiter that may compute looks this often whether the queued flight is still unclaimed; what a lost retry costs.
CLAIM_EVERY_S = 1.0


_reviving = threading.Lock()


def _after_fork() -> None:
    global _reviving
    _reviving = threading.Lock()


threads.after_fork(_after_fork)


def wait(
    station: Station | None,
    pending: Pending,
    seconds: float | None,
    claims_after: float | None,
    claim: Callable[[], bool],
) -> None:
    """
    Block until a call has landed, at most `seconds`.

    With `claims_after` this thread computes a flight that nobody has begun by then: inside a worker at once, since the
    slot it would wait for may be its own.
    """
    revive(station, pending)
    if claims_after is None:
        pending.wait(seconds)
        return
    began = time.monotonic()
    pause = claims_after
    while pending.landing is None:
        left = None if seconds is None else seconds - (time.monotonic() - began)
        if left is not None and left <= pause:
            pending.wait(max(0.0, left))
            return
        if pending.wait(pause):
            return
        pause = CLAIM_EVERY_S
        try:
            if claim():
                pause = 0.0  # of several there may be more
        except NoServer:
            continue  # the keeper gives the server up in its own time, and with a reason


def revive(station: Station | None, pending: Pending) -> None:
    """In a forked child, wait anew for what the parent waited for: its threads are not here."""
    if pending.landing is not None or pending.pid == os.getpid():
        return
    with _reviving:
        # Of several threads the first: a second one would take away what the first one waits on already.
        if pending.pid == os.getpid():
            return
        pending.after_fork()
    if station is not None:
        station.keeper.adopt(pending, Wait(pending.token, pending.leads))


def updates(
    pending: Pending, seconds: float | None, claims_after: float | None, claim: Callable[[], bool]
) -> Iterator[Progress]:
    """Yield the progress of a call whenever it changes, until it has landed; it is claimed as `wait` does."""
    told: threads.Mailbox[Sighting | None] = threads.Mailbox()

    def done(_: Pending) -> None:
        told.put(None)

    pending.when_done(done)
    stop = pending.on_notice(told.put)
    deadline = None if seconds is None else time.monotonic() + seconds
    last, pause = b"", claims_after
    try:
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            claims = pause is not None and (left is None or pause < left)
            try:
                sighting = told.get(timeout=pause if claims else left)
            except queue.Empty:
                if not claims:
                    return
                pause = CLAIM_EVERY_S
                with suppress(NoServer):
                    claim()
                continue
            if sighting is None:
                return
            if sighting.progress != last:
                last = sighting.progress
                yield progress_of(last)
    finally:
        stop()
        pending.discard(done)


def join(station: Station, invocation: Invocation) -> Pending | None:
    """Wait for the flight that computes this call now; None when there is none or it is outdated."""
    flight_now, current = station.server.calls(
        [Call("HMGET", (invocation.place().flight,), ("token", "state", "stamps")), Call("MGET", invocation.stamps)]
    )
    token, state, begun = flight_now
    # Joined only when nothing it depends on was invalidated since it began; one that has not begun is always current.
    if token is None or (begun is not None and (None in current or begun != b"".join(current))):
        return None
    pending = attend(station, invocation, token.decode())
    pending.notice(Sighting(state.decode(), b""))
    return pending


def attend(station: Station, invocation: Invocation, token: str) -> Pending:
    """Wait for a flight by its token; starts nothing."""
    errand = invocation.errand(station, "")
    pending = Pending(flight.attend(errand, token), errand, None)
    wait, _ = blocking.run_until_wait(pending.steps, station.server)
    assert wait is not None
    station.keeper.adopt(pending, wait)
    return pending


def leave(station: Station, pending: Pending, revoke: bool) -> None:
    """Stop waiting; the last one to leave ends what has not begun, and may revoke what runs."""
    invocation_errand = pending.errand
    if not station.keeper.abandon(pending):
        return
    envelope = invocation_errand.failure(Cancelled(), pending.token)
    try:
        said = blocking.run(flight.depart(invocation_errand, pending.token, envelope=envelope), station.server)
    except NoServer:
        return
    if revoke and pending.launcher is not None and said in ("running", "ended"):
        # First: who came to it in this process meanwhile hears of the revocation, and has to know whose it was.
        station.left.append(pending.token)
        pending.launcher.revoke(pending.token)


def write_id(invocation: Invocation, token: str) -> str:
    """A result's id: what another process needs to find it; of the arguments only their key, and what its tags show."""
    packed = msgspec.msgpack.encode((invocation.key, invocation.label, invocation.tags, token))
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def read_id(result_id: str) -> tuple[str, str, tuple[str, ...], str]:
    """Key, label, tags and token of a result's id; raises UsageError for anything else."""
    try:
        packed = base64.urlsafe_b64decode(result_id + "=" * (-len(result_id) % 4))
        return msgspec.msgpack.decode(packed, type=tuple[str, str, tuple[str, ...], str])
    except (ValueError, TypeError, AttributeError) as error:
        raise UsageError(f"{result_id!r} is not the id of a result; pass what `result.id` gave") from error


def found(station: Station, invocation: Invocation, token: str) -> Pending:
    """The call that an id names: landed when its value is stored, else waited for; starts nothing."""
    first = station.read((invocation.redis_key, *invocation.stamps))
    landing = blocking.run(flight.judged(invocation.errand(station, ""), first[0], first[1:]), station.server)
    if landing is not None or not token:
        lost = ComputationLost("Its value is not stored any more. Call again.")
        ended = landing or Landing.failed(lost, "joined")
        return Landed(ended)
    return attend(station, invocation, token)


def server_ms(station: Station) -> int:
    """The server's clock."""
    return as_ms(station.server.call(Call("TIME", ())))


def expires_in(station: Station, invocation: Invocation) -> float | None:
    """Seconds until the entry expires, or None."""
    left_ms: Any = station.server.call(Call("PTTL", (invocation.redis_key,)))
    return left_ms / 1000 if left_ms >= 0 else None
