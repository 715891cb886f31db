"""This is where one flight is watched until it ends: what each look shows, when the next one is due, what is sent again."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final

from msgspec import Struct

from taskcache.errors import DispatchFailed
from taskcache.launcher import MessageMissing
from taskcache.protocol import scripts
from taskcache.protocol.flight import Ending, Errand, State, end
from taskcache.protocol.steps import Inquire, Launch, Pause, Steps
from taskcache.settings import Settings

# A flight that is not there is asked for again this often, for a quarter of a lease: a living renewer re-asserts it.
GRACE_STEP_S: Final = 0.25
GRACE: Final = 0.25
# For half of one when the server was away: a worker with a finished value offers it at pauses of up to two seconds.
GRACE_AFTER_OUTAGE: Final = 0.5
# A lease with no more than this share left has missed two renewals of five while the server answered us.
OVERDUE: Final = 0.6
# A look at a flight that is to be over comes this much later: drivers end a pause up to a twentieth of a second early.
AFTER_LAPSE_MS: Final = 100
# Waiters send a queued message again at growing distance, so that a long queue is not doubled every minute.
LONGEST_RESEND_MS: Final = 600_000


class Sighting(Struct, frozen=True):
    """What the last look at a waited flight showed."""

    state: State
    progress: bytes


def _never() -> bool:
    return False


def watch(
    errand: Errand,
    token: str,
    *,
    leads: bool,
    noticed: Callable[[Sighting], None],
    launches: bool,
    was_away: Callable[[], bool] = _never,
) -> Steps[Ending]:
    """
    Follow one flight until it ends: woken by its inbox, and looking by itself once per watchdog period.

    It looks once more right after the lease of a flight that nobody renews. Gone then, the flight is over. A flight
    that is gone before its time may be back in a moment: a server lost it, and its living renewer asserts it.
    `was_away` tells whether the server could not be asked since the last answer.
    """
    settings, key = errand.settings, errand.key
    tick_s, lease_s = settings.watchdog_ms / 1000, settings.lease_ms / 1000
    is_last, absent_s, grace_s = False, 0.0, lease_s * GRACE
    resend_ms, was_resent = settings.queued_ms, False
    heard: bytes | None = yield Pause(token, tick_s)
    while not heard:
        reply = yield from scripts.follow(
            key.around(token),
            token=token,
            inbox=errand.inbox(),
            queued_ms=settings.queued_ms,
            resend_ms=resend_ms,
            # Who cannot send must not take the turn of one who can: the message would be sent a minute later, or never.
            sent=int(leads) if launches else -1,
        )
        word = scripts.text(reply[0])
        if word == "ended":
            return reply[1]
        if was_away():
            # Who holds the lease could not renew it either, and comes back no sooner than we: what was known of it is old.
            is_last, absent_s, grace_s = False, 0.0, lease_s * GRACE_AFTER_OUTAGE
        if word == "gone":
            # Only a pause that nobody cut short is known to have lasted.
            if (is_last and heard is None) or absent_s >= grace_s:
                return None
            absent_s, is_last = absent_s + GRACE_STEP_S, False
            heard = yield Pause(token, GRACE_STEP_S)
            continue
        absent_s, leads, grace_s = 0.0, False, lease_s * GRACE
        sighting = Sighting(scripts.text(reply[1]), reply[2])  # type: ignore[arg-type]  # the script's own words
        noticed(sighting)
        if word == "resend" and launches:
            resend_ms, was_resent = min(resend_ms * 2, LONGEST_RESEND_MS), True
            # With the broker away the next turn comes, and the flight is still wanted.
            with suppress(DispatchFailed):
                yield Launch(token)
        if sighting.state == "running":
            was_resent = False
        elif launches:
            # A retry's message is not in the queue either: it waits in its worker for its time. One of ours is due.
            yield from _inquired(errand, token, is_due=sighting.state == "queued" or was_resent)
        pause_s, is_last = _until_next(settings, sighting, int(reply[3]))
        heard = yield Pause(token, pause_s)
    return heard


def _inquired(errand: Errand, token: str, *, is_due: bool) -> Steps[None]:
    """Ask whether the message of an unclaimed flight came to an end that its worker could not tell."""
    reason: BaseException | None = yield Inquire(token)
    if isinstance(reason, MessageMissing):
        if is_due:
            with suppress(DispatchFailed):
                yield Launch(token)
    elif reason is not None:
        yield from end(errand, token, owner="", envelope=errand.failure(reason, token), ttl_ms=0)


def _until_next(settings: Settings, sighting: Sighting, left_ms: int) -> tuple[float, bool]:
    """How long to pause, and whether an overdue flight is over at the end of that pause unless it is renewed."""
    tick_s, left_s = settings.watchdog_ms / 1000, (left_ms + AFTER_LAPSE_MS) / 1000
    # A renewed flight ends long before its lease, however short that is: it is looked at no more often than others.
    if sighting.state != "running" or not 0 <= left_ms <= settings.lease_ms * OVERDUE or left_s > 2 * tick_s:
        return tick_s, False
    # Two short pauses rather than a long one and a rest: the look before the last may be late and still see it.
    return (left_s, True) if left_s <= tick_s else (left_s / 2, False)
