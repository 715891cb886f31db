"""This is where a class has a name that means the same in every process, and where it is found again by that name."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any, Final

# The program that is run is `__main__`, and `__mp_main__` in what it spawns.
MAIN_NAMES: Final = ("__main__", "__mp_main__")
_HEAP_TYPE: Final = 1 << 9


def module_name(module: str, names: Mapping[str, Any] | None = None) -> str:
    """
    Name a module as others import it: a script by its file's name, which is what workers know it by.

    `names` are those of the module itself, where they are at hand: a process that was spawned runs its parent's script
    before it has it in the place of its own.
    """
    if module == "pathlib._local":
        return "pathlib"  # where Python 3.13 keeps what others have in `pathlib`
    if module not in MAIN_NAMES:
        return module
    names = vars(_main()) if names is None else names
    script = _script_name(names)
    # Another module of that name is not the script; the script itself, imported once more, is.
    other = sys.modules.get(script) if script else None
    return script if script and (other is None or _file_in(vars(other)) == _file_in(names)) else "__main__"


def type_name(cls: type) -> str:
    """Name a class "module:qualname", in the process that runs a script as in those that import it."""
    return f"{module_name(cls.__module__)}:{cls.__qualname__}"


def name_of(cls: type) -> str | None:
    """Name a class; None when no name would lead back to this very class."""
    own = "__main__" if cls.__module__ in MAIN_NAMES else cls.__module__
    names = (type_name(cls), f"{own}:{cls.__qualname__}")
    return next((name for name in names if find(name) is cls), None)


def is_builtin(cls: type) -> bool:
    """Whether a class is written in C and lasts as long as Python: it has one name, wherever that leads."""
    return not cls.__flags__ & _HEAP_TYPE


def find(name: str) -> type | None:
    """Find a class that this process has already imported. Never imports, and runs no `__getattr__` of a module."""
    place, _, qualname = name.partition(":")
    module: ModuleType | None = sys.modules.get(place)
    if module is None and place == _script_name(vars(_main())):
        module = _main()
    try:
        # Past lazy modules, which would load themselves when asked for an attribute.
        names = object.__getattribute__(module, "__dict__")
    except AttributeError:
        return None
    found: object = None
    for part in qualname.split("."):
        found = names.get(part)
        if not isinstance(found, type):
            return None
        names = vars(found)
    return found if isinstance(found, type) else None


def _main() -> ModuleType:
    # An embedded Python may have none.
    return sys.modules.get("__main__") or ModuleType("__main__")


def _file_in(names: Mapping[str, Any]) -> str | None:
    path = names.get("__file__")
    return os.path.abspath(path) if path else None


def _script_name(names: Mapping[str, Any]) -> str | None:
    spec = names.get("__spec__")
    if spec is not None:
        return str(spec.name)
    path = names.get("__file__")
    return os.path.splitext(os.path.basename(path))[0] if path else None
