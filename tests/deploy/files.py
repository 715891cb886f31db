"""This is where we find the files of `deploy/` and what they say."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


def compose() -> dict[str, Any]:
    """Read the Compose file, with YAML's anchors followed and Compose's variables as they stand."""
    tree: dict[str, Any] = YAML(typ="safe").load(DEPLOY / "compose.yaml")
    return tree


def with_defaults(words: list[str]) -> list[str]:
    """Put the default into `${NAME:-default}`, as Compose does when nothing is set."""
    return [re.sub(r"\$\{\w+:-(.*?)\}", r"\1", word) for word in words]


def unit() -> dict[str, list[str]]:
    """Read the systemd unit: every value of every setting, continued lines joined."""
    text = (DEPLOY / "taskcache-worker.service").read_text().replace("\\\n", " ")
    settings: dict[str, list[str]] = {}
    for line in text.splitlines():
        if "=" in line and not line.startswith(("#", "[")):
            name, value = line.split("=", 1)
            settings.setdefault(name, []).append(value)
    return settings


def option(words: list[str], name: str) -> str:
    """Give the value of `--name=value` in a command."""
    values = [word.split("=", 1)[1] for word in words if word.startswith(f"--{name}=")]
    assert len(values) == 1, f"--{name} stands {len(values)} times in {words}"
    return values[0]


def run(*words: str | Path, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a tool and keep what it says; one installed beside this Python is preferred."""
    beside = Path(sys.executable).parent / words[0]
    program = str(beside) if beside.exists() else shutil.which(str(words[0]))
    assert program is not None, f"{words[0]} is not on this machine: pip install -e '.[dev]'"
    return subprocess.run([program, *words[1:]], capture_output=True, text=True, timeout=60, env=env)
