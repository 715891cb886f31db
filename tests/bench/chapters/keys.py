"""This is where making a key is measured: arguments to text, without a server."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from typing import Any

import msgspec

from tests.bench.functions import ours
from tests.bench.goals import Outcome, beside, budget
from tests.bench.ground import Ground
from tests.bench.measure import code, rotate


def keys(ground: Ground) -> Iterator[Outcome]:
    """The key of `f(42, 'hello', kw=7)`: ours is the same for every way to write the call, walrus's is not."""

    def fn(number: int, name: str, *, kw: int = 0) -> None: ...

    call = ours(ground).cached(name="keys", version=1)(fn)
    variants = {
        # What a hit does: its prefix is made once for each function.
        "taskcache": code("prefix + digest(42, 'hello', kw=7).encode()", prefix=b"bench:keys:", digest=call.digest),
        "`fn.key_for`": code("key(42, 'hello', kw=7)", key=call.key_for),
    }
    try:
        from walrus import Cache
    except ImportError:
        yield budget("key", None, "walrus is not installed")
        return
    # What a hit of its decorator does; its `make_key`, one more call, is not reachable from outside.
    variants["walrus"] = code(
        "'%s:%s' % ('keys', key_fn(args, kwargs))", key_fn=Cache._key_fn, args=(42, "hello"), kwargs={"kw": 7}
    )
    # The least that makes a key of a call: its arguments bound, looked at, packed and hashed. What is not looked at may be
    # a tuple that is packed as a list is, or a dict whose order would count: one key for two calls, or two for one.
    variants["floor"] = code("floor(42, 'hello', kw=7)", floor=_floor)
    variants |= _others(fn)
    times = rotate(variants, ground.scale.rounds, ground.scale.batch_s / 4)
    floor = times.ratio("floor", "walrus")
    yield budget("key", times.ratio("taskcache", "walrus"), seconds=times.medians(), floor=floor)
    yield from (
        beside(f"key derivation of {name} / walrus", times.ratio(name, "walrus"))
        for name in variants
        if name not in ("taskcache", "walrus", "floor")
    )


_PREFIX = blake2b(b"function", digest_size=16)
_SCALARS = frozenset((int, str, bool, bytes, type(None)))
_PACK = msgspec.msgpack.Encoder().encode


def _floor(number: int, name: str, *, kw: int = 0) -> str | None:
    if type(number) in _SCALARS and type(name) in _SCALARS and type(kw) in _SCALARS:
        hashed = _PREFIX.copy()
        hashed.update(_PACK((number, name, kw)))
        return hashed.hexdigest()
    return None


def _others(fn: Any) -> dict[str, Any]:
    try:
        from dogpile.cache.util import function_key_generator
    except ImportError:
        return {}
    # It takes no keyword arguments.
    return {"dogpile.cache": code("key(42, 'hello')", key=function_key_generator("keys", fn))}
