"""This is where these tests get their stage, shared by all of them: what a scenario hurts is healed after it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.stage import Stage


@pytest.fixture(scope="session")
def stage() -> Iterator[Stage]:
    """Servers, workers and a network that scenarios may hurt."""
    with Stage() as stage:
        yield stage
