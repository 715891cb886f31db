"""This is where we list the runs: the small complete ones of every build, the large ones, and the holes put back."""

from __future__ import annotations

from dataclasses import dataclass

from tests.model.rules import Rules
from tests.model.world import Run

LIFETIMES = ("lasting", "short", "zero")


def _run(name: str, *kinds: str, callers: int = 2, workers: int = 2) -> Run:
    """Make a plain run in which each of these kinds may happen once."""
    return Run(name, callers=callers, workers=workers, budget=dict.fromkeys(kinds, 1))


# Complete within seconds; together they pass every line of every script.
SMALL = (
    _run("2c1w bump", "bump", workers=1),
    _run("2c2w forget", "forget"),
    _run("2c1w bump forget", "bump", "forget", workers=1),
    _run("2c2w forget crash_worker", "forget", "crash_worker"),
    _run("2c1w forget crash_caller", "forget", "crash_caller", workers=1),
    _run("1c2w forget empty", "forget", "empty", callers=1),
    _run("2c1w forget pause", "forget", "pause", workers=1),
    _run("2c2w forget retry", "forget", "retry"),
    _run("2c1w put forget", "put", "forget", workers=1),
    _run("2c2w leave forget", "leave", "forget"),
    Run("2c2w forget retry, arguments from before", budget={"forget": 1, "retry": 1}, retry_args=True),
    Run("2c2w forget ttl", budget={"forget": 1}, lifetimes=LIFETIMES),
    Run("1c2w forget crash_child, main apart", callers=1, budget={"forget": 1, "crash_child": 1}, apart=True),
    Run("2c1w leave forget, one inbox", workers=1, budget={"leave": 1, "forget": 1}, one_process=True),
    Run("2c0w cached forget crash_caller", workers=0, budget={"forget": 1, "crash_caller": 1}, computing=2),
    Run("3c0w cached bump lost_reply", 3, 0, {"bump": 1, "lost_reply": 1}, lifetimes=LIFETIMES, computing=3),
    Run("1c1w revoke retry", 1, 1, {"revoke": 1, "retry": 1}),
    _run("2c2w forget missing", "forget", "missing"),
    _run("1c2w forget missing retry", "forget", "missing", "retry", callers=1),
    _run("2c1w failover", "failover", workers=1),
    _run("2c1w put failover", "put", "failover", workers=1),
    Run("2c0w cached forget failover", 2, 0, {"forget": 1, "failover": 1}, computing=2),
    Run(
        "1c2w forget retry failover, arguments from before",
        1,
        2,
        {"forget": 1, "retry": 1, "failover": 1},
        retry_args=True,
    ),
)

# The runs of PROTOCOL.md section 7 that are not among the small ones.
FIRST = (
    _run("2c2w bump forget", "bump", "forget"),
    _run("2c1w forget crash_worker", "forget", "crash_worker", workers=1),
    _run("2c2w forget empty", "forget", "empty"),
    _run("2c2w forget empty_slot", "forget", "empty_slot"),
    _run("2c2w put forget", "put", "forget"),
    _run("2c2w forget pause", "forget", "pause"),
    _run("2c2w forget crash_caller", "forget", "crash_caller"),
    _run("2c2w forget evict", "forget", "evict"),
    _run("2c2w forget dup", "forget", "dup"),
    _run("2c2w forget lose_message", "forget", "lose_message"),
    _run("2c2w forget fail", "forget", "fail"),
    _run("2c2w forget expire_entry", "forget", "expire_entry"),
    Run("2c2w bump, both orders", budget={"bump": 1}, order="both"),
    Run("2c2w bump crash_worker, both orders", budget={"bump": 1, "crash_worker": 1}, order="both"),
    _run("2c2w bump pause", "bump", "pause"),
    _run("2c2w bump retry", "bump", "retry"),
    _run("2c2w bump evict", "bump", "evict"),
    Run("2c2w bump dup crash_worker, acks late", budget={"bump": 1, "dup": 1, "crash_worker": 1}, acks_late=True),
    _run("2c1w forget empty pause", "forget", "empty", "pause", workers=1),
    _run(
        "2c1w forget crash empty caller lose",
        "forget",
        "crash_worker",
        "empty",
        "crash_caller",
        "lose_message",
        workers=1,
    ),
    _run("3c1w forget", "forget", callers=3, workers=1),
    Run("2c1w bump2 forget", workers=1, budget={"bump": 2, "forget": 1}),
    _run("2c1w bump empty", "bump", "empty", workers=1),
    Run("2c1w bump2 crash_worker", workers=1, budget={"bump": 2, "crash_worker": 1}),
    _run("2c2w forget retry pause", "forget", "retry", "pause"),
    _run("3c1w forget crash_worker", "forget", "crash_worker", callers=3, workers=1),
    Run("2c2w stale bump forget", budget={"bump": 1, "forget": 1}, stale=True),
    Run("2c2w stale forget crash_worker", budget={"forget": 1, "crash_worker": 1}, stale=True),
    Run("3c1w stale forget", 3, 1, {"forget": 1}, stale=True),
    _run("2c2w bump empty", "bump", "empty"),
    _run("3c1w bump forget", "bump", "forget", callers=3, workers=1),
    _run("2c2w forget crash_worker pause", "forget", "crash_worker", "pause"),
    Run("2c2w inline forget crash_worker", budget={"forget": 1, "crash_worker": 1}, inline=True),
    Run("2c2w inline bump retry", budget={"bump": 1, "retry": 1}, inline=True),
    _run("2c2w forget lost_claim", "forget", "lost_claim"),
)

# What the first model left out.
BEYOND = (
    _run("2c2w forget retry crash_worker", "forget", "retry", "crash_worker"),
    _run("2c2w forget retry lose_message", "forget", "retry", "lose_message"),
    _run("2c2w forget retry fail_launch", "forget", "retry", "fail_launch"),
    _run("2c2w bump revoke retry", "bump", "revoke", "retry"),
    Run("2c2w bump retry pause, arguments from before", budget={"bump": 1, "retry": 1, "pause": 1}, retry_args=True),
    Run("2c2w forget, main apart", budget={"forget": 1}, apart=True),
    Run("2c1w bump retry, main apart", workers=1, budget={"bump": 1, "retry": 1}, apart=True),
    Run("2c2w forget crash_child, main apart", budget={"forget": 1, "crash_child": 1}, apart=True),
    Run("2c1w forget crash_child empty, main apart", 2, 1, {"forget": 1, "crash_child": 1, "empty": 1}, apart=True),
    Run("1c2w forget empty retry, main apart", 1, 2, {"forget": 1, "empty": 1, "retry": 1}, apart=True),
    Run(
        "1c2w forget crash_child dup, main apart, acks late",
        1,
        2,
        {"forget": 1, "crash_child": 1, "dup": 1},
        apart=True,
        acks_late=True,
    ),
    Run("2c2w forget lost_reply ttl", budget={"forget": 1, "lost_reply": 1}, lifetimes=LIFETIMES),
    Run("2c2w bump lost_reply pause", budget={"bump": 1, "lost_reply": 1, "pause": 1}),
    Run("2c1w forget lost_reply2", 2, 1, {"forget": 1, "lost_reply": 2}, lifetimes=LIFETIMES),
    Run("3c1w forget lost_reply, ttl zero", 3, 1, {"forget": 1, "lost_reply": 1}, lifetimes=("zero",)),
    _run("3c1w leave lost_reply", "leave", "lost_reply", callers=3, workers=1),
    _run("2c2w leave forget retry", "leave", "forget", "retry"),
    _run("2c2w leave forget empty", "leave", "forget", "empty"),
    _run("2c2w leave forget crash_worker", "leave", "forget", "crash_worker"),
    Run("3c1w leave2 forget", 3, 1, {"leave": 2, "forget": 1}),
    Run("3c1w leave forget, one inbox", 3, 1, {"leave": 1, "forget": 1}, one_process=True),
    Run("2c2w stale leave forget", budget={"leave": 1, "forget": 1}, stale=True),
    Run("2c2w bump forget ttl", budget={"bump": 1, "forget": 1}, lifetimes=LIFETIMES),
    Run("2c2w forget pause ttl", budget={"forget": 1, "pause": 1}, lifetimes=LIFETIMES),
    Run("3c0w cached bump forget crash_caller", 3, 0, {"bump": 1, "forget": 1, "crash_caller": 1}, computing=3),
    Run(
        "3c0w cached forget crash_caller lost_reply pause ttl",
        3,
        0,
        {"forget": 1, "crash_caller": 1, "lost_reply": 1, "pause": 1},
        lifetimes=LIFETIMES,
        computing=3,
    ),
    Run("3c0w cached forget crash_caller empty", 3, 0, {"forget": 1, "crash_caller": 1, "empty": 1}, computing=3),
    Run("3c0w cached leave forget crash_caller", 3, 0, {"leave": 1, "forget": 1, "crash_caller": 1}, computing=3),
    Run("4c0w cached bump forget", 4, 0, {"bump": 1, "forget": 1}, computing=4),
    Run("2c2w cached and queued, bump crash_caller", 2, 2, {"bump": 1, "crash_caller": 1}, computing=1),
    Run(
        "2c2w forget retry lost_claim, arguments from before",
        budget={"forget": 1, "retry": 1, "lost_claim": 1},
        retry_args=True,
    ),
    Run(
        "2c2w bump retry lost_claim, arguments from before",
        budget={"bump": 1, "retry": 1, "lost_claim": 1},
        retry_args=True,
    ),
    Run(
        "1c2w forget retry lost_claim, arguments from before",
        1,
        2,
        {"forget": 1, "retry": 1, "lost_claim": 1},
        retry_args=True,
    ),
    # A failover to a replica that hears of no more writes from any moment on.
    _run("1c1w failover", "failover", callers=1, workers=1),
    _run("2c2w failover", "failover"),
    _run("2c1w forget failover", "forget", "failover", workers=1),
    _run("2c1w bump failover", "bump", "failover", workers=1),
    _run("2c1w leave failover", "leave", "failover", workers=1),
    _run("1c2w retry failover", "retry", "failover", callers=1),
    _run("2c1w crash_worker failover", "crash_worker", "failover", workers=1),
    _run("2c1w crash_caller failover", "crash_caller", "failover", workers=1),
    _run("1c2w lose_message failover", "lose_message", "failover", callers=1),
    Run("2c1w failover ttl", workers=1, budget={"failover": 1}, lifetimes=LIFETIMES),
    Run("2c1w failover, main apart", workers=1, budget={"failover": 1}, apart=True),
    # A message that is said to be missing: delivered twice while its flight is queued, running, retrying, or over.
    Run("2c2w forget missing2", budget={"forget": 1, "missing": 2}),
    _run("2c2w bump missing", "bump", "missing"),
    _run("2c2w forget missing retry", "forget", "missing", "retry"),
    Run("1c2w bump missing retry, arguments from before", 1, 2, {"bump": 1, "missing": 1, "retry": 1}, retry_args=True),
    _run("2c2w forget missing crash_worker", "forget", "missing", "crash_worker"),
    _run("2c1w forget missing pause", "forget", "missing", "pause", workers=1),
    _run("2c2w forget missing fail", "forget", "missing", "fail"),
    _run("2c2w leave forget missing", "leave", "forget", "missing"),
    Run("2c1w leave missing, one inbox", workers=1, budget={"leave": 1, "missing": 1}, one_process=True),
    Run("2c2w forget missing ttl", budget={"forget": 1, "missing": 1}, lifetimes=LIFETIMES),
    Run("2c2w forget missing, main apart", budget={"forget": 1, "missing": 1}, apart=True),
    Run(
        "1c2w missing crash_child, main apart, acks late",
        1,
        2,
        {"missing": 1, "crash_child": 1},
        apart=True,
        acks_late=True,
    ),
    _run("1c2w revoke missing retry", "revoke", "missing", "retry", callers=1),
    _run("2c1w forget missing empty", "forget", "missing", "empty", workers=1),
)

RUNS = (*SMALL, *FIRST, *BEYOND)


@dataclass(frozen=True)
class Hole:
    """A rule taken away, and the invariant that the model must then see broken."""

    run: Run
    breaks: str


def _hole(name: str, breaks: str, rules: Rules, *kinds: str, callers: int = 2, workers: int = 1) -> Hole:
    return Hole(Run(name, callers, workers, dict.fromkeys(kinds, 1), rules=rules), breaks)


def _retry_hole(name: str, rules: Rules, loss: str) -> Hole:
    """Of a retry whose arguments hold work from before an invalidation, and whose flight is lost in one way or another."""
    return Hole(Run(name, 1, 1, {"forget": 1, "retry": 1, loss: 1}, retry_args=True, rules=rules), "I4/I5")


HOLES = (
    _hole("H1 follow any", "I1", Rules(follow_any=True), "bump"),
    _hole("H2 forget keeps", "I4/I5", Rules(forget_keeps=True), "forget"),
    _hole("H3 share a wait", "I1", Rules(share_wait=True), "bump"),
    _hole("H4 stamp at publish", "I4/I5", Rules(stamp_at_publish=True), "bump"),
    _hole("H5 counter stamps", "I4/I5", Rules(counter_stamps=True), "bump", "evict"),
    _hole("H6 a renewer re-asserts live", "I1", Rules(live_reassert=True), "forget", "empty"),
    _hole("H6 a waiter re-asserts live", "I4/I5", Rules(waiter_reasserts=True), "forget", "empty"),
    _hole("H6 missing stores, slot emptied", "I4/I5", Rules(missing_stores=True), "forget", "empty_slot"),
    _hole("H7 missing stores", "I4/I5", Rules(missing_stores=True), "forget", "pause"),
    _hole("H8 reuse a token", "I2", Rules(reuse_token=True), "dup", "pause", workers=2),
    _hole("H8 reuse a token, missing message", "I2", Rules(reuse_token=True), "missing", "pause", workers=2),
    _hole("H9 never resend, leader dies", "I3", Rules(never_resend=True), "crash_caller"),
    _hole("H9 never resend, message lost", "I3", Rules(never_resend=True), "lose_message", callers=1),
    _hole(
        "H10 message first, taken drops, never resend",
        "I3",
        Rules(message_first=True, taken_drops=True, never_resend=True),
        "retry",
        callers=1,
        workers=2,
    ),
    _hole("H11 displace at once", "I2b", Rules(displace_at_once=True), "bump"),
    _hole("H12 owner unchecked", "I1", Rules(owner_unchecked=True), "forget", "lost_claim"),
    Hole(Run("H14 marker unread", 1, 1, {}, apart=True, rules=Rules(marker_unread=True)), "I6"),
    Hole(Run("H15 assert what was never held", 1, 2, {"dup": 1}, apart=True, rules=Rules(assert_unheld=True)), "I6"),
    Hole(
        Run(
            "H26 elects twice",
            3,
            1,
            {"forget": 1, "lost_reply": 1},
            lifetimes=("zero",),
            rules=Rules(elects_twice=True),
        ),
        "I1",
    ),
    Hole(
        Run(
            "H26 elects twice, cached",
            3,
            0,
            {"forget": 1, "lost_reply": 1},
            lifetimes=("zero",),
            computing=3,
            rules=Rules(elects_twice=True),
        ),
        "I2",
    ),
    _retry_hole("H27 a retry elects itself", Rules(retry_elects=True), "pause"),
    _retry_hole("H32 a retry begins a flight", Rules(retry_begins=True), "lost_claim"),
    # Not curable here, and kept so that nobody forgets it: a zombie whose claim a failover lost.
    _hole("known: claim lost, forget, flight lost", "I1", Rules(), "forget", "lost_claim", "pause", workers=2),
    _hole("H28 a revoked retry", "I3", Rules(retrying_unfailable=True), "revoke", "retry", callers=1),
    _hole("H29 cancelled ends, after a loss", "I7", Rules(cancelled_ends=True), "leave", "empty"),
    Hole(
        Run("H29 cancelled ends, one inbox", 2, 1, {"leave": 1}, one_process=True, rules=Rules(cancelled_ends=True)),
        "I7",
    ),
    Hole(Run("H30 leader unnoted", 2, 0, {"leave": 1}, computing=2, rules=Rules(leader_unnoted=True)), "I7"),
    Hole(
        Run("H31 spare unrenewed", 2, 2, {"forget": 1}, apart=True, rules=Rules(spare_unrenewed=True)),
        "I8",
    ),
)
