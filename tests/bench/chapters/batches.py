"""This is where a thousand keys are read or written at once."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from tests.bench.functions import ours
from tests.bench.goals import Outcome, beside, budget
from tests.bench.ground import HOUR_S, PEERS_DB, SECRET, SMALL, Ground, pickled
from tests.bench.measure import Times, Variant, code, rotate

COUNT = 1000
KEYS = [f"batch:{number}" for number in range(COUNT)]
DATA = {key: {**SMALL, "id": number} for number, key in enumerate(KEYS)}
RAW_KEYS = [f"raw:{key}" for key in KEYS]


def batches(ground: Ground) -> Iterator[Outcome]:
    """Reads in one rotation, writes in another."""
    with ExitStack() as stack:
        client: Any = stack.enter_context(ground.client())
        typed = stack.enter_context(ours(ground))
        # A secret, because pickles are only read where they are signed.
        picklish = stack.enter_context(ours(ground, codec="pickle", secret=SECRET))
        walrus = _walrus(ground, stack)
        yield from _reads(ground, client, typed, picklish, walrus)
        yield from _writes(ground, client, typed, picklish, walrus)


def _walrus(ground: Ground, stack: ExitStack) -> Any:
    try:
        from walrus import Database
    except ImportError:
        return None
    database = Database(host="127.0.0.1", port=ground.server.port, db=PEERS_DB)
    stack.callback(database.close)
    return database.cache(name="walrus")


def _reads(ground: Ground, client: Any, typed: Any, picklish: Any, walrus: Any) -> Iterator[Outcome]:
    client.mset({raw: pickled(DATA[key]) for raw, key in zip(RAW_KEYS, KEYS, strict=True)})
    mget_and_loads = "[loads(value) for value in mget(keys)]"
    variants: dict[str, Variant] = {
        "MGET + loads": code(mget_and_loads, loads=pickle.loads, mget=client.mget, keys=RAW_KEYS),
    }
    caches = {"typed": typed, "pickled": picklish, "walrus": walrus}
    for name, cache in caches.items():
        if cache is not None:
            keys = [f"{name}:{key}" for key in KEYS]
            cache.set_many({f"{name}:{key}": value for key, value in DATA.items()}, timeout=HOUR_S)
            assert list(DATA.values()) == list(cache.get_many(keys).values()), f"{name} gives other values"
            variants[name] = code("get_many(keys)", get_many=cache.get_many, keys=keys)
    mapped = _mapped(typed)
    if mapped is not None:
        variants["map"] = mapped
    times = rotate(variants, max(2, ground.scale.rounds // 2), ground.scale.batch_s * 2)
    yield budget("many.get", times.ratio("pickled", "MGET + loads"), "signed", times.medians())
    yield budget("many.get.typed", times.ratio("typed", "MGET + loads"))
    if "walrus" in times.of:
        yield beside("get_many(1000) of walrus / MGET + loads", times.ratio("walrus", "MGET + loads"))
    yield _map_outcome(times)


def _mapped(cache: Any) -> Variant | None:
    """`fn.map` over a thousand stored calls."""

    def fn(number: int) -> Any:
        return DATA[f"batch:{number}"]

    call = cache.cached(name="mapped", version=1)(fn)
    if not hasattr(call, "map"):
        return None
    assert list(DATA.values()) == list(call.map(range(COUNT))()) == list(call.map(range(COUNT))())
    return code(f"list(map_(range({COUNT}))())", map_=call.map)


def _map_outcome(times: Times) -> Outcome:
    text = "`fn.map` of 1000 stored calls / MGET + loads"
    if "map" not in times.of:
        return beside(text, None, "not built")
    return beside(text, times.ratio("map", "MGET + loads"))


def _writes(ground: Ground, client: Any, typed: Any, picklish: Any, walrus: Any) -> Iterator[Outcome]:
    def pipelined() -> None:
        # Without MULTI: nobody who fills a cache needs it, and it is quicker without.
        with client.pipeline(transaction=False) as pipeline:
            for raw, key in zip(RAW_KEYS, KEYS, strict=True):
                pipeline.set(raw, pickled(DATA[key]), ex=HOUR_S)
            pipeline.execute()

    variants = {
        "pipeline": code("write()", write=pipelined),
        "typed": code("set_many(data, timeout=3600)", set_many=typed.set_many, data=DATA),
        "pickled": code("set_many(data, timeout=3600)", set_many=picklish.set_many, data=DATA),
    }
    if walrus is not None:
        variants["walrus"] = code("set_many(data, timeout=3600)", set_many=walrus.set_many, data=DATA)
    times = rotate(variants, max(2, ground.scale.rounds // 2), ground.scale.batch_s * 2)
    yield budget("many.set", times.ratio("typed", "pipeline"), seconds=times.medians())
    yield beside("set_many(1000, ttl), pickled and signed / pipeline", times.ratio("pickled", "pipeline"))
    if walrus is not None:
        yield beside("set_many(1000, ttl) of walrus / pipeline", times.ratio("walrus", "pipeline"))
