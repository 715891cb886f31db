"""This is where the pages get what a plain login has: an environment without settings, and a prompt."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import ROOT
from tests.docs.typist import Typist


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The environment of a plain login: nothing configured, and a runtime directory of this test's own."""
    foreign = (
        "TASKCACHE_URL",
        "TASKCACHE_SECRET",
        "TASKCACHE_NAME",
        "TASKCACHE_DEBUG",
        "TASKCACHE_EMBEDDED",
        "REDIS_URL",
    )
    fleet = ("KUBERNETES_SERVICE_HOST", "SERVER_SOFTWARE", "UWSGI_ORIGINAL_PROC_NAME")
    kept = {name: value for name, value in os.environ.items() if name not in (*foreign, *fleet)}
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    return {**kept, "XDG_RUNTIME_DIR": str(runtime), "PYTHON_BASIC_REPL": "1", "NO_COLOR": "1", "PYTHONPATH": str(ROOT)}


@pytest.fixture
def typist(tmp_path: Path, environment: dict[str, str]) -> Iterator[Typist]:
    """A plain Python prompt in an empty folder."""
    typist = Typist(tmp_path, environment)
    yield typist
    typist.end()
