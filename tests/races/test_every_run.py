"""This is where every run of small fleets is played, of the real steps and scripts, and no order of them breaks an invariant."""

from __future__ import annotations

import pytest
import redis

from tests.races.exhaustive import World, play_all
from tests.races.stories import without
from tests.races.test_random_flights import HOLES
from tests.races.worlds import WORLDS

# Where each hole shows, with one switch at the right moment.
SHOWN_IN: dict[str, World] = {
    "H1 follow any": WORLDS["two calls, a bust"],
    "H2 forget keeps": WORLDS["two calls, a bust"],
    "H6 store what is missing": World(
        begins=("P0 asks for f:a",), invalidates=("busts f:a",), budget={"pause": 1}, switches=1
    ),
    "H11 displace at once": WORLDS["two calls that compute themselves, a bump"],
    "H14 marker unread": World(begins=("P0 asks for f:a",), beats=2, switches=1),
}


@pytest.mark.parametrize("name", WORLDS)
def test_no_run_of_a_small_fleet_breaks_an_invariant(client: redis.Redis, name: str) -> None:
    """All of them are played to their end."""
    played = play_all(client, WORLDS[name])

    assert None is played.broken, str(played.broken)
    assert played.is_complete
    assert played.ends > 0


@pytest.mark.parametrize("hole", HOLES)
def test_a_rule_taken_away_is_missed_by_some_run(client: redis.Redis, hole: str) -> None:
    """Whatever the draw: playing all runs finds it, so what finds nothing has seen all."""
    name, rule, instead, _, breaks = HOLES[hole]

    played = play_all(client, SHOWN_IN[hole], scripts=without(name, rule, instead))

    assert played.broken is not None
    assert played.broken.violation.partition(":")[0] in breaks
