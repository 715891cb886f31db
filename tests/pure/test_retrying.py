"""This is where a function that is computed in place is tried again: when, how often, and after what not."""

from __future__ import annotations

from typing import Any

import pytest
from billiard.exceptions import SoftTimeLimitExceeded

from taskcache.calls.retrying import plan, tried

AT_ONCE: dict[str, Any] = {"default_retry_delay": 0, "max_retries": 2}


def runs_of(error: type[Exception]) -> int:
    """How often a body that always raises `error` is run."""
    runs = []

    def body() -> None:
        runs.append(1)
        raise error

    with pytest.raises(error):
        tried({**AT_ONCE, "autoretry_for": (Exception,)}, body)
    return len(runs)


def test_what_autoretry_for_names_is_tried_again() -> None:
    """As often as `max_retries` says, and then the error is raised."""
    assert 3 == runs_of(ValueError)


def test_a_soft_time_limit_is_not_tried_again() -> None:
    """It is an Exception, but that of the task which computes here, and its time is up."""
    assert 1 == runs_of(SoftTimeLimitExceeded)


@pytest.mark.parametrize(("backoff", "expected"), [(0.5, [1, 2, 4]), (True, [1, 2, 4]), (3, [3, 6, 12])])
def test_a_backoff_is_at_least_a_second(backoff: Any, expected: list[int]) -> None:
    """Like Celery's own, which doubles it with each retry."""
    options = {"retry_backoff": backoff, "retry_jitter": False}

    assert expected == [plan(options, retries).countdown for retries in range(3)]
