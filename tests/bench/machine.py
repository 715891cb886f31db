"""This is where we say what a run was measured on, without which its numbers mean nothing."""

from __future__ import annotations

import os
import platform
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import redis

from tests.bench.ground import Ground
from tests.bench.peers import PACKAGES


def described(ground: Ground) -> dict[str, Any]:
    """Machine, load and versions; names of hosts and users are nobody's business."""
    with redis.Redis.from_url(ground.url()) as client:
        server: Any = client.info("server")
    return {
        "when": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": _cpu(),
        "cpus": usable_cpus(),
        "load": [round(load, 2) for load in os.getloadavg()],
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "server": f"Valkey {server.get('valkey_version') or server.get('redis_version')}",
        "transport": "TCP on loopback",
        "versions": {package: found for package in PACKAGES if (found := _version(package))},
    }


def usable_cpus() -> int:
    """How many CPUs this process may use, which in a container is not how many there are."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def _cpu() -> str:
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
