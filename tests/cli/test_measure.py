"""This is where we check what the demo measures, and what it measures it on."""

from __future__ import annotations

import hashlib
import sysconfig
from pathlib import Path

import pytest

from taskcache.cli.demo.library import QUICK, SKIPPED, change, copy_library, look_at
from taskcache.cli.demo.measure import Measure, measure

SOURCE = """\
import os
from . import near
from a.b import c, d

class K:
    def short(self): return 1

    def long(self, x):
        for y in x:
            if y and c or d:
                with y:
                    return [z for z in y if z]
            elif y is None:
                return 2
        return 3 if x else 4
"""


def measured(path: Path) -> Measure:
    """Measure a file as it is now."""
    return measure(*look_at(path, path.name).call)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A small module."""
    path = tmp_path / "small.py"
    path.write_text(SOURCE)
    return path


def test_a_module_is_measured(path: Path) -> None:
    """Functions, branches, nesting, length and imports are counted as a reader would."""
    found = measured(path)

    # for, if, `and`, `or`, comprehension, its if, elif, conditional expression
    assert (8, 8, "K.long") == (found.branches, found.busiest_branches, found.busiest_function)
    assert (2, 4.0) == (found.functions, found.branches_per_function)
    # class, def, for, if, with
    assert 5 == found.deepest_nesting
    assert ("K.long", 8) == (found.longest_function, found.longest_lines)
    assert (".", "a.b", "os") == found.imports
    assert 15 == found.lines
    assert found.tokens > 80
    assert found.names > 10
    assert found.instructions > 30
    assert "" == found.flaw


def test_an_elif_is_no_deeper_than_its_if(tmp_path: Path) -> None:
    """A long chain of elif is flat; an if inside an else is not."""
    flat, deep = tmp_path / "flat.py", tmp_path / "deep.py"
    flat.write_text("if a: pass\nelif b: pass\nelif c: pass\n")
    deep.write_text("if a: pass\nelse:\n    if b: pass\n")

    assert (1, 2) == (measured(flat).deepest_nesting, measured(deep).deepest_nesting)


@pytest.mark.parametrize("text", ["def f(:\n", "x = '\n", "\0", "# coding: nonsense\n", "if a:\npass\n"])
def test_what_is_not_python_has_a_flaw(tmp_path: Path, text: str) -> None:
    """A file that cannot be parsed is a result like any other."""
    path = tmp_path / "broken.py"
    path.write_text(text)

    assert measured(path).flaw


def test_a_file_that_changed_after_the_call_is_refused(path: Path) -> None:
    """The digest is part of the key, so a value of other bytes must not be stored under it."""
    with pytest.raises(ValueError, match="was changed"):
        measure(str(path), hashlib.sha256(b"something else").hexdigest())


def test_the_library_is_copied_without_tests_and_foreign_packages(tmp_path: Path) -> None:
    """What is measured is a copy, byte for byte, of the standard library's own modules."""
    modules = copy_library(tmp_path)
    home = Path(sysconfig.get_path("stdlib"))
    names = {module.name for module in modules}

    assert {"ast.py", "json/decoder.py"} <= names
    assert len(names) == len(modules) > QUICK
    assert [] == [name for name in names if SKIPPED & set(Path(name).parts)]
    assert all(module.path.read_bytes() == (home / module.name).read_bytes() for module in modules)


def test_a_quick_run_takes_a_hundred_modules(tmp_path: Path) -> None:
    """They come from all over the library."""
    modules = copy_library(tmp_path, is_quick=True)

    assert QUICK == len(modules)
    assert len({module.name[0] for module in modules}) > 10


def test_a_changed_module_is_another_call(path: Path) -> None:
    """It has another digest, one more function, and the same place."""
    module = look_at(path, "small.py")
    before = measure(*module.call)
    changed = change(module)

    assert changed.path == module.path
    assert changed.digest != module.digest
    assert before.functions + 1 == measure(*changed.call).functions
