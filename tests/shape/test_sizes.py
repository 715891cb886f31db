"""This is where sizes are held: over the limit, a file or a function holds two ideas."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator

import pytest

from tests.shape.source import ROOT, modules

MODULE_LINES = 400
FUNCTION_LINES = 60
LUA_LINES = 60

# A ratchet: what is over a limit stands here with its size, may shrink and not grow, and leaves when it fits.
TOLERATED: dict[str, int] = {}


def module_sizes() -> Iterator[tuple[str, int]]:
    """Measure every Python file."""
    for module in modules("taskcache", "workers", "tests"):
        yield module.place, len(module.text.splitlines())


def function_sizes() -> Iterator[tuple[str, int]]:
    """Measure every function from its `def` to its last line, inner ones too."""
    for module in modules("taskcache", "workers", "tests"):
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
                yield f"{module.place}:{node.name}", node.end_lineno - node.lineno + 1


def lua_sizes() -> Iterator[tuple[str, int]]:
    """Measure every Lua file."""
    for path in sorted(ROOT.glob("taskcache/**/*.lua")):
        yield str(path.relative_to(ROOT)), len(path.read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize(
    ("measure", "limit"),
    [(module_sizes, MODULE_LINES), (function_sizes, FUNCTION_LINES), (lua_sizes, LUA_LINES)],
    ids=["modules", "functions", "lua"],
)
def test_nothing_outgrows_its_limit(measure: Callable[[], Iterator[tuple[str, int]]], limit: int) -> None:
    """Modules end at 400 lines, functions and Lua files at 60."""
    too_long = {place: lines for place, lines in measure() if lines > TOLERATED.get(place, limit)}

    assert {} == too_long


def test_the_ratchet_only_tightens() -> None:
    """What has become smaller is written down smaller, and what fits is no longer listed."""
    limits = [(module_sizes, MODULE_LINES), (function_sizes, FUNCTION_LINES), (lua_sizes, LUA_LINES)]
    over = {place: lines for measure, limit in limits for place, lines in measure() if lines > limit}

    assert {place: over.get(place) for place in TOLERATED} == TOLERATED
