"""
This is where the list of modules in docs/layout.md is made from the modules themselves.

    python -m tests.shape.layout        writes the block between the markers anew
"""

from __future__ import annotations

from tests.shape.source import ROOT, Module, modules

PAGE = ROOT / "docs/layout.md"
BEGIN = "<!-- modules: written by `python -m tests.shape.layout` -->"
END = "<!-- end of modules -->"


def listing() -> str:
    """Give one line for each module, under its folder."""
    lines: list[str] = []
    folder = None
    for module in modules("taskcache", "workers"):
        if module.path.parent != folder:
            folder = module.path.parent
            lines += ["", f"### {folder.relative_to(ROOT)}/", ""]
        lines.append(f"- `{module.path.name}` {_purpose(module)}")
    return "\n".join([*lines, ""])


def _purpose(module: Module) -> str:
    # «This is where we turn …» reads as «turn …» beside the name.
    return module.purpose.removeprefix("This is where ").removeprefix("we ")


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
