"""This is where we make the bytes that leave this process, and open those that come in: verify first, then decode."""

from __future__ import annotations

import os
import pickle
import struct
from collections.abc import Callable, Sequence
from functools import partial
from itertools import repeat
from operator import add
from typing import Any, Final, cast

from taskcache.codec import compression, failures, pickling, typed
from taskcache.codec.envelope import (
    COMPRESSED,
    CREATED_AT,
    ERROR,
    FLAGS_AT,
    HEADER_BYTES,
    IS_OURS,
    KEY_ID_AT,
    MAC_BYTES,
    NO_LABEL,
    PICKLE,
    SIGNED,
    TAGGED,
    TOKEN_BYTES,
    Envelope,
    Head,
    pack_head,
    unpack,
    write_head,
)
from taskcache.codec.signing import Signer
from taskcache.errors import UnstorableValue, UntrustedValue, ValueTooLarge
from taskcache.settings import Settings

# What is signed is signed for one use. Entries add the Redis key, so a value is worth nothing under another key.
_ENTRY: Final = b"entry\0"
_MESSAGE: Final = b"message\0"
_ARGUMENTS: Final = b"arguments\0"

# magic, version, flags, key id; then the MAC, if SIGNED; then the payload
_MESSAGE_HEADER: Final = struct.Struct("<BBBB")
_MESSAGE_MAGIC: Final = 0xC6
_MESSAGE_VERSION: Final = 1
_MESSAGE_FLAGS: Final = PICKLE | COMPRESSED | SIGNED

# How an entry of no function and without tags goes on after its token: its flags, and a label of nobody's.
_NOBODYS: Final = {bits: bytes((bits,)) + NO_LABEL.to_bytes(2, "little") for bits in range(ERROR)}
_SIGNED_HEADER_BYTES: Final = HEADER_BYTES + MAC_BYTES
# Larger entries are read through views, which take longer to make than small copies.
_SMALL_BYTES: Final = 4096
# How an entry of the commonest kind begins: what stands at which place.
_COMMONEST: Final = tuple(
    (at + place, bytes((byte,)))
    for at, part in ((0, IS_OURS), (FLAGS_AT, _NOBODYS[0]))
    for place, byte in enumerate(part)
)
# In msgpack, what makes an array of all that follows, and a byte string of the head that follows.
_ARRAY: Final = 0xDD
_ARRAY_FOLLOWS: Final = struct.Struct(">BI")
_HEAD_FOLLOWS: Final = 0xC4
# More than this is not copied to be read at once.
_TOGETHER_BYTES: Final = 4 * 1024 * 1024
# How many values are looked at as one: one that is not plain costs its neighbours their short way, and large ones memory.
_TOGETHER: Final = 100
# Stands for what `open_plain` has not opened.
UNOPENED: Final[Any] = object()
_UNREADABLE: Final = (UntrustedValue, *typed.MALFORMED)

Buffer = bytes | bytearray | memoryview


class Codec:
    """Seals and opens values, failures, messages and arguments the way one cache's settings say."""

    def __init__(self, settings: Settings, *, pickler: type[pickle.Pickler] = pickle.Pickler) -> None:
        """Obey `settings`; `pickler` writes what the typed codec does not (cloudpickle's where code goes by value)."""
        self._signer = Signer(settings.secrets) if settings.secrets else None
        # Part of what is signed, so it goes into the head before there is a signature.
        self._key_id = self._signer.key_id if self._signer is not None else 0
        self._always_pickles = settings.codec == "pickle"
        # "safe" means that nothing is ever unpickled, not even what a colleague has signed.
        self._may_pickle = bool(settings.secrets) and settings.codec != "safe"
        self._compress_above_bytes = settings.compress_above_bytes
        self._pickler = pickler
        # What reads the payloads that `open_plain` opens: without a secret nothing signed, with one nothing else.
        usual = 0 if self._signer is None else SIGNED
        self._readers: dict[bytes, Callable[[bytes | memoryview], object]] = {
            _NOBODYS[bits]: partial(self._read, bits) for bits in range(usual, usual + SIGNED)
        }
        self._readers[_NOBODYS[usual]] = typed.decode_bare

    @property
    def is_signed(self) -> bool:
        """True when nothing is read that is not signed."""
        return self._signer is not None

    def seal(
        self,
        redis_key: bytes,
        value: object,
        *,
        token: bytes,
        created_ms: int,
        fresh_ms: int,
        cost_ms: int,
        label_bytes: int | None,
        stamps: bytes = b"",
        tags: tuple[str, ...] = (),
    ) -> bytes:
        """
        Make the bytes of an entry; a `fresh_ms` of PERSIST is written as "none stated".

        Raises `UnstorableValue` for what may not be written, `ValueTooLarge` for more than Redis stores.
        """
        payload, bits = self._write(value, what="the value")
        # A flight that lost its stamps delivers and does not store: its tags have nothing left to name.
        if not stamps:
            tags = ()
        if tags:
            bits |= TAGGED
        lifetime_ms = max(fresh_ms, 0)
        head = Head(token, bits, label_bytes, created_ms, lifetime_ms, cost_ms, stamps, tags, self._key_id)
        return self._signed(_ENTRY + redis_key, write_head(head), payload)

    def seal_plain(self, redis_keys: Sequence[bytes], values: Sequence[object], *, fresh_ms: int) -> list[bytes]:
        """Make the bytes of entries of no function: what `seal` does for each, when all else is the same."""
        payloads, flags = self._write_many(values)
        # One token for all: it tells an entry from what was stored for the same key before and will be after it.
        beginning = IS_OURS + os.urandom(TOKEN_BYTES)
        heads_of = {bits: beginning + self._plain_tail(bits, fresh_ms) for bits in set(flags)}
        heads = map(heads_of.__getitem__, flags)
        if self._signer is None:
            return list(map(add, heads, payloads))
        return [
            self._signed(_ENTRY + redis_key, head, payload)
            for redis_key, head, payload in zip(redis_keys, heads, payloads, strict=True)
        ]

    def _plain_tail(self, bits: int, fresh_ms: int) -> bytes:
        """What follows the token in the head of an entry of no function."""
        head = Head(bytes(TOKEN_BYTES), bits, None, 0, max(fresh_ms, 0), 0, b"", (), self._key_id)
        return write_head(head)[FLAGS_AT:]

    def seal_failure(
        self, redis_key: bytes, error: BaseException, *, token: bytes, created_ms: int = 0, cost_ms: int = 0
    ) -> bytes:
        """Make the bytes that tell every waiter of an error."""
        failure = failures.pack_failure(error, trusted=self._may_pickle, pickler=self._pickler)
        payload, bits = self._folded(failure, ERROR)
        head = Head(token, bits, None, created_ms, 0, cost_ms, b"", (), self._key_id)
        return self._signed(_ENTRY + redis_key, write_head(head), payload)

    def open(self, redis_key: bytes, envelope: Envelope | Buffer) -> object:
        """Read the value of an entry. Raises `UntrustedValue`, and nothing else, when it is not one of ours."""
        sealed = envelope if isinstance(envelope, Envelope) else unpack(envelope)
        bits = int(sealed.flags)
        if bits & ERROR:
            raise UntrustedValue("a failure where a value is expected")
        return self._read(bits, self._verified(redis_key, sealed))

    def open_short(self, redis_key: bytes, entry: bytes | bytearray, head_bytes: int) -> object:
        """
        Read the value of an entry without tags whose head is that long: what `open` does, for those who have looked.

        An entry that lies about its head has another signature, and where nothing is signed nothing is kept from anybody
        who can write. Raises `UntrustedValue`, and nothing else.
        """
        if len(entry) < head_bytes:
            raise UntrustedValue(f"an entry of {len(entry)} bytes is shorter than its head")
        bits = entry[FLAGS_AT]
        view = entry if type(entry) is bytes and len(entry) < _SMALL_BYTES else memoryview(entry)
        if not bits and self._signer is None:
            return typed.decode(view[head_bytes:])
        at = head_bytes + MAC_BYTES if bits & SIGNED else head_bytes
        if self._signer is not None:
            mac, head = bytes(view[head_bytes:at]), view[:head_bytes]
            if not self._signer.verify(_ENTRY + redis_key, entry[KEY_ID_AT], mac, head, view[at:]):
                raise UntrustedValue("an entry whose signature is not ours, or belongs to another key")
        return self._read(bits, view[at:])

    def open_together(self, entries: Sequence[Any], head_bytes: int) -> tuple[bytes, list[Any]] | None:
        """
        Read entries with heads of that length, quicker than one by one: all heads, one after the other, and the values.

        They are decoded as one array, in which the head of each is a byte string that comes before its value: a call into C
        for all, and not five for each. Whoever asks looks at the heads: only of entries that are neither signed, pickled nor
        compressed these are the values, and what is damaged shifts what follows. None when it cannot be so.
        """
        if self._signer is not None:
            return None
        count = len(entries)
        try:
            if sum(map(len, entries)) > _TOGETHER_BYTES:
                return None
            joined = bytes((_HEAD_FOLLOWS, head_bytes)).join((_ARRAY_FOLLOWS.pack(_ARRAY, 2 * count), *entries))
            parts = cast("list[Any]", typed.decode_bare(joined))
            heads = b"".join(parts[::2])
        except _UNREADABLE:
            return None  # one that is not there, or is damaged
        return (heads, parts[1::2]) if len(heads) == count * head_bytes else None

    def open_bare(self, entries: Sequence[Any]) -> list[Any] | None:
        """What `open_plain` reads, quicker, when all are the commonest: unsigned, not compressed; None when one is not."""
        opened = self.open_together(entries, HEADER_BYTES)
        if opened is None:
            return None
        heads, values = opened
        # All heads are looked at together, too, byte by byte.
        for at, byte in _COMMONEST:
            if heads[at::HEADER_BYTES] != byte * len(entries):
                return None
        return values

    def open_plain(self, redis_keys: Sequence[bytes], entries: Sequence[bytes | bytearray | None]) -> list[Any]:
        """
        Read many entries as `seal_plain` has made them; UNOPENED for whatever is not there or needs a closer look.

        What `open_short` does for each, when nearly all are of no function, and sound.
        """
        readers, signer, opened = self._readers, self._signer, []
        for redis_key, entry in zip(redis_keys, entries, strict=True):
            value = UNOPENED
            if type(entry) is bytes and entry[:2] == IS_OURS:
                read = readers.get(entry[FLAGS_AT:CREATED_AT])
                body = entry if len(entry) < _SMALL_BYTES else memoryview(entry)
                try:
                    if read is None:
                        pass
                    elif signer is None:
                        value = read(body[HEADER_BYTES:])
                    elif len(entry) > _SIGNED_HEADER_BYTES:
                        mac, payload = entry[HEADER_BYTES:_SIGNED_HEADER_BYTES], body[_SIGNED_HEADER_BYTES:]
                        if signer.verify(_ENTRY + redis_key, entry[KEY_ID_AT], mac, body[:HEADER_BYTES], payload):
                            value = read(payload)
                except _UNREADABLE:
                    pass  # counted and logged by those who look closer
            opened.append(value)
        return opened

    def reopener(self, envelope: Envelope) -> Callable[[], object]:
        """What reads the value of an entry that `open` has accepted: a new object each time, not verified again."""
        bits = int(envelope.flags)
        if not bits & (PICKLE | COMPRESSED):
            return partial(typed.decode, envelope.payload)
        return partial(self._read, bits, envelope.payload)

    def size_bytes(self, envelope: Envelope) -> int:
        """How long the payload of an entry that `open` has accepted is when it is unfolded."""
        if int(envelope.flags) & COMPRESSED:
            return compression.unfolded_bytes(envelope.payload)
        return len(envelope.payload)

    def open_failure(self, redis_key: bytes, envelope: Envelope | Buffer) -> BaseException:
        """Read the error of an envelope that has the ERROR flag. Raises `UntrustedValue`, and nothing else."""
        sealed = envelope if isinstance(envelope, Envelope) else unpack(envelope)
        bits = int(sealed.flags)
        if not bits & ERROR:
            raise UntrustedValue("a value where a failure is expected")
        payload = self._unfolded(bits, self._verified(redis_key, sealed))
        return failures.unpack_failure(payload, trusted=self._may_pickle)

    def seal_message(self, body: object, *, refer: typed.Refer | None = None) -> bytes:
        """Make the body of a message to a worker; `refer` as in `typed.encode`."""
        return self._seal_signed(_MESSAGE, body, refer, "the message")

    def open_message(self, data: Buffer, *, resolve: typed.Resolve | None = None) -> object:
        """Read the body of a message. Raises `UntrustedValue` when it is not one of ours, and what `resolve` raises."""
        return self._open_signed(_MESSAGE, data, resolve)

    def seal_arguments(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], *, refer: typed.Refer | None = None
    ) -> bytes:
        """Write the arguments of a call, once: what the caller changes afterwards is not seen by the worker."""
        return self._seal_signed(_ARGUMENTS, {"args": list(args), "kwargs": kwargs}, refer, "the arguments")

    def open_arguments(
        self, data: Buffer, *, resolve: typed.Resolve | None = None
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Read the arguments of a call, new objects each time. Raises `UntrustedValue`, and what `resolve` raises."""
        call = self._open_signed(_ARGUMENTS, data, resolve)
        if type(call) is not dict or set(call) != {"args", "kwargs"}:
            raise UntrustedValue("arguments that are not laid out as arguments")
        args, kwargs = call["args"], call["kwargs"]
        if type(args) is not list or type(kwargs) is not dict or not all(type(name) is str for name in kwargs):
            raise UntrustedValue("arguments that are not laid out as arguments")
        return tuple(args), kwargs

    def _write(self, value: object, *, refer: typed.Refer | None = None, what: str) -> tuple[bytes, int]:
        """Encode a value by whatever codec may write it; returns the payload and its flags."""
        if not self._always_pickles:
            try:
                return self._folded(typed.encode(value, refer=refer, what=what), 0)
            except UnstorableValue:
                if not self._may_pickle:
                    raise
        return self._folded(pickling.dumps(value, refer=refer, pickler=self._pickler, what=what), PICKLE)

    def _write_many(self, values: Sequence[object]) -> tuple[list[bytes], list[int]]:
        """What `_write` gives for each value: payloads, and their flags."""
        payloads: list[bytes] = []
        flags: list[int] = []
        for start in range(0, len(values), _TOGETHER):
            part = list(values[start : start + _TOGETHER])
            plain = None if self._always_pickles else typed.encode_plain(part)
            if plain is not None and max(map(len, plain)) <= min(self._compress_above_bytes, compression.MAX_BYTES):
                payloads += plain
                flags += repeat(0 if self._signer is None else SIGNED, len(plain))
                continue
            for place, value in enumerate(part):
                written = self._write(value, what="the value") if plain is None else self._folded(plain[place], 0)
                payloads.append(written[0])
                flags.append(written[1])
        return payloads, flags

    def _read(self, bits: int, payload: bytes | memoryview, resolve: typed.Resolve | None = None) -> object:
        """Decode a payload that has been verified."""
        if not bits & PICKLE:
            return typed.decode(self._unfolded(bits, payload) if bits & COMPRESSED else payload, resolve=resolve)
        if not (self._may_pickle and bits & SIGNED):
            raise UntrustedValue("a pickle, which is not read here")
        return pickling.loads(self._unfolded(bits, payload), resolve=resolve)

    def _unfolded(self, bits: int, payload: bytes | memoryview) -> bytes | memoryview:
        return compression.decompress(payload) if bits & COMPRESSED else payload

    def _folded(self, payload: bytes, bits: int) -> tuple[bytes, int]:
        """Compress a payload where it pays, and add the flags of how it will leave."""
        smaller = compression.compress(payload, above_bytes=self._compress_above_bytes)
        if smaller is not None:
            payload, bits = smaller, bits | COMPRESSED
        if len(payload) > compression.MAX_BYTES:
            raise ValueTooLarge(f"a value of {len(payload)} bytes; Redis stores {compression.MAX_BYTES} at most")
        return payload, bits if self._signer is None else bits | SIGNED

    def _signed(self, context: bytes, head: bytes, payload: bytes) -> bytes:
        """Put head and payload together, with the MAC between them when there is a secret."""
        if self._signer is None:
            return head + payload
        _, mac = self._signer.sign(context, head, payload)
        return b"".join((head, mac, payload))

    def _verified(self, redis_key: bytes, sealed: Envelope) -> bytes | memoryview:
        """Check the signature, when we have secrets to check it with, before anybody looks at the payload."""
        if self._signer is not None:
            if not int(sealed.flags) & SIGNED:
                raise UntrustedValue("an entry that is not signed")
            head = pack_head(sealed)
            if not self._signer.verify(_ENTRY + redis_key, sealed.key_id, sealed.mac, head, sealed.payload):
                raise UntrustedValue("an entry whose signature is not ours, or belongs to another key")
        return sealed.payload

    def _seal_signed(self, context: bytes, body: object, refer: typed.Refer | None, what: str) -> bytes:
        payload, bits = self._write(body, refer=refer, what=what)
        head = _MESSAGE_HEADER.pack(_MESSAGE_MAGIC, _MESSAGE_VERSION, bits, self._key_id)
        return self._signed(context, head, payload)

    def _open_signed(self, context: bytes, data: Buffer, resolve: typed.Resolve | None) -> object:
        view = memoryview(data)
        if len(view) < _MESSAGE_HEADER.size:
            raise UntrustedValue("a message that is shorter than its header")
        magic, version, bits, key_id = _MESSAGE_HEADER.unpack_from(view)
        if magic != _MESSAGE_MAGIC or version != _MESSAGE_VERSION or bits & ~_MESSAGE_FLAGS:
            raise UntrustedValue("a message that is not one of ours, or of another version")
        at = _MESSAGE_HEADER.size
        mac = bytes(view[at : at + MAC_BYTES]) if bits & SIGNED else b""
        payload = view[at + len(mac) :]
        if self._signer is None and mac:
            # It could be read, but the one who signed would not believe what we answer.
            raise UntrustedValue("a message that is signed, and there is no secret here to check it with")
        if self._signer is not None and not (
            mac and self._signer.verify(context, key_id, mac, view[: _MESSAGE_HEADER.size], payload)
        ):
            raise UntrustedValue("a message that is not signed with a secret of ours")
        return self._read(bits, payload, resolve)
