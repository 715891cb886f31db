"""This is where making a key is measured: arguments to text, without a server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.bench.functions import ours
from tests.bench.goals import Outcome, beside, budget
from tests.bench.ground import Ground
from tests.bench.measure import code, rotate


def keys(ground: Ground) -> Iterator[Outcome]:
    """The key of `f(42, 'hello', kw=7)`: ours is the same for every way to write the call, walrus's is not."""

    def fn(number: int, name: str, *, kw: int = 0) -> None: ...

    variants = {
        "taskcache": code("key(42, 'hello', kw=7)", key=ours(ground).cached(name="keys", version=1)(fn).key_for)
    }
    try:
        from walrus import Cache
    except ImportError:
        yield budget("key", None, "walrus is not installed")
        return
    # What its decorator does for each call: `make_key` is not reachable from outside.
    variants["walrus"] = code(
        "'%s:%s' % ('keys', key_fn(args, kwargs))", key_fn=Cache._key_fn, args=(42, "hello"), kwargs={"kw": 7}
    )
    variants |= _others(fn)
    times = rotate(variants, ground.scale.rounds, ground.scale.batch_s / 4)
    yield budget("key", times.ratio("taskcache", "walrus"), seconds=times.medians())
    for name in variants.keys() - {"taskcache", "walrus"}:
        yield beside(f"key derivation / {name}", times.ratio("taskcache", name))


def _others(fn: Any) -> dict[str, Any]:
    try:
        from dogpile.cache.util import function_key_generator
    except ImportError:
        return {}
    # It takes no keyword arguments.
    return {"dogpile.cache's generator": code("key(42, 'hello')", key=function_key_generator("keys", fn))}
