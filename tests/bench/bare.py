"""
This is where the floor of a miss is: the least that makes taskcache's promises with Celery's tasks, on bare sockets.

One computation for all who ask meanwhile, in whatever process; claimed by one worker; stored under the stamp that was
valid before the body began, and only by who still holds the claim; told with the value to every process that waits.
Arguments and values are signed and bound to their call. What is left out is everything that goes wrong: leases that are
renewed, timeouts, errors, retries, tags, reconnects, and whatever else a library has between its user and this.
"""

from __future__ import annotations

import hashlib
import os
import struct
import time
from hashlib import blake2b
from hmac import compare_digest
from typing import Any

import msgspec

from tests.bench.floor import RawInbox, RawSocket, pack

# KEYS entry flight; ARGV token inbox
ELECT = b"""
if redis.call('EXISTS', KEYS[1]) == 1 then return false end
local live = redis.call('HGET', KEYS[2], 'token')
redis.call('HSET', KEYS[2], 'token', live or ARGV[1], 'w:' .. ARGV[2], 1)
if not live then redis.call('PEXPIRE', KEYS[2], 60000) end
return live or ARGV[1]
"""
# KEYS flight stamp; ARGV token owner
CLAIM = b"""
local seen = redis.call('HMGET', KEYS[1], 'token', 'owner')
if seen[1] ~= ARGV[1] or seen[2] then return false end
redis.call('HSET', KEYS[1], 'owner', ARGV[2])
redis.call('PEXPIRE', KEYS[1], 15000)
return redis.call('GET', KEYS[2])
"""
# KEYS entry flight; ARGV token owner envelope
PUBLISH = b"""
local flat, flight, inboxes = redis.call('HGETALL', KEYS[2]), {}, {}
for place = 1, #flat, 2 do
  if flat[place]:sub(1, 2) == 'w:' then inboxes[#inboxes + 1] = flat[place]:sub(3)
  else flight[flat[place]] = flat[place + 1] end
end
if flight.token ~= ARGV[1] or flight.owner ~= ARGV[2] then return 0 end
redis.call('SET', KEYS[1], ARGV[3], 'PX', 60000)
for _, inbox in ipairs(inboxes) do redis.call('PUBLISH', inbox, ARGV[1] .. ARGV[3]) end
redis.call('DEL', KEYS[2])
return 1
"""
SHA = {text: hashlib.sha1(text, usedforsecurity=False).hexdigest().encode("ascii") for text in (ELECT, CLAIM, PUBLISH)}
STAMP = b"bare:stamp"
# stamp, created and lifetime in milliseconds; then the MAC, and the value as msgpack
_HEAD = struct.Struct("<12sQI")
_MAC_BYTES = 16
_keyed = blake2b(key=os.environ["BENCH_SECRET"].encode(), digest_size=_MAC_BYTES)


def _mac(key: bytes, data: bytes) -> bytes:
    state = _keyed.copy()
    state.update(key + data)
    return state.digest()


def _names(number: int) -> tuple[bytes, bytes]:
    key = b"bare:%d" % number
    return key, key + b":flight"


class Caller:
    """The caller's side: look, elect, send, and wait to be told by the thread that hears for all."""

    def __init__(self, raw: RawSocket, task: Any) -> None:
        self._raw, self._task = raw, task
        for text in SHA:
            raw.ask(pack(b"SCRIPT", (b"LOAD", text)))
        raw.ask(pack(b"SET", (STAMP, os.urandom(6).hex().encode(), b"EX", b"600")))
        self._inbox_name = b"bare-" + os.urandom(8).hex().encode()
        self._inbox = RawInbox(os.environ["BENCH_CACHE"], self._inbox_name)

    def send(self, number: int) -> tuple[int, bytes]:
        """Begin one call; gives what `get` takes."""
        key, flight = _names(number)
        stamp, entry = self._raw.ask(pack(b"MGET", (STAMP, key)))
        assert stamp is not None
        assert entry is None
        token = os.urandom(16).hex()
        elected = self._raw.ask(
            pack(b"EVALSHA", (SHA[ELECT], b"2", key, flight, token.encode(), self._inbox_name)),
        )
        assert elected == token.encode()
        self._inbox.expect(elected)
        packed = msgspec.msgpack.encode(number)
        self._task.apply_async((number, _mac(b"arguments", packed).hex()), task_id=token)
        return number, elected

    def get(self, sent: tuple[int, bytes]) -> float:
        """Wait for its value."""
        number, token = sent
        return opened(_names(number)[0], self._inbox.wait(token))


def compute(raw: RawSocket, token: str, number: int, signature: str) -> None:
    """The worker's side: check, claim, run the body, seal, and store, tell and end in one step."""
    assert compare_digest(signature, _mac(b"arguments", msgspec.msgpack.encode(number)).hex())
    key, flight = _names(number)
    owner, name = os.urandom(16).hex().encode(), token.encode()
    stamp = raw.ask(pack(b"EVALSHA", (SHA[CLAIM], b"2", flight, STAMP, name, owner)))
    if stamp is None:
        return
    publish(raw, key, flight, name, owner, sealed(key, stamp, time.monotonic()))


def sealed(key: bytes, stamp: bytes, value: float) -> bytes:
    """The envelope of a value, bound to its key."""
    head, packed = _HEAD.pack(stamp, int(time.time() * 1000), 60_000), msgspec.msgpack.encode(value)
    return head + _mac(key, head + packed) + packed


def opened(key: bytes, envelope: bytes) -> float:
    """The value of an envelope, once its MAC is known to be ours."""
    head, mac, packed = (
        envelope[: _HEAD.size],
        envelope[_HEAD.size : _HEAD.size + _MAC_BYTES],
        envelope[_HEAD.size + _MAC_BYTES :],
    )
    assert compare_digest(mac, _mac(key, head + packed))
    value: float = msgspec.msgpack.decode(packed)
    return value


def publish(raw: RawSocket, key: bytes, flight: bytes, *arguments: bytes) -> None:
    """Store an envelope, tell it and end its flight."""
    if raw.ask(pack(b"EVALSHA", (SHA[PUBLISH], b"2", key, flight, *arguments))) != 1:
        raise RuntimeError("the floor's own claim was taken, or its script is not loaded")
