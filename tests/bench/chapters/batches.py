"""This is where a thousand keys are read or written at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from hashlib import blake2b
from itertools import chain
from pickle import loads
from typing import Any

import hiredis
import msgspec

from tests.bench.floor import RawSocket, pack
from tests.bench.functions import ours
from tests.bench.goals import Outcome, beside, budget
from tests.bench.ground import CACHE_DB, HOUR_S, PEERS_DB, SECRET, SMALL, Ground, pickled
from tests.bench.measure import Variant, code, rotate

Data = dict[str, Any]


def batches(ground: Ground) -> Iterator[Outcome]:
    """Reads in one rotation, writes in another."""
    data = {f"batch:{number}": {**SMALL, "id": number} for number in range(ground.scale.many)}
    with ExitStack() as stack:
        client: Any = stack.enter_context(ground.client())
        caches: dict[str, Any] = {
            "typed": stack.enter_context(ours(ground)),
            "typed, signed": stack.enter_context(ours(ground, secret=SECRET)),
            # A secret, because pickles are only read where they are signed.
            "pickled": stack.enter_context(ours(ground, codec="pickle", secret=SECRET)),
        }
        try:
            from walrus import Database
        except ImportError:
            pass
        else:
            database = Database(host="127.0.0.1", port=ground.server.port, db=PEERS_DB)
            stack.callback(database.close)
            caches["walrus"] = database.cache(name="walrus")
        raw = RawSocket(ground.server.port, CACHE_DB)
        stack.callback(raw.close)
        yield from _reads(ground, client, raw, caches, data)
        yield from _writes(ground, client, raw, caches, data)


def _reads(ground: Ground, client: Any, raw: RawSocket, caches: dict[str, Any], data: Data) -> Iterator[Outcome]:
    raw_keys = [f"raw:{key}" for key in data]
    client.mset({raw: pickled(value) for raw, value in zip(raw_keys, data.values(), strict=True)})
    variants: dict[str, Variant] = {
        "MGET + loads": code("[loads(value) for value in mget(keys)]", loads=loads, mget=client.mget, keys=raw_keys),
        **_read_floors(raw, data),
    }
    for name, cache in caches.items():
        keys = [f"{name}:{key}" for key in data]
        cache.set_many({f"{name}:{key}": value for key, value in data.items()}, timeout=HOUR_S)
        assert list(data.values()) == list(cache.get_many(keys).values()), f"{name} gives other values"
        variants[name] = code("get_many(keys)", get_many=cache.get_many, keys=keys)
    mapped = _mapped(caches["typed"], list(data.values()))
    if mapped is not None:
        variants["map"] = mapped
    base = "MGET + loads"
    times = rotate(variants, max(2, ground.scale.rounds // 2), ground.scale.batch_s * 2)
    floor, typed_floor = times.ratio("floor, pickled", base), times.ratio("floor, typed", base)
    yield budget("many.get", times.ratio("pickled", base), "signed, as pickles have to be", times.medians(), floor)
    yield budget("many.get.typed", times.ratio("typed", base), floor=typed_floor)
    yield beside("get_many(1000), typed and signed / MGET + loads", times.ratio("typed, signed", base))
    if "walrus" in times.of:
        yield beside("get_many(1000) of walrus / MGET + loads", times.ratio("walrus", base))
    text = "`fn.map` of 1000 stored calls / MGET + loads"
    yield beside(text, times.ratio("map", base)) if "map" in times.of else beside(text, None, "not built")


def _read_floors(raw: RawSocket, data: Data) -> dict[str, Variant]:
    """Keys packed before, a bare socket, and the decoding alone; pickles with a MAC, because they may come from anybody."""
    stored = {f"raw:{key}".encode(): pickled(value) for key, value in data.items()}
    typed = {f"own:{key}".encode(): msgspec.msgpack.encode(value) for key, value in data.items()}
    raw.ask(pack(b"MSET", [part for pair in typed.items() for part in pair]))
    return {
        "floor, pickled": code(
            "[(mac(value, key=key, digest_size=16).digest(), loads(value)) for value in ask(packed)]",
            mac=blake2b,
            key=SECRET.encode(),
            loads=loads,
            ask=raw.ask,
            packed=pack(b"MGET", list(stored)),
        ),
        "floor, typed": code(
            "[decode(value) for value in ask(packed)]",
            decode=msgspec.msgpack.Decoder().decode,
            ask=raw.ask,
            packed=pack(b"MGET", list(typed)),
        ),
    }


def _mapped(cache: Any, values: list[Any]) -> Variant | None:
    """`fn.map` over as many stored calls."""

    def fn(number: int) -> Any:
        return values[number]

    call = cache.cached(name="mapped", version=1)(fn)
    if not hasattr(call, "map"):
        return None
    numbers = range(len(values))
    assert values == call.map(numbers)() == call.map(numbers)()
    return code("map_(numbers)()", map_=call.map, numbers=numbers)


def _writes(ground: Ground, client: Any, raw: RawSocket, caches: dict[str, Any], data: Data) -> Iterator[Outcome]:
    named = {f"raw:{key}": value for key, value in data.items()}

    def pipelined() -> None:
        # Without MULTI: nobody who fills a cache needs it, and it is quicker without.
        with client.pipeline(transaction=False) as pipeline:
            for key, value in named.items():
                pipeline.set(key, pickled(value), ex=HOUR_S)
            pipeline.execute()

    encode, keys = msgspec.msgpack.Encoder().encode, [key.encode() for key in named]

    def bare() -> None:
        # The shortest way this server knows; nothing is looked at.
        pairs = chain.from_iterable(zip(keys, map(encode, data.values()), strict=True))
        raw.ask(hiredis.pack_command((b"MSETEX", b"%d" % len(keys), *pairs, b"EX", b"3600")))  # type: ignore[arg-type]

    variants = {"pipeline": code("write()", write=pipelined), "floor": code("write()", write=bare)}
    for name, cache in caches.items():
        variants[name] = code(f"set_many(data, timeout={HOUR_S})", set_many=cache.set_many, data=data)
    times = rotate(variants, max(2, ground.scale.rounds // 2), ground.scale.batch_s * 2)
    floor = times.ratio("floor", "pipeline")
    yield budget("many.set", times.ratio("typed", "pipeline"), seconds=times.medians(), floor=floor)
    for name in list(caches)[1:]:
        yield beside(f"set_many(1000, ttl), {name} / pipeline", times.ratio(name, "pipeline"))
