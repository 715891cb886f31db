"""This is where random runs of the real steps and scripts are held to the invariants, and the explorer to its eyes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import redis

from taskcache.protocol.scripts import SCRIPTS
from tests.races.explorer import Scripts, explore
from tests.races.moves import Climate

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
    "H15 assert what was never held": ("renew", "held == 0", "false", ("dup",), ("I6",)),
    "H26 elects twice": (
        "elect",
        "live == token or redis.call('EXISTS', own_retired, own_outcome) > 0",
        "false",
        ("lost_reply",),
        ("I2", "I1"),
    ),
}


def without(name: str, rule: str, instead: str) -> Scripts:
    """The scripts with one rule taken away."""
    text = SCRIPTS[name].text
    assert text.count(rule.encode()) == 1, f"{name}.lua does not say {rule!r} once"
    return {**SCRIPTS, name: replace(SCRIPTS[name], text=text.replace(rule.encode(), instead.encode()))}


@pytest.mark.parametrize("first", range(1, 401, 50))
def test_no_random_run_breaks_an_invariant(client: redis.Redis, first: int) -> None:
    """Whatever a small fleet does and suffers, nobody gets an outdated value, nobody waits for ever, nothing stays."""
    broken = [found for seed in range(first, first + 50) if (found := explore(client, seed)) is not None]

    assert [] == [str(found) for found in broken]


@pytest.mark.parametrize("hole", HOLES)
def test_a_rule_taken_away_is_missed(client: redis.Redis, hole: str) -> None:
    """The explorer breaks the invariant that we expect, so it would see such a mistake."""
    name, rule, instead, faults, breaks = HOLES[hole]
    scripts = without(name, rule, instead)
    climate = Climate(computing=("f:b",), budget=dict.fromkeys(faults, 2))

    found = next(filter(None, (explore(client, seed, scripts=scripts, climate=climate) for seed in range(3000))), None)

    assert found is not None
    assert found.violation.partition(":")[0] in breaks
