"""This is where random runs of the real steps and scripts are held to the invariants, and the explorer to its eyes."""

from __future__ import annotations

import pytest
import redis

from tests.races.explorer import explore, repeat
from tests.races.fleet import Fleet
from tests.races.moves import Climate
from tests.races.stories import without

# What is left out of a script, the faults it takes, and the invariants of which one has to break.
HOLES: dict[str, tuple[str, str, str, tuple[str, ...], tuple[str, ...]]] = {
    "H1 follow any": ("elect", "not begun or begun == stamps", "true", (), ("I1",)),
    "H2 forget keeps": ("forget", "redis.call('HSET', flight, 'stamps', '')", "", (), ("I4", "I1")),
    "H6 store what is missing": (
        "publish",
        "live and stamps ~= '' and",
        "(live and stamps ~= '' or not there) and",
        ("pause",),
        ("I4", "I1"),
    ),
    "H11 displace at once": ("elect", "live and live ~= outdated", "false", (), ("I2b", "I8")),
    "H14 marker unread": ("renew", "redis.call('EXISTS', outcome) == 1", "false", (), ("I6",)),
}


@pytest.mark.parametrize("first", range(1, 101, 20))
def test_no_random_run_breaks_an_invariant(client: redis.Redis, first: int) -> None:
    """Whatever a small fleet does and suffers, nobody gets an outdated value, nobody waits for ever, nothing stays."""
    broken = [found for seed in range(first, first + 12) if (found := explore(client, seed)) is not None]

    assert [] == [str(found) for found in broken]


@pytest.mark.parametrize("hole", HOLES)
def test_a_rule_taken_away_is_missed(client: redis.Redis, hole: str) -> None:
    """The explorer breaks the invariant that we expect, so it would see such a mistake."""
    name, rule, instead, faults, breaks = HOLES[hole]
    scripts = without(name, rule, instead)
    climate = Climate(computing=("f:b",), ending=0.05, invalidating=0.3, budget=dict.fromkeys(faults, 2))

    runs = (explore(client, seed, scripts=scripts, climate=climate, shortens=False) for seed in range(3000))
    found = next(filter(None, runs), None)

    assert found is not None
    assert found.violation.partition(":")[0] in breaks


def test_a_slot_that_waits_for_itself_is_missed(client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call inside a body claims what nobody has begun; if it did not, it would wait for the slot that it is in."""
    monkeypatch.setattr(Fleet, "is_queued", lambda *_: False)
    climate = Climate(workers=1, nests=True, invalidations=0)

    runs = (explore(client, seed, climate=climate, shortens=False) for seed in range(300))
    found = next(filter(None, runs), None)

    assert found is not None
    assert "I3" == found.violation.partition(":")[0]


def test_a_broken_run_is_told_as_its_shortest_story(client: redis.Redis) -> None:
    """Moves that do not matter are left out, and the story breaks the same invariant again."""
    name, rule, instead, _, _ = HOLES["H14 marker unread"]
    scripts = without(name, rule, instead)
    seeds = iter(range(3000))
    found = None
    while found is None:
        found = explore(client, next(seeds), 60, scripts=scripts, climate=Climate(calls=2, invalidations=0))

    again = repeat(client, found, scripts)

    assert again == found
    assert len(found.moves) < 25
