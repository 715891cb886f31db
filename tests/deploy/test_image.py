"""This is where we check the worker's image, without an engine."""

from __future__ import annotations

import json
import re

from tests.deploy.files import DEPLOY, ROOT, compose, option, run

TEXT = (DEPLOY / "Dockerfile").read_text()


def test_hadolint_has_nothing_to_say() -> None:
    """The Dockerfile follows the rules of its linter."""
    done = run("hadolint", DEPLOY / "Dockerfile")

    assert (0, "") == (done.returncode, done.stdout + done.stderr)


def test_the_base_is_pinned_and_supported() -> None:
    """Each stage starts from the same slim Python, named by major and minor version."""
    bases = set(re.findall(r"^FROM (\S+)", TEXT, re.MULTILINE))

    assert 1 == len(bases)
    assert re.fullmatch(r"python:3\.1[0-3]-slim", bases.pop())


def test_the_worker_is_not_root_and_goes_gently() -> None:
    """It runs as a number Kubernetes can check, and is stopped with the signal of a warm shutdown."""
    assert ["10001:10001"] == re.findall(r"^USER (\S+)", TEXT, re.MULTILINE)
    assert ["SIGTERM"] == re.findall(r"^STOPSIGNAL (\S+)", TEXT, re.MULTILINE)


def test_nothing_but_the_sources_enters_the_build() -> None:
    """The context is a list of what may come in, and every name that is copied is on it."""
    allowed = re.findall(r"^!(\S+)", (DEPLOY / "Dockerfile.dockerignore").read_text(), re.MULTILINE)
    copied = [word for line in re.findall(r"^COPY (?!--from)(.+) \S+$", TEXT, re.MULTILINE) for word in line.split()]

    assert sorted(allowed) == sorted(copied)
    assert {"LICENSE", "pyproject.toml"} <= set(copied)
    assert [] == [name for name in copied if not (ROOT / name).exists()]


def test_the_image_runs_what_compose_runs() -> None:
    """Without a command the image does the same as the first worker of the Compose file."""
    command = json.loads(re.findall(r"^CMD (\[.+\])", TEXT, re.MULTILINE)[-1])
    composed = compose()["services"]["worker"]["command"]

    assert command[:4] == composed[:4]
    for name in ("prefetch-multiplier", "time-limit", "soft-time-limit"):
        assert option(composed, name) == option(command, name)
