"""This is where we read the repository's source as the shape tests see it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Import:
    """One import statement's target, as a module's or a name's dotted path."""

    target: str
    line: int
    # Inside a function, so it runs when the function does.
    is_lazy: bool


@dataclass(frozen=True, slots=True)
class Module:
    """One Python file."""

    name: str
    path: Path
    text: str
    tree: ast.Module

    @property
    def place(self) -> str:
        """The path as a reader of a failing test wants it."""
        return str(self.path.relative_to(ROOT))

    @property
    def purpose(self) -> str:
        """The first sentence of the docstring's first paragraph, on one line."""
        docstring = ast.get_docstring(self.tree) or ""
        return " ".join(docstring.partition("\n\n")[0].split())


@cache
def modules(*folders: str) -> tuple[Module, ...]:
    """Read every module of these top-level folders, in order of their paths."""
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    return tuple(_read(path) for path in paths)


def _read(path: Path) -> Module:
    parts = path.relative_to(ROOT).with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    text = path.read_text(encoding="utf-8")
    return Module(name, path, text, ast.parse(text, str(path)))


def imports(module: Module) -> Iterator[Import]:
    """List what a module imports when it runs; what only type checkers see is left out."""
    yield from _imports_in(module.tree.body, is_lazy=False)


def _imports_in(body: list[ast.stmt], *, is_lazy: bool) -> Iterator[Import]:
    for node in body:
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno, is_lazy) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # `from a import b` may mean the module a.b or the name b of a; the caller knows which modules exist.
            yield from (Import(f"{node.module}.{alias.name}", node.lineno, is_lazy) for alias in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from _imports_in(node.orelse, is_lazy=is_lazy)
        else:
            inside = is_lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            for block in _blocks(node):
                yield from _imports_in(block, is_lazy=inside)


def _blocks(node: ast.AST) -> Iterator[list[ast.stmt]]:
    for _, value in ast.iter_fields(node):
        if not isinstance(value, list):
            continue
        statements = [item for item in value if isinstance(item, ast.stmt)]
        if statements:
            yield statements
        for item in value:
            if isinstance(item, ast.excepthandler | ast.match_case):
                yield from _blocks(item)
