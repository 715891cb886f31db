"""This is where the documentation's list of modules is compared with the tree."""

from __future__ import annotations

from tests.shape import layout
from tests.shape.source import modules


def test_every_module_says_what_it_is_for() -> None:
    """The first docstring line of a module finishes the sentence «this is where …»; the package speaks to users."""
    silent = [
        module.place
        for module in modules("taskcache", "workers", "tests")
        if module.name != "taskcache" and not module.purpose.startswith("This is where ")
    ]

    assert [] == silent


def test_the_layout_page_names_every_module() -> None:
    """docs/layout.md lists each module with its purpose."""
    written = layout.written()

    assert layout.listing().split("\n") == written.split("\n"), "run `python -m tests.shape.layout`"
