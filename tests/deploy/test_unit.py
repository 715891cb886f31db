"""This is where we check the systemd unit with systemd's own tools, which need no running systemd."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from tests.deploy.files import DEPLOY, compose, option, run, unit

SETTINGS = unit()


@pytest.fixture
def checked(tmp_path: Path) -> Path:
    """The unit, with a program that exists on this machine in the place of the one it starts."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze: apt-get install systemd")
    path = tmp_path / "taskcache-worker.service"
    text = (DEPLOY / path.name).read_text()
    path.write_text(text.replace("/opt/taskcache/bin/celery", sys.executable))
    return path


def test_systemd_understands_every_line(checked: Path) -> None:
    """Unknown settings are only warnings, with exit code 0: any word is a failure."""
    done = run("systemd-analyze", "verify", "--man=no", checked)

    assert (0, "") == (done.returncode, done.stdout + done.stderr)


def test_the_unit_is_hardened(checked: Path) -> None:
    """systemd's own score of what a broken task could reach: below 2.0 of 10."""
    done = run("systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", checked)

    assert 0 == done.returncode, done.stdout[-500:]


def test_a_stop_reaches_the_main_process_only_and_waits() -> None:
    """The children finish their tasks, for longer than the longest of them may take."""
    [command] = SETTINGS["ExecStart"]

    assert (["mixed"], ["SIGTERM"]) == (SETTINGS["KillMode"], SETTINGS["KillSignal"])
    assert int(SETTINGS["TimeoutStopSec"][0]) > float(option(command.split(), "time-limit"))


def test_a_dead_child_does_not_stop_the_worker_and_a_dead_worker_comes_back() -> None:
    """An out-of-memory kill ends one child; the worker comes back however often it dies."""
    assert (["continue"], ["always"], ["0"]) == tuple(
        SETTINGS[name] for name in ("OOMPolicy", "Restart", "StartLimitIntervalSec")
    )


def test_the_unit_runs_the_same_worker_as_compose() -> None:
    """The two say the same options, but for the node's name."""
    words = SETTINGS["ExecStart"][0].replace("%%", "%").split()
    composed = compose()["services"]["worker"]["command"]
    differing = {"--concurrency", "--hostname"}
    plain = [word for word in words if word.split("=")[0] not in differing]

    assert sorted(word for word in composed[1:] if word.split("=")[0] not in differing) == sorted(plain[1:])
