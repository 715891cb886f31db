"""This is where each Lua file's header is compared with the Python function that calls it."""

from __future__ import annotations

import inspect
import re

import pytest

from taskcache.protocol import scripts
from tests.shape.source import ROOT

FOLDER = ROOT / "taskcache/protocol/lua"
FILES = sorted(FOLDER.glob("*.lua"))
NAMES = [path.stem for path in FILES]


def test_every_lua_file_is_a_script() -> None:
    """A verb has one Lua file and one entry in SCRIPTS."""
    assert NAMES == sorted(scripts.SCRIPTS)


@pytest.mark.parametrize("name", NAMES)
def test_the_header_has_three_lines(name: str) -> None:
    """KEYS, ARGS and REPLY stand in this order at the top; below, keys and arguments are used by name."""
    lines = (FOLDER / f"{name}.lua").read_text(encoding="utf-8").splitlines()
    below = "\n".join(lines[3:])

    assert ["KEYS", "ARGS", "REPLY"] == [line.split()[1] for line in lines[:3]]
    assert None is re.search(r"\b(KEYS|ARGV)\b", below)


@pytest.mark.parametrize("name", NAMES)
def test_the_stub_takes_the_arguments_in_order(name: str) -> None:
    """The function of a script takes its keys first, then its arguments in the header's order, and explains itself."""
    script = scripts.SCRIPTS[name]
    stub = getattr(scripts, name)
    parameters = list(inspect.signature(stub).parameters)

    assert name == script.name
    assert [arg for arg, _ in script.args] == parameters[1:]
    assert inspect.getdoc(stub)


@pytest.mark.parametrize("name", NAMES)
def test_integers_are_typed_alike(name: str) -> None:
    """An argument is `:int` in the header exactly where the stub takes an int or a bool."""
    hints = inspect.get_annotations(getattr(scripts, name), eval_str=True)
    in_lua = [arg for arg, kind in scripts.SCRIPTS[name].args if kind == "int"]
    in_python = [arg for arg, _ in scripts.SCRIPTS[name].args if hints[arg] in (int, bool)]

    assert in_lua == in_python


@pytest.mark.parametrize("name", NAMES)
def test_the_stub_takes_as_many_keys_as_the_script(name: str) -> None:
    """The tuple of keys is as long as the header's list."""
    keys = next(iter(inspect.signature(getattr(scripts, name), eval_str=True).parameters.values()))

    if scripts.SCRIPTS[name].rest:
        assert keys.annotation == tuple[bytes, ...]
    else:
        assert len(scripts.SCRIPTS[name].keys) == len(keys.annotation.__args__)
