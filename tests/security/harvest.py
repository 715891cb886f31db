"""
This is where the regression corpus is written: bytes that once broke something, or were meant to.

    python -m tests.security.harvest        writes tests/security/corpus/ anew; it is committed, and tests read the files
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy
import zstandard

from taskcache.codec import arrays, typed
from taskcache.codec.envelope import HEADER, MAGIC, NO_LABEL, VERSION, Flags
from taskcache.launchers.serializer import SealedArguments, dumps
from tests.security.bombs import Bomb
from tests.security.post import EMBED, with_pickle

CORPUS = Path(__file__).parent / "corpus"
# Made in the working directory of whoever unpickles the corpus.
WITNESS = Path("taskcache-corpus-was-unpickled")
_TOKEN = bytes(range(16))
_ext = msgspec.msgpack.encode


def _entry(payload: bytes, flags: int = 0, label: int = NO_LABEL, stamps: bytes = b"", key_id: int = 0) -> bytes:
    count = len(stamps) // 12
    return HEADER.pack(MAGIC, VERSION, _TOKEN, flags, label, 1, 60_000, 0, count, key_id) + stamps + payload


def entries() -> Iterator[tuple[str, bytes]]:
    """Bytes for the place of an entry, each with what is wrong with it."""
    bomb = pickle.dumps(Bomb(WITNESS), 5)
    good = typed.encode({"a": [1]})
    yield "empty", b""
    yield "magic-alone", bytes((MAGIC,))
    yield "header-cut", _entry(good)[:30]
    yield "header-alone", _entry(b"")
    yield "of-another-version", bytes((MAGIC, 2)) + _entry(good)[2:]
    yield "unknown-flags", _entry(good, flags=0x80)
    yield "pickle-unsigned", _entry(bomb, flags=Flags.PICKLE)
    yield "pickle-with-a-guessed-mac", _entry(b"m" * 16 + bomb, flags=Flags.PICKLE | Flags.SIGNED, key_id=7)
    yield "pickle-compressed", _entry(zstandard.compress(bomb), flags=Flags.PICKLE | Flags.COMPRESSED)
    yield "pickle-as-an-error", _entry(bomb, flags=Flags.PICKLE | Flags.ERROR)
    error: list[object] = [None, "ValueError", "text", "trace", [], typed.encode(()), {}, True, bomb]
    yield "error-with-a-pickle", _entry(typed.encode(error), flags=Flags.ERROR)
    yield "error-of-no-layout", _entry(typed.encode([1, 2]), flags=Flags.ERROR)
    yield (
        "error-that-exits",
        _entry(
            typed.encode(["builtins:SystemExit", "SystemExit", "", "", [], typed.encode((3,)), {}, True, None]),
            flags=Flags.ERROR,
        ),
    )
    yield "label-beyond-the-key", _entry(good, label=400)
    yield "label-within-a-sign", _entry(good, label=1)
    yield "stamps-cut", _entry(b"", label=0, stamps=b"s" * 24)[:-5]
    yield "tags-longer-than-they-are", _entry(b"\xff\xff\x01\x00x", flags=Flags.TAGGED, label=0, stamps=b"s" * 24)
    yield "zstd-that-claims-too-much", _entry(b"\x28\xb5\x2f\xfd\xe0" + b"\xff" * 8, flags=Flags.COMPRESSED)
    yield "zstd-cut", _entry(zstandard.compress(good)[:-3], flags=Flags.COMPRESSED)
    deep = b"\x91" * 20_000 + b"\x90"
    yield "nested-too-deeply", _entry(deep)
    nested = _ext([])
    for _ in range(300):
        nested = _ext(msgspec.msgpack.Ext(1, _ext([msgspec.Raw(nested)])))
    yield "extensions-nested-too-deeply", _entry(nested)
    yield "unknown-extension", _entry(_ext(msgspec.msgpack.Ext(99, _ext([]))))
    yield "dataclass-that-is-none", _entry(_ext(msgspec.msgpack.Ext(6, _ext(["os:environ", 0, None]))))
    yield "dataclass-without-parts", _entry(_ext(msgspec.msgpack.Ext(6, _ext([]))))
    yield "reference", _entry(_ext(msgspec.msgpack.Ext(8, _ext(["builtins:eval", "1"]))))
    yield "range-without-a-step", _entry(_ext(msgspec.msgpack.Ext(9, _ext([0, 1, 0]))))
    shape = typed.encode(["<f8", [2**40, 2**20], False])
    yield "array-with-a-huge-shape", _entry(_ext(msgspec.msgpack.Ext(arrays.ARRAY, arrays.join(shape, b""))))
    objects = typed.encode(["|O", [1], False])
    yield "array-of-objects", _entry(_ext(msgspec.msgpack.Ext(arrays.ARRAY, arrays.join(objects, b"12345678"))))
    yield "key-that-has-no-hash", _entry(_ext(msgspec.msgpack.Ext(4, _ext([[1], 2]))))
    yield "zone-outside-of-the-database", _entry(_ext(msgspec.msgpack.Ext(26, b"Z../../etc/passwd")))
    yield "number-with-a-sign", b"+5"
    yield "number-too-long", b"9" * 21


def bodies() -> Iterator[tuple[str, bytes]]:
    """Bytes for the body of a message, each with what is wrong with it."""
    bomb = pickle.dumps(Bomb(WITNESS), 5)
    yield "empty", b""
    yield "two-parts", dumps([(SealedArguments(b"x"),), {}])
    yield "pickle", bomb
    yield "pickle-sealed", dumps([(SealedArguments(with_pickle(bomb)),), {}, EMBED])
    yield "pickle-sealed-with-a-guessed-mac", dumps([(SealedArguments(with_pickle(bomb, mac=b"m" * 16)),), {}, EMBED])
    yield "array-for-arguments", typed.encode([numpy.zeros(2), {}, EMBED])
    yield "seal-that-is-a-number", typed.encode([{"sealed": 2**40}, {}, EMBED])
    yield "seal-that-is-empty", typed.encode([{"sealed": b""}, {}, EMBED])
    yield "seal-that-is-a-header", typed.encode([{"sealed": struct.pack("BBBB", 0xC6, 1, 4, 0)}, {}, EMBED])
    guessed = with_pickle(bomb, mac=b"m" * 16)
    yield "several-pickles-with-a-guessed-mac", dumps([(SealedArguments(guessed),) * 3, {}, EMBED])
    yield "seals-that-are-none", typed.encode([{"sealed": []}, {}, EMBED])
    yield "seals-that-are-numbers", typed.encode([{"sealed": [1, 2, 3]}, {}, EMBED])
    for name, embedded in (("errbacks", 23), ("callbacks", {"task": "a"}), ("chain", [1]), ("chord", [])):
        yield f"{name}-that-are-none", dumps([(SealedArguments(b"x"),), {}, {**EMBED, name: embedded}])
    yield "options-that-are-none", typed.encode([[1], {}, []])
    yield "nested-too-deeply", b"\x93" + b"\x91" * 20_000 + b"\x90"


def main() -> None:
    """Write every file of the corpus."""
    CORPUS.mkdir(exist_ok=True)
    for kind, made in (("entry", entries()), ("body", bodies())):
        for name, data in made:
            (CORPUS / f"{kind}-{name}.bin").write_bytes(data)


if __name__ == "__main__":
    main()
