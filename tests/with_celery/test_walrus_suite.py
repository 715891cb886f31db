"""This is where the tests that walrus ships for its own Cache run against ours, unchanged."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

# The one change: the cache object, and the flush between tests. Everything else is walrus's own file.
EXCHANGE = """
import importlib.util, sys, unittest
import walrus.tests.base as base
from taskcache import Cache

cache = Cache(name="test.cache")

class Database:
    @staticmethod
    def cache(name):
        assert name == cache.name
        return cache

class TestCase(unittest.TestCase):
    assertList = base.WalrusTestCase.assertList

    def setUp(self):
        cache.flush()

    tearDown = setUp

base.db, base.WalrusTestCase = Database, TestCase
# The package imports all of its tests at once, so this file is loaded anew, with the two names exchanged.
spec = importlib.util.find_spec("walrus.tests.cache")
tests = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tests)
unittest.main(tests, argv=["walrus", "-v"])
"""


def test_walrus_own_tests_pass_with_an_embedded_cache(tmp_path: Path) -> None:
    """walrus.tests.cache passes with its cache object exchanged for `Cache(name=...)`."""
    done = subprocess.run(
        [sys.executable, "-c", EXCHANGE],
        env={"PATH": "/usr/bin:/bin", "XDG_RUNTIME_DIR": str(tmp_path), "TMPDIR": str(tmp_path), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )

    assert 0 == done.returncode, done.stdout + done.stderr
    assert "Ran 7 tests" in done.stderr
