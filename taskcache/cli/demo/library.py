"""This is where the demo gets its input: a copy of the standard library of the Python that runs it."""

from __future__ import annotations

import hashlib
import shutil
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# Tests hold files that are broken on purpose, and the last two are not the standard library's.
SKIPPED: Final = frozenset({"test", "tests", "idle_test", "__pycache__", "site-packages", "dist-packages"})
# Enough to see something, few enough to wait for: `--quick`.
QUICK: Final = 100


@dataclass(frozen=True, slots=True)
class Module:
    """One file of the copy, as it was when it was looked at."""

    name: str
    path: Path
    digest: str

    @property
    def call(self) -> tuple[str, str]:
        """What `measure` takes. The digest is part of the key, so a file that changes is another call."""
        return str(self.path), self.digest


def copy_library(to: Path, *, is_quick: bool = False) -> list[Module]:
    """Copy the modules of the standard library and list them in the order of their names."""
    home = Path(sysconfig.get_path("stdlib"))
    found = sorted(path for path in home.rglob("*.py") if not SKIPPED & set(path.relative_to(home).parts))
    if is_quick:
        found = found[:: max(1, len(found) // QUICK)][:QUICK]
    modules = []
    for path in found:
        name = path.relative_to(home)
        copied = to / name
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copied)
        modules.append(look_at(copied, name.as_posix()))
    return modules


def look_at(path: Path, name: str) -> Module:
    """Describe a file as it is now."""
    return Module(name, path, hashlib.sha256(path.read_bytes()).hexdigest())


def change(module: Module) -> Module:
    """Add a function to a module of the copy."""
    with module.path.open("ab") as file:
        file.write(b"\n\ndef added_by_the_demo(value):\n    if value:\n        return value\n    return None\n")
    return look_at(module.path, module.name)
