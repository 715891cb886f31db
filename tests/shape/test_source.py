"""This is where we check the reader of the source, because a shape test that sees nothing always passes."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.shape.source import Import, Module, imports

SOURCE = '''
"""This is where we import
in every way.

More."""
import a
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import unseen
else:
    from b import c
try:
    import d
except ImportError:
    import e
class K:
    import f
    async def g(self):
        with self:
            from h.i import j
def k():
    match 1:
        case 1:
            import l
'''
MODULE = Module("m", Path("m.py"), SOURCE, ast.parse(SOURCE))


def test_every_import_is_seen_but_those_of_type_checkers() -> None:
    """Imports are found in any block, and those inside functions are known as lazy."""
    found = list(imports(MODULE))

    assert [
        Import("a", 6, False),
        Import("typing.TYPE_CHECKING", 7, False),
        Import("b.c", 11, False),
        Import("d", 13, False),
        Import("e", 15, False),
        Import("f", 17, False),
        Import("h.i.j", 20, True),
        Import("l", 24, True),
    ] == found


def test_the_purpose_is_the_first_paragraph() -> None:
    """A purpose that was wrapped is one line again."""
    assert "This is where we import in every way." == MODULE.purpose
