"""This is where a skipped test becomes a failed one, on machines that promise to have everything (CI)."""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import TypeVar

import pytest

_Report = TypeVar("_Report", pytest.TestReport, pytest.CollectReport)

IS_STRICT = os.environ.get("TASKCACHE_TEST_STRICT", "") not in ("", "0")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Look at the report of each test's setup, call and teardown."""
    return _refuse_skip((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Look at the report of each module, which may skip itself as a whole."""
    return _refuse_skip((yield))


def _refuse_skip(report: _Report) -> _Report:
    # An expected failure is reported as skipped too; it is not one.
    if IS_STRICT and report.outcome == "skipped" and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid}: TASKCACHE_TEST_STRICT tolerates no skip ({reason})"
    return report
