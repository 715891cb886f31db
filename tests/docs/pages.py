"""
This is where we read the pages: their examples, and whether an output is what a page shows.

    ```pycon                 typed line by line at a plain Python prompt, one prompt for each page
    ```python title="x.py"   written to that file, in a folder of the page's own
    ```python                run at once, in the page's prompt
    ```console               `$ python ...` is run, `$ celery -A x worker` is started; other commands are shown only

`<!-- shown only: reason -->` above a fence excuses it. In an output `...` stands for anything, and each moment
(2026-11-22 14:48:01.496431) for one moment: written twice it is the same one, another one is another.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

_FENCE = re.compile(r"^```(\w*) *(?:title=\"([^\"]+)\")?.*$")
_EXCUSE = re.compile(r"<!-- shown only: .+ -->")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}")


def pages() -> list[Path]:
    """List the pages that may hold examples."""
    return [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block of a page."""

    page: Path
    line: int
    language: str
    title: str
    text: str

    @property
    def place(self) -> str:
        """Where it stands, for messages."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@dataclass(frozen=True, slots=True)
class Example:
    """Lines that are typed, and what they show."""

    place: str
    lines: tuple[str, ...]
    output: str


def blocks(page: Path) -> Iterator[Block]:
    """Yield the blocks of a page that are to be run."""
    lines = page.read_text(encoding="utf-8").splitlines()
    begun: tuple[int, str, str] | None = None
    held: list[str] = []
    for number, line in enumerate(lines, start=1):
        if begun is None and (fence := _FENCE.match(line)):
            begun, held = (number, fence[1], fence[2] or ""), []
        elif begun is not None and line == "```":
            is_excused = begun[0] > 1 and _EXCUSE.search(lines[begun[0] - 2])
            if begun[1] in ("python", "pycon", "console") and not is_excused:
                yield Block(page, *begun, "\n".join(held) + "\n")
            begun = None
        else:
            held.append(line)
    assert begun is None, f"{page}: the fence of line {begun} is not closed"


def examples(block: Block) -> list[Example]:
    """Take a session apart: each statement with the output it shows."""
    found: list[Example] = []
    typed: list[str] = []
    shown: list[str] = []
    first = block.line
    for number, line in enumerate(block.text.splitlines(), start=block.line + 1):
        word, rest = line[:3], line[4:]
        if word == "..." and typed and not shown and block.language == "pycon":
            typed.append(rest)
            continue
        if word == ">>>" or line.startswith("$ "):
            if typed:
                found.append(Example(f"{block.page.name}:{first}", tuple(typed), _joined(shown)))
            typed, shown, first = [line[2:] if line.startswith("$ ") else rest], [], number
            continue
        assert typed, f"{block.place}: an output without a statement"
        shown.append(line)
    if typed:
        found.append(Example(f"{block.page.name}:{first}", tuple(typed), _joined(shown)))
    return found


def _joined(lines: list[str]) -> str:
    return "\n".join(line.rstrip() for line in lines).strip()


@dataclass(slots=True)
class Reading:
    """What one page's moments turned out to be."""

    moments: dict[str, str] = field(default_factory=dict)

    def agrees(self, shown: str, said: str) -> bool:
        """Whether `said` is what the page shows, and remember the moments that are new."""
        said = "\n".join(line.rstrip() for line in said.splitlines()).strip()
        fresh: list[str] = []
        pattern = ""
        for part in re.split(rf"({_MOMENT.pattern}|\.\.\.)", shown):
            if part == "...":
                pattern += ".*?"
            elif not _MOMENT.fullmatch(part):
                pattern += re.escape(part)
            elif part in self.moments:
                pattern += re.escape(self.moments[part])
            elif part in fresh:
                pattern += f"(?P=m{fresh.index(part)})"
            else:
                pattern += f"(?P<m{len(fresh)}>{_MOMENT.pattern})"
                fresh.append(part)
        match = re.fullmatch(pattern, said, re.DOTALL)
        if match is None:
            return False
        new = {moment: match[f"m{index}"] for index, moment in enumerate(fresh)}
        if len({*self.moments.values(), *new.values()}) < len(self.moments) + len(new):
            return False  # two that the page shows as different
        self.moments.update(new)
        return True
