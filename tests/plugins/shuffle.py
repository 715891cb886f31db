"""This is where tests are put in a random order, which can be repeated: `--shuffle new`, then `--shuffle SEED`."""

from __future__ import annotations

import os
import random

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--shuffle`."""
    parser.addoption("--shuffle", metavar="SEED", help="run in the random order of this seed; `new` makes a seed")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Choose a seed once for the whole run."""
    if config.getoption("shuffle") == "new":
        # xdist gives its workers our command line, and all must collect in the same order: they inherit the seed.
        config.option.shuffle = os.environ.setdefault("TASKCACHE_TEST_ORDER", os.urandom(4).hex())


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say how to repeat this order."""
    seed = config.getoption("shuffle")
    return f"order: --shuffle {seed}" if seed else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Shuffle the modules and the tests within each; modules stay together, for what their tests share."""
    seed = config.getoption("shuffle")
    if not seed:
        return
    chance = random.Random(seed)
    modules: dict[str, list[pytest.Item]] = {}
    for item in items:
        modules.setdefault(item.nodeid.partition("::")[0], []).append(item)
    order = list(modules.values())
    chance.shuffle(order)
    for module in order:
        chance.shuffle(module)
    items[:] = [item for module in order for item in module]
