"""
This is where the list of modules in docs/layout.md is made from the modules themselves.

    python -m tests.shape.layout        writes the block between the markers anew
"""

from __future__ import annotations

import itertools

from tests.shape.floors import FLOORS, ORDER, TITLES, floor_of, part_of
from tests.shape.source import ROOT, Module, modules

PAGE = ROOT / "docs/layout.md"
BEGIN = "<!-- modules: written by `python -m tests.shape.layout` -->"
END = "<!-- end of modules -->"


def listing() -> str:
    """Give one line for each module, floor by floor, and the folders of a floor one after the other."""
    lines: list[str] = []
    by_floor = sorted(modules("taskcache"), key=_place)
    for floor, members in itertools.groupby(by_floor, lambda module: ORDER[floor_of(module.name)]):
        lines += ["", f"### {TITLES[floor]}", ""]
        lines += [_line(module) for module in members]
    lines += ["", "### An application to run and to copy from", ""]
    lines += [_line(module) for module in modules("workers")]
    return "\n".join([*lines, ""])


def _place(module: Module) -> tuple[int, bool, int, str]:
    # Within a floor in the order of FLOORS, single modules before folders.
    part, floor = part_of(module.name), floor_of(module.name)
    return floor, _has_folder(module), list(FLOORS[ORDER[floor]]).index(part), module.name


def _has_folder(module: Module) -> bool:
    return module.path.parent.name != "taskcache"


def _line(module: Module) -> str:
    return f"- `{module.path.relative_to(ROOT)}` {_purpose(module)}"


def _purpose(module: Module) -> str:
    # «This is where we turn …» reads as «turn …» beside the name, and «This is where it begins.» as «where it begins.»
    purpose = module.purpose.removeprefix("This is ")
    return purpose.removeprefix("where we ")


def written() -> str:
    """Read the block that stands in the page, empty where there is none."""
    text = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    return text.partition(f"{BEGIN}\n")[2].partition(f"\n{END}")[0]


def write() -> None:
    """Put the listing between the markers; a page without them gets them at its end."""
    text = PAGE.read_text(encoding="utf-8") if PAGE.exists() else "# Layout\n\nEach module, and what it is for.\n"
    if BEGIN not in text:
        text = f"{text.rstrip()}\n\n{BEGIN}\n{END}\n"
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n{listing()}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    write()
