"""This is where a hit is measured: one call whose value is stored, beside the bare client, the bare socket and the peers."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

from celery import Celery

from taskcache import Cache
from taskcache.codec import compression, typed
from tests.bench import peers
from tests.bench.floor import RawSocket, pack
from tests.bench.functions import named, ours
from tests.bench.goals import Outcome, beside, budget
from tests.bench.ground import CACHE_DB, HOUR_S, SECRET, VALUES, Ground, pickled
from tests.bench.measure import Times, Variant, code, rotate, work_of

CALL = "call(42, 'hello')"
# Of a `cache_async` function, whose calls give a result.
TASK_CALL = "call(42, 'hello')()"
TEXTS = {peer.key: peer.text for peer in peers.PEERS}


def hits(ground: Ground) -> Iterator[Outcome]:
    """Every size of value, all variants of a size in one rotation."""
    for size in VALUES:
        with ExitStack() as stack:
            variants = _variants(ground, stack, size)
            times = rotate(variants, ground.scale.rounds, ground.scale.batch_s)
        yield from _OUTCOMES[size](times)
    with ExitStack() as stack:
        variants = _variants(ground, stack, "small", work_of)
        times = rotate(variants, ground.scale.rounds, ground.scale.batch_s)
    yield from _work(times)


def _variants(ground: Ground, stack: ExitStack, size: str, code: Callable[..., Variant] = code) -> dict[str, Variant]:
    value = VALUES[size]
    client = stack.enter_context(ground.client())
    calls: dict[str, Callable[[int, str], Any]] = {}
    for key, options in {
        "taskcache": {},
        "signed": {"secret": SECRET},
        "redis-py transport": {"transport": "redis-py"},
    }.items():
        cache = stack.enter_context(ours(ground, **options))
        calls[key] = cache.cached(name=f"{key} {size}", version=1)(named(key, value))
    calls |= peers.installed(ground, stack, lambda name: named(f"{name} {size}", value))
    for key, call in calls.items():
        # The first call computes and stores, the second finds its way, and both give what a hit has to give.
        assert value == call(42, "hello") == call(42, "hello"), f"{key} gives another value"
    variants = {key: code(CALL, call=call) for key, call in calls.items()}
    variants["task"] = code(TASK_CALL, call=_task(stack.enter_context(ours(ground)), size, value))
    raw_key, own_key = f"raw:{size}".encode(), f"own:{size}".encode()
    client.set(raw_key, pickled(value), ex=HOUR_S)
    client.set(own_key, _as_stored(value), ex=HOUR_S)
    variants["r.get"] = code("get(key)", get=client.get, key=raw_key)
    return variants | _floors(ground, stack, raw_key, own_key, calls["taskcache"], code)


def _task(cache: Cache, size: str, value: Any) -> Callable[[int, str], Any]:
    """A `cache_async` function whose value is stored; nothing is ever sent, so its broker is nowhere."""
    cache.app = Celery("hits", broker="memory://", set_as_current=False)
    call: Any = cache.cache_async(name=f"task {size}", version=1)(named("task", value))
    call.put(value, 42, "hello")
    assert value == call(42, "hello")() == call(42, "hello")()
    return call  # type: ignore[no-any-return]


def _floors(
    ground: Ground, stack: ExitStack, raw_key: bytes, own_key: bytes, call: Any, code: Callable[..., Variant]
) -> dict[str, Variant]:
    """What a bare socket takes for the same bytes, with and without decoding them."""
    raw = RawSocket(ground.server.port, CACHE_DB)
    stack.callback(raw.close)
    stamp_and_entry = (call.stamp, call.cache.make_key(call.key_for(42, "hello")).encode())
    return {
        "raw GET": code("get(packed)", get=raw.get, packed=pack(b"GET", [raw_key])),
        "raw GET + loads": code("loads(get(packed))", loads=pickle.loads, get=raw.get, packed=pack(b"GET", [raw_key])),
        "raw GET + own decode": code(
            "decode(unfold(get(packed)))",
            decode=typed.decode,
            unfold=compression.decompress if _is_folded(call) else lambda payload: payload,
            get=raw.get,
            packed=pack(b"GET", [own_key]),
        ),
        "raw MGET": code("get(packed)", get=raw.get_two, packed=pack(b"MGET", stamp_and_entry)),
    }


def _as_stored(value: Any) -> bytes:
    """The payload of an entry: typed, and compressed where that pays, as it is by default."""
    payload = typed.encode(value, what="the value")
    return compression.compress(payload, above_bytes=4096) or payload


def _is_folded(call: Any) -> bool:
    payload = typed.encode(call.uncached(42, "hello"), what="the value")
    return compression.compress(payload, above_bytes=4096) is not None


def _small(times: Times) -> Iterator[Outcome]:
    seconds = times.medians()
    floor = times.ratio("raw MGET", "r.get")
    yield budget("hit.small", times.ratio("taskcache", "r.get"), seconds=seconds, floor=floor)
    yield budget("hit.small.signed", times.ratio("signed", "r.get"), floor=floor)
    for peer in ("walrus", "dogpile", "flask-caching"):
        if peer in times.of:
            yield budget(f"hit.small.{peer}", times.ratio("taskcache", peer), floor=times.ratio("raw MGET", peer))
        else:
            yield budget(f"hit.small.{peer}", None, "not installed")
    yield beside("small hit of a `cache_async` function, with its result / `r.get`", times.ratio("task", "r.get"))
    yield beside("small hit / raw socket MGET: the floor", times.ratio("taskcache", "raw MGET"))
    yield from _all(times, "small")


def _work(times: Times) -> Iterator[Outcome]:
    """What a hit takes of the caller's processor: what is left for others while it waits."""
    yield beside("processor time of a small hit / `r.get`", times.ratio("taskcache", "r.get"), seconds=times.medians())
    yield beside("processor time of a small hit, signed / `r.get`", times.ratio("signed", "r.get"))
    text = "processor time of a small hit of a `cache_async` function, with its result / `r.get`"
    yield beside(text, times.ratio("task", "r.get"))
    yield beside("processor time of the raw socket MGET / `r.get`", times.ratio("raw MGET", "r.get"))
    for key, text in TEXTS.items():
        if key in times.of and key != "diskcache":
            yield beside(f"processor time of a small hit / that of {text}", times.ratio("taskcache", key))


def _page(times: Times) -> Iterator[Outcome]:
    yield budget("hit.10k", times.ratio("taskcache", "raw GET + loads"), seconds=times.medians())
    yield budget("hit.10k.own", times.ratio("taskcache", "raw GET + own decode"))
    yield from _all(times, "10 KB")


def _image(times: Times) -> Iterator[Outcome]:
    floor = times.ratio("raw MGET", "r.get")
    yield budget("hit.1m", times.ratio("taskcache", "r.get"), seconds=times.medians(), floor=floor)
    yield budget("hit.1m.signed", times.ratio("signed", "r.get"))
    yield from _all(times, "1 MB")


def _all(times: Times, size: str) -> Iterator[Outcome]:
    """Everybody beside bare `r.get`, which neither makes a key nor decodes."""
    yield beside(f"{size} hit, transport='redis-py' / `r.get`", times.ratio("redis-py transport", "r.get"))
    for key, text in TEXTS.items():
        if key in times.of:
            yield beside(f"{size} hit of {text} / `r.get`", times.ratio(key, "r.get"))


_OUTCOMES = {"small": _small, "10 KB": _page, "1 MB": _image}
