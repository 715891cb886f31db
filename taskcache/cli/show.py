"""This is where `taskcache show` tells what is stored under a key, and who computes it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from taskcache.cache import Cache
from taskcache.calls.primitives import redis_key_of
from taskcache.codec.envelope import Envelope, Flags, unpack
from taskcache.drivers.topology import Server
from taskcache.errors import UntrustedValue
from taskcache.freshness import Verdict, judge
from taskcache.protocol.entry import EntryKey
from taskcache.protocol.stamps import function_stamp, tag_stamp
from taskcache.protocol.steps import Call

_MISSING: Final = object()
_WHOLE_NUMBER: Final = re.compile(rb"-?\d{1,19}")
# Of how an entry is written; its tags are told by name.
_TOLD: Final = (Flags.ERROR, Flags.PICKLE, Flags.COMPRESSED, Flags.SIGNED)


def show(key: str, *, url: str | None, name: str | None, with_value: bool) -> int:
    """Print what is known of a key; 1 when nothing is."""
    with Cache(url, name, debug=False) as cache:
        server = cache.station.server
        place = EntryKey.of(redis_key_of(cache.name, key))
        entry, left_ms, flight, lease_ms, clock = server.calls(
            [
                Call("GET", (place.entry,)),
                Call("PTTL", (place.entry,)),
                Call("HGETALL", (place.flight,)),
                Call("PTTL", (place.flight,)),
                Call("TIME", ()),
            ]
        )
        now_ms = int(clock[0]) * 1000 + int(clock[1]) // 1000
        print(f"key        {key}")
        print(f"redis key  {cache.make_key(key)}")
        for line in _entry_lines(server, cache.name, key, entry, left_ms, now_ms):
            print(f"entry      {line}")
        for line in _flight_lines(flight, lease_ms, now_ms):
            print(f"flight     {line}")
        if with_value:
            value = cache.get(key, _MISSING)
            print("value      " + ("none that can be read here" if value is _MISSING else repr(value)))
    return 0 if entry is not None or flight else 1


def _entry_lines(server: Server, name: str, key: str, entry: bytes | None, left_ms: int, now_ms: int) -> Iterator[str]:
    if entry is None:
        yield "none"
        return
    expires = "never expires" if left_ms < 0 else f"expires in {left_ms / 1000:.1f} s"
    if _WHOLE_NUMBER.fullmatch(entry):
        yield f"a counter or a whole number; {expires}"
        return
    try:
        envelope = unpack(entry)
    except UntrustedValue as error:
        yield f"{len(entry)} bytes that read as a miss: {error}"
        return
    yield f"{_validity(server, name, key, envelope)}; {len(entry)} bytes; {expires}"
    if envelope.created_ms:
        age_s = max(0, now_ms - envelope.created_ms) / 1000
        yield f"computed {age_s:.1f} s ago, in {envelope.cost_ms / 1000:.3f} s"
    signs = [flag.name.lower() for flag in _TOLD if flag in envelope.flags and flag.name]
    if signs:
        yield ", ".join(signs)
    if envelope.tags:
        yield f"tags {', '.join(envelope.tags)}"


def _validity(server: Server, name: str, key: str, envelope: Envelope) -> str:
    if envelope.label_bytes is None:
        return "a plain value"
    try:
        label = key.encode("utf-8", "surrogatepass")[: envelope.label_bytes].decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return "a value of another key, which reads as a miss"  # its label ends in the middle of a sign
    stamps = (function_stamp(name, label), *(tag_stamp(name, tag) for tag in envelope.tags))
    current: list[bytes | None] = server.call(Call("MGET", stamps))
    if judge(envelope, current) is Verdict.FRESH:
        return f"a valid value of {label}"
    return f"a value of {label} that was invalidated"


def _flight_lines(flight: Any, lease_ms: int, now_ms: int) -> Iterator[str]:
    # A client may give bytes or text, as RESP2 and RESP3 and its options have it.
    fields = {_text(name): _text(value) for name, value in dict(flight or {}).items()}
    if not fields:
        yield "none"
        return
    waiting = sum(name.startswith("w:") for name in fields)
    outdated = ", outdated" if fields.get("stamps") == "" else ""
    yield f"{fields.get('state', 'unknown')}{outdated}; processes that listen: {waiting}; lease ends in {lease_ms / 1000:.1f} s"
    if fields.get("started_ms", "").isdigit():
        yield f"began {max(0, now_ms - int(fields['started_ms'])) / 1000:.1f} s ago"
    yield f"Celery task {fields.get('token', 'unknown')}"


def _text(value: Any) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
