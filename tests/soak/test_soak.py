"""This is where a short soak is part of every build: a minute where nothing is missing, a quarter of one elsewhere."""

from __future__ import annotations

import pytest

from tests.plugins.no_skips import IS_STRICT
from tests.soak.stage import soak


@pytest.mark.timeout(400)
def test_nothing_is_lost_or_stale_or_left_behind() -> None:
    """Under kills, pauses and cut connections every wait ends, no read is stale, and nothing stays behind."""
    report = soak(60 if IS_STRICT else 15, seed=20_251)

    assert [] == report.violations, str(report)
