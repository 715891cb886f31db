"""This is where the demo's slow function is: it reads one Python module in every way Python itself can read it."""

from __future__ import annotations

import ast
import dis
import hashlib
import io
import symtable
import tokenize
import types
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef)
_LOOPS: Final = (ast.For, ast.AsyncFor, ast.While)
# `except*` came with Python 3.11.
_TRIES: Final = (ast.Try, getattr(ast, "TryStar", ast.Try))
_BLOCKS: Final = (ast.If, ast.With, ast.AsyncWith, ast.Match, ast.ClassDef, *_FUNCTIONS, *_LOOPS, *_TRIES)


@dataclass(frozen=True, slots=True)
class Measure:
    """What one module is made of."""

    lines: int = 0
    tokens: int = 0
    functions: int = 0
    branches: int = 0
    # Block in block; an `elif` is as deep as its `if`.
    deepest_nesting: int = 0
    busiest_function: str = ""
    busiest_branches: int = 0
    longest_function: str = ""
    longest_lines: int = 0
    imports: tuple[str, ...] = ()
    names: int = 0
    instructions: int = 0
    # Why it is not valid Python, when it is not.
    flaw: str = ""

    @property
    def branches_per_function(self) -> float:
        return self.branches / max(1, self.functions)


def measure(path: str, digest: str) -> Measure:
    """Measure the module at `path`, whose bytes have this SHA-256; raises ValueError when they have another."""
    data = Path(path).read_bytes()
    if hashlib.sha256(data).hexdigest() != digest:
        raise ValueError(f"{path} was changed after the call was made; call again with its new digest")
    try:
        return _measure(data)
    except (SyntaxError, ValueError, tokenize.TokenError, RecursionError) as error:
        return Measure(lines=data.count(b"\n"), flaw=f"{type(error).__name__}: {error}")


def _measure(data: bytes) -> Measure:
    text = io.TextIOWrapper(io.BytesIO(data), tokenize.detect_encoding(io.BytesIO(data).readline)[0]).read()
    with warnings.catch_warnings():
        # Old modules have escapes and comparisons that today's compiler warns of.
        warnings.simplefilter("ignore")
        survey = _survey(ast.parse(text))
        names = sum(len(table.get_symbols()) for table in _tables(symtable.symtable(text, "module", "exec")))
        code = compile(text, "module", "exec", dont_inherit=True)
    busiest = max(survey.functions, key=lambda function: function.branches, default=_Function("", 0))
    longest = max(survey.functions, key=lambda function: function.lines, default=_Function("", 0))
    return Measure(
        lines=text.count("\n"),
        tokens=sum(1 for _ in tokenize.tokenize(io.BytesIO(data).readline)),
        functions=len(survey.functions),
        branches=survey.branches,
        deepest_nesting=survey.deepest,
        busiest_function=busiest.name,
        busiest_branches=busiest.branches,
        longest_function=longest.name,
        longest_lines=longest.lines,
        imports=tuple(sorted(survey.imports)),
        names=names,
        instructions=sum(1 for part in _codes(code) for _ in dis.get_instructions(part)),
    )


@dataclass(slots=True)
class _Function:
    name: str
    lines: int
    branches: int = 0


@dataclass(slots=True)
class _Survey:
    functions: list[_Function] = field(default_factory=list)
    imports: set[str] = field(default_factory=set)
    branches: int = 0
    deepest: int = 0


def _survey(tree: ast.Module) -> _Survey:
    """Walk the tree with a stack of our own, since expressions may be nested deeper than Python may recurse."""
    survey = _Survey()
    stack: list[tuple[ast.AST, int, str, _Function | None]] = [(tree, 0, "", None)]
    while stack:
        node, depth, scope, function = stack.pop()
        if isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
            scope = f"{scope}.{node.name}" if scope else node.name
        if isinstance(node, _FUNCTIONS):
            function = _Function(scope, (node.end_lineno or node.lineno) - node.lineno + 1)
            survey.functions.append(function)
        branches = _branches_of(node)
        survey.branches += branches
        if function is not None:
            function.branches += branches
        survey.imports.update(_imports_of(node))
        inside = depth + isinstance(node, _BLOCKS)
        survey.deepest = max(survey.deepest, inside)
        for child in ast.iter_child_nodes(node):
            stack.append((child, depth if _is_elif(node, child) else inside, scope, function))
    return survey


def _branches_of(node: ast.AST) -> int:
    """How many more ways there are through the code because of this node."""
    if isinstance(node, ast.BoolOp):
        return len(node.values) - 1
    if isinstance(node, ast.comprehension):
        return 1 + len(node.ifs)
    return int(isinstance(node, (ast.If, ast.IfExp, ast.ExceptHandler, ast.match_case, *_LOOPS)))


def _imports_of(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield "." * node.level + (node.module or "")


def _is_elif(node: ast.AST, child: ast.AST) -> bool:
    return (
        isinstance(node, ast.If)
        and isinstance(child, ast.If)
        and node.orelse == [child]
        and child.col_offset == node.col_offset
    )


def _tables(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    yield table
    for child in table.get_children():
        yield from _tables(child)


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)
