"""This is where a type checker sees what users write: each example is a small module that mypy checks strictly."""

from __future__ import annotations

from pathlib import Path

import pytest
from mypy import api

ROOT = Path(__file__).parents[2]
HEAD = """
from __future__ import annotations
from collections.abc import Coroutine
from typing import Any
from typing_extensions import assert_type
from taskcache import BoundCall, Cache, Result, as_completed, gather
cache = Cache()
"""

# Each must pass as it is: the assertions are in it.
RIGHT = {
    "cached keeps parameters and result": """
@cache.cached
def bare(a: int, b: str = "") -> float: ...
@cache.cached(timeout=5)
def called(a: int, *, b: str = "") -> float: ...
assert_type(bare(1, "x"), float)
assert_type(bare(a=1), float)
assert_type(called(1, b="x"), float)
assert_type(called.uncached(1), float)
assert_type(called.refresh(1), float)
assert_type(called.key_for(1, b=""), str)
assert_type(called.bust(1), int)
assert_type(called.put(1.5, 1), bool)
entry = called.peek(1)
assert entry is not None
assert_type(entry.value, float)
joined = called.join(1)
assert joined is not None
assert_type(joined(), float)
assert_type(called.with_options(timeout=3)(1), float)
""",
    "cached on an async def is awaited": """
@cache.cached()
async def f(a: int) -> str: ...
async def use() -> None:
    assert_type(await f(1), str)
""",
    "aio has the function's parameters": """
@cache.cached()
def f(a: int) -> str: ...
async def use() -> None:
    assert_type(await f.aio.bust(1), int)
    assert_type(await f.aio.put("x", 1), bool)
    assert_type(await f.aio.uncached(1), str)
    entry = await f.aio.peek(1)
    assert entry is not None
    assert_type(entry.value, str)
""",
    "methods can be called": """
class Shop:
    @cache.cached(ignore=("self",))
    def price(self, number: int) -> float: ...
    @staticmethod
    @cache.cached()
    def weight(number: int) -> float: ...
    @classmethod
    @cache.cached()
    def size(cls, number: int) -> float: ...
    @cache.cache_async(ignore=("self",))
    def report(self, number: int) -> float: ...
shop = Shop()
price: float = shop.price(7)
shop.price.bust(7)
size: float = Shop.size(7)
weight: float = Shop.weight(7)
report: Result[float] = shop.report(7)
""",
    "cached_property is its value": """
class Clock:
    @cache.cached_property()
    def now(self) -> float: ...
    @cache.cached_property
    def bare(self) -> list[int]: ...
clock = Clock()
assert_type(clock.now, float)
assert_type(clock.bare, list[int])
del clock.now
""",
    "cache_async gives a result": """
@cache.cache_async
def bare(a: int) -> float: ...
@cache.cache_async(timeout=60, queue="reports", time_limit=30)
def called(a: int, b: str = "") -> float: ...
assert_type(bare(1), Result[float])
assert_type(called(1, b="x"), Result[float])
result = called(1)
assert_type(result(), float)
assert_type(result(timeout=4), float)
assert_type(result(block=False, default=None), float | None)
assert_type(called.refresh(1), Result[float])
async def use() -> None:
    assert_type(await result, float)
    assert_type(await result.wait(timeout=4), float)
    assert_type(await called.aio(1), Result[float])
""",
    "cache_async on an async def gives its value": """
@cache.cache_async()
async def f(a: int) -> str: ...
@cache.cache_async
async def bare(a: int) -> str: ...
assert_type(f(1), Result[str])
assert_type(bare(1)(), str)
""",
    "a batch function is one of single calls": """
@cache.cache_async(batch=True, timeout=60)
def prices(calls: list[BoundCall]) -> list[float | Exception]: ...
@cache.cache_async(batch=True)
def sure(calls: list[BoundCall]) -> tuple[str, ...]: ...
@cache.cache_async(batch=True)
async def late(calls: list[BoundCall]) -> list[float]: ...
@cache.cache_async(batch=False)
def single(a: int) -> float: ...
assert_type(prices(1, any="thing"), Result[float])
assert_type(prices.map([1, 2], chunk=50)(), list[float])
assert_type(prices.starmap([(1,), prices.call(2)], chunk=50)(), list[float])
assert_type(sure(1), Result[str])
assert_type(late(1), Result[float])
assert_type(single(1), Result[float])
assert_type(single.map([1], chunk=5)(), list[float])
async def use() -> None:
    assert_type((await prices.aio.warm([(1,)], chunk=5))(), list[float])
    assert_type(await prices.map([1]), list[float])
""",
    "gather and as_completed keep the type": """
@cache.cache_async()
def f(a: int) -> str: ...
assert_type(gather([f(1), f(2)]), Result[list[str]])
for result in as_completed([f(1)]):
    assert_type(result(), str)
async def use() -> None:
    async for each in as_completed([f(1)]):
        assert_type(each, Result[str])
""",
    "get_or_set gives what was given": """
def compute() -> float: ...
async def acompute() -> float: ...
assert_type(cache.get_or_set("key", compute), float)
assert_type(cache.get_or_set("key", 5), int)
async def use() -> None:
    assert_type(await cache.aio.get_or_set("key", acompute), float)
    assert_type(await cache.aio.get_or_set("key", compute), float)
""",
    "the plain commands": """
assert_type(cache.set("key", 1, 2.5), bool)
assert_type(cache.get_many(["a"]), dict[str, Any])
assert_type(cache.incr("a"), int)
assert_type(cache.delete("a"), int)
assert_type(list(cache.keys()), list[str])
with cache as same:
    assert_type(same, Cache)
""",
    "a profile is a cache": """
assert_type(cache.with_options(timeout=5), Cache)
""",
}

# Each must be refused, with these words.
WRONG = {
    "a misspelt option": ("@cache.cached(timout=5)\ndef f() -> int: ...", "Unexpected keyword argument"),
    "an option of the wrong type": ('@cache.cached(timeout="5")\ndef f() -> int: ...', "No overload variant"),
    "an option of cache_async on cached": (
        '@cache.cached(queue="q")\ndef f() -> int: ...',
        "Unexpected keyword argument",
    ),
    "an option of Celery of the wrong type": (
        '@cache.cache_async(priority="high")\ndef f() -> int: ...',
        "No overload variant",
    ),
    "a wrong word": ('@cache.cached(on_cache_error="ignore")\ndef f() -> int: ...', "No overload variant"),
    "options by position": ("@cache.cached(None, 60)\ndef f() -> int: ...", "No overload variant"),
    "a wrong argument": ("@cache.cached()\ndef f(a: int) -> int: ...\nf('1')", 'incompatible type "str"'),
    "a missing argument": ("@cache.cached()\ndef f(a: int) -> int: ...\nf()", "Missing positional argument"),
    "a wrong argument of a verb": (
        "@cache.cached()\ndef f(a: int) -> int: ...\nf.bust('1')",
        'incompatible type "str"',
    ),
    "a wrong argument of a task": (
        "@cache.cache_async()\ndef f(a: int) -> int: ...\nf('1')",
        'incompatible type "str"',
    ),
    "a batch function that takes no list": (
        "@cache.cache_async(batch=True)\ndef f(a: int) -> list[int]: ...",
        "incompatible type",
    ),
    "a batch function that returns no list": (
        "@cache.cache_async(batch=True)\ndef f(calls: list[BoundCall]) -> int: ...",
        "incompatible type",
    ),
    "a batch on cached": ("@cache.cached(batch=True)\ndef f() -> int: ...", "Unexpected keyword argument"),
    "a wrong value to put": ("@cache.cached()\ndef f(a: int) -> int: ...\nf.put('1', 1)", 'incompatible type "str"'),
    "a result taken for its value": (
        "@cache.cache_async()\ndef f(a: int) -> int: ...\nf(1) + 1",
        "Unsupported operand types",
    ),
    "a timeout on the call of a task": (
        "@cache.cache_async()\ndef f(a: int) -> int: ...\nf(1, timeout=4)",
        "Unexpected keyword argument",
    ),
}


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What mypy says about each example; all of them in one run, which costs seconds and not minutes."""
    folder = tmp_path_factory.mktemp("types")
    sources = {**RIGHT, **{name: source for name, (source, _) in WRONG.items()}}
    files = {name: folder / f"example_{number}.py" for number, name in enumerate(sources)}
    for name, source in sources.items():
        files[name].write_text(HEAD + source)
    options = ["--strict", "--disable-error-code=empty-body", "--disable-error-code=unused-ignore"]
    options += ["--no-error-summary", "--hide-error-context", f"--config-file={ROOT / 'pyproject.toml'}"]
    printed, failure, _ = api.run([*options, f"--cache-dir={folder / 'cache'}", *map(str, files.values())])
    assert not failure, failure
    return {name: "\n".join(line for line in printed.splitlines() if path.name in line) for name, path in files.items()}


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_passes(checked: dict[str, str], name: str) -> None:
    """Parameters and results are those of the function."""
    assert "" == checked[name]


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_found(checked: dict[str, str], name: str) -> None:
    """A slip is found before anything runs."""
    assert WRONG[name][1] in checked[name]
