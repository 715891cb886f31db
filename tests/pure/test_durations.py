"""This is where lifetimes become the milliseconds of a server: what no server takes is refused where it was written."""

from __future__ import annotations

from datetime import timedelta

import pytest

from taskcache.errors import UsageError
from taskcache.settings import FOREVER, LONGEST_MS, PERSIST, lifetime_ms


@pytest.mark.parametrize("timeout", [1e15, 10**30, 1e300, timedelta(days=40_000)])
def test_more_than_a_hundred_years_is_for_ever(timeout: object) -> None:
    """A server would refuse it in the middle of a call; the message names what was meant."""
    with pytest.raises(UsageError, match="FOREVER"):
        lifetime_ms(timeout)


def test_a_hundred_years_are_a_lifetime() -> None:
    """And what never expires is written as such."""
    assert (LONGEST_MS, PERSIST) == (lifetime_ms(LONGEST_MS // 1000), lifetime_ms(FOREVER))
