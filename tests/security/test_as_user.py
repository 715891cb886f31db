"""This is where tests of all kinds pass with the rights of `deploy/users.acl`, and do not without one of them."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.deploy.files import ROOT
from tests.security.as_user import NO_CACHES_WORK

# What a cache does, and its workers: a minute of it. By hand: all of both folders (tests/security/as_user.py says how).
CHOSEN = {
    "with_redis": "primitives primitives_aio primitives_many cached cached_verbs cached_lifetimes cached_async_def "
    "invalidation_cached tags methods near herd_cached",
    "with_celery": "sending result batches gathering canvas retries invalidation herd",
}


def run_as_user(*words: str) -> subprocess.CompletedProcess[str]:
    """Run tests in a pytest of their own, whatever this one was told."""
    command = [sys.executable, "-m", "pytest", "-p", "tests.security.as_user", "-p", "no:cacheprovider", "-q", *words]
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "TASKCACHE_TEST_RUN"))}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=280)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("folder", CHOSEN)
def test_the_suite_passes_with_the_rights_of_the_file(folder: str) -> None:
    """Caches, workers and programs of these tests log in as `taskcache`, and nothing is refused to them."""
    ran = run_as_user(*(f"tests/{folder}/test_{name}.py" for name in CHOSEN[folder].split()))

    assert 0 == ran.returncode, ran.stdout[-5000:] + ran.stderr[-1000:]
    # All of them: an empty run would pass too.
    passed = re.search(r"(\d+) passed", ran.stdout)
    assert passed is not None
    assert int(passed[1]) > 90


@pytest.mark.parametrize("right", ["+evalsha", "~{cache:*", "+client|setinfo"])
def test_the_suite_fails_without_one_of_them(right: str) -> None:
    """It is really this user who runs it; and a refusal counts that nobody minds, as redis-py that of its name."""
    ran = run_as_user("--revoke", right, "tests/with_redis/test_cached.py")

    assert 1 == ran.returncode, ran.stdout[-5000:] + ran.stderr[-1000:]
    assert "Captured refused call" in ran.stdout


@pytest.mark.parametrize("name", NO_CACHES_WORK)
def test_what_is_left_out_is_there(name: str) -> None:
    """A test that has another name now is left out no longer."""
    sources = (path.read_text(encoding="utf-8") for path in (ROOT / "tests/with_redis").glob("test_*.py"))

    assert any(f"def {name}(" in source for source in sources)
