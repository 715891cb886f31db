"""This is where the small fleets are whose every run is played, by name."""

from __future__ import annotations

from dataclasses import replace

from tests.races.exhaustive import World

_BOTH_TAGGED = ("P0 asks for f:b", "P1 asks for f:b")
_TWO_THREADS = ("P0 asks for f:a", "P0 asks for f:a")
_BUST = ("busts f:a",)
_TWO = World(switches=1)
# What may come at every moment of a run makes many runs of it: each is played with all of them, and without a switch.
_BAD = World(switches=0)

WORLDS: dict[str, World] = {
    "two calls, in any order": World(),
    "two calls": _TWO,
    "two calls, a bust": replace(_TWO, invalidates=_BUST),
    "two calls, a put": replace(_BAD, invalidates=("puts f:a",)),
    "two calls, a bump": replace(_BAD, invalidates=("bumps f",)),
    "two tagged calls, a bump of the tag": replace(_TWO, begins=_BOTH_TAGGED, invalidates=("bumps the tag",)),
    "two calls whose body adds a tag, its bump": replace(_BAD, adds_tags=True, invalidates=("bumps the added tag",)),
    "one call whose body adds a tag, a retry, a bust": replace(
        _TWO, begins=("P0 asks for f:a",), adds_tags=True, budget={"retry": 1}, invalidates=_BUST
    ),
    "two calls of one process, a bust": replace(_TWO, begins=_TWO_THREADS, invalidates=_BUST),
    "two calls that compute themselves, a bust": replace(
        _TWO, begins=_BOTH_TAGGED, computing=("f:b",), workers=0, invalidates=("busts f:b",)
    ),
    "two calls that compute themselves, a bump": replace(
        _TWO, begins=_BOTH_TAGGED, computing=("f:b",), workers=0, invalidates=("bumps f",)
    ),
    "two calls, a caller is killed": replace(_BAD, budget={"crash_process": 1}),
    "two calls, a worker is killed": replace(_BAD, workers=2, budget={"crash_worker": 1}),
    "two calls, a pool's process dies": replace(_BAD, budget={"crash_child": 1}),
    "two calls, a message is lost": replace(_BAD, budget={"lose_message": 1}, looks=1),
    "two calls, a message comes twice": replace(_BAD, workers=2, budget={"dup": 1}),
    "two calls, a reply is lost": replace(_BAD, budget={"lost_reply": 1}),
    "two calls, one leaves": replace(_TWO, budget={"leave": 1}),
    "two calls of one process, one leaves": replace(_TWO, begins=_TWO_THREADS, budget={"leave": 1}),
    "two calls of one process, one leaves and has it revoked": replace(
        _TWO, begins=_TWO_THREADS, budget={"leave": 1}, revokes=True
    ),
    "two calls, a lease ends": replace(_BAD, budget={"pause": 1}, beats=1),
    "two calls, the server is emptied": replace(_BAD, budget={"empty": 1}),
    "one call, the server is emptied, its worker renews": replace(
        _BAD, begins=("P0 asks for f:a",), budget={"empty": 1}, beats=1
    ),
    "two calls, one of them inside a body too": replace(
        _TWO, begins=("P0 asks for f:a", "P1 asks for f:b"), nests=True, takes=3
    ),
    "a call inside a body, a pool's process dies": replace(
        _BAD, begins=("P0 asks for f:a",), nests=True, budget={"crash_child": 1}
    ),
    "two calls, a failover": replace(_BAD, budget={"failover": 1}),
    "two calls, a bust, a failover": replace(_BAD, budget={"failover": 1}, invalidates=_BUST),
    "two calls, a body fails": replace(_BAD, budget={"fail": 1}, invalidates=_BUST),
    "two calls, a retry, a bust": replace(_BAD, budget={"retry": 1}, invalidates=_BUST),
    "two calls, three lifetimes, a bust": replace(_BAD, lifetimes=("lasting", "short", "zero"), invalidates=_BUST),
}
