"""This is where we turn values into bytes and back as exactly the type they were, without ever running their code.

Plain data (the exact types of `SCALARS` and `CONTAINERS`, keys included) is MessagePack and never leaves C. Everything
else becomes a numbered extension: leaves.py for values without parts, classes.py for declared classes, arrays.py for
numpy. Values come back as trees: an object that occurs twice comes back as two. A type that is not listed is refused, because a
subclass of str would come back as str.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from datetime import tzinfo
from enum import Enum
from typing import Any, Final

import msgspec
from msgspec.msgpack import Decoder, Encoder, Ext

from taskcache.codec import arrays, classes, leaves
from taskcache.codec.pickling import spelled
from taskcache.codec.plain import CONTAINERS, SCALARS, is_plain
from taskcache.errors import UnstorableValue, UntrustedValue
from taskcache.keys.naming import name_of

Refer = Callable[[object], "object | None"]
Resolve = Callable[[Any], object]

# Extension codes with other values inside; 16–27 are leaves, 32 and 33 arrays. A wire format: never reuse one.
_TUPLE: Final = 1
_SET: Final = 2
_FROZENSET: Final = 3
_DICT: Final = 4
_NAMED_TUPLE: Final = 5
_DATACLASS: Final = 6
_MEMBER: Final = 7
_REFERENCE: Final = 8
_RANGE: Final = 9

# Scalars that need no look at their value: no int is too wide and no text half a character.
_VERBATIM: Final = frozenset((type(None), bool, float, bytes))
# Reading takes three frames a level at worst, of the thousand that a deep web stack has already used some hundreds of.
MAX_DEPTH: Final = 128
_WIDEST: Final = 2**64
_LOWEST: Final = -(2**63)
_SHOWN_KEY: Final = 40
_SHOWN_STEPS: Final = 12

_CURE: Final = (
    "use plain data (or a dataclass, NamedTuple or Enum of an importable module), or set a secret "
    "(`Cache(secret=...)` or TASKCACHE_SECRET) so that signed pickles may be stored"
)

# What reading bytes that nobody wrote can raise. Listed, not `Exception`: Celery raises its soft time limit anywhere.
MALFORMED: Final = (
    msgspec.MsgspecError,
    struct.error,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    MemoryError,
    OSError,
    ImportError,
)

_encoder: Final = Encoder()
# Plain data that MessagePack has no form for: an int beyond 64 bits, a lone surrogate.
_UNUSUAL: Final = (OverflowError, UnicodeEncodeError)


class _Refused(Exception):
    """A part of a value cannot be written; `path` grows from the inside out on the way up."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path: list[str] = []


class _Unresolved(Exception):
    """`resolve` raised an error of its own, which is no fault of the bytes."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


def encode(value: object, *, refer: Refer | None = None, what: str = "the value") -> bytes:
    """
    Write a value.

    `refer` is asked about every object that is not of a built-in type; what it returns, unless None, is written in
    the object's place and given to `resolve` on decoding.
    Raises `UnstorableValue`, which names the path from `what` to the culprit, its type and the cure.
    """
    packed = _pack_plain(value, MAX_DEPTH)
    if packed is not None:
        return packed
    try:
        return _encoder.encode(_Writer(refer).write(value, 0))
    except _Refused as refused:
        path = refused.path[::-1]
        where = what + "".join(path[:_SHOWN_STEPS]) + ("…" if len(path) > _SHOWN_STEPS else "")
        raise UnstorableValue(f"{where} {refused.reason}; {_CURE}") from None
    except RecursionError:
        raise UnstorableValue(f"{what} is nested too deeply for the stack that is left here; {_CURE}") from None


def encode_plain(values: list[object]) -> list[bytes] | None:
    """Write many values, each as `encode` does; None when one of them is more than plain data, or may be."""
    if is_plain(values, MAX_DEPTH + 1):
        try:
            return list(map(_encoder.encode, values))
        except _UNUSUAL:
            pass
    return None


def decode(data: bytes | bytearray | memoryview, *, resolve: Resolve | None = None) -> object:
    """
    Read a value. Raises `UntrustedValue` for bytes `encode` did not make and for classes that are not imported here.

    An error of `resolve` is raised as it is.
    """
    decoder = _decoder if resolve is None else _Reader(resolve).decoder
    try:
        return decoder.decode(data)
    except MALFORMED as error:
        raise UntrustedValue(f"a value that does not decode: {spelled(error)}") from error
    except _Unresolved as unresolved:
        failed = unresolved.error
    raise failed


def _pack_plain(value: object, levels: int) -> bytes | None:
    if is_plain(value, levels):
        try:
            return _encoder.encode(value)
        except _UNUSUAL:
            pass  # found and written one by one
    return None


class _Writer:
    """Rewrites what msgpack does not know into extensions; what it knows goes through in one piece."""

    __slots__ = ("_refer",)

    def __init__(self, refer: Refer | None) -> None:
        self._refer = refer

    def pack(self, value: object, depth: int) -> bytes:
        packed = _pack_plain(value, MAX_DEPTH - depth)
        return _encoder.encode(self.write(value, depth)) if packed is None else packed

    def write(self, value: Any, depth: int) -> object:
        kind = type(value)
        if kind is str:
            return value if _is_text(value) else Ext(*_leaf(value))
        if kind is int:
            return value if _LOWEST <= value < _WIDEST else Ext(*_leaf(value))
        if kind in SCALARS:
            return value
        if depth >= MAX_DEPTH:
            raise _Refused(f"is nested deeper than {MAX_DEPTH} levels, or holds itself")
        if kind is list:
            return self._write_items(value, depth)
        if kind is dict:
            return self._write_dict(value, depth)
        if kind is tuple:
            return Ext(_TUPLE, self._pack_items(value, depth))
        if kind in leaves.WRITERS:
            return Ext(*_leaf(value))
        if kind is set or kind is frozenset:
            return Ext(_SET if kind is set else _FROZENSET, self._pack_items(value, depth, "{{...}}"))
        if kind is range:
            return Ext(_RANGE, self.pack([value.start, value.stop, value.step], depth))
        if isinstance(value, tzinfo):
            # `zoneinfo` is not imported to know its type; leaves.py tells the zones it knows from others.
            return Ext(*_leaf(value, tzinfo))
        return self._write_object(value, kind, depth)

    def _write_items(self, items: Iterable[object], depth: int, place: str = "[{}]") -> list[object]:
        written: list[object] = []
        try:
            for item in items:
                written.append(self.write(item, depth + 1))
        except _Refused as refused:
            refused.path.append(place.format(len(written)))
            raise
        return written

    def _pack_items(self, items: Iterable[object], depth: int, place: str = "[{}]") -> bytes:
        items = list(items)
        packed = _pack_plain(items, MAX_DEPTH - depth)
        return _encoder.encode(self._write_items(items, depth, place)) if packed is None else packed

    def _write_dict(self, value: dict[object, object], depth: int) -> object:
        written: dict[object, object] = {}
        pairs: list[object] = []
        for key, item in value.items():
            try:
                # Two calls fewer for each common pair: half the time of a walk is calls.
                written_key = key if type(key) is str and key.isascii() else self.write(key, depth + 1)
                written_item = item if type(item) in _VERBATIM else self.write(item, depth + 1)
            except _Refused as refused:
                refused.path.append(f"[{_shown(key)}]")
                raise
            pairs += (written_key, written_item)
            # An extension has no hash, so one unusual key turns the whole dict into a list of pairs.
            if not isinstance(written_key, Ext):
                written[written_key] = written_item
        return written if len(written) == len(value) else Ext(_DICT, _encoder.encode(pairs))

    def _write_object(self, value: Any, kind: Any, depth: int) -> Ext:
        reference = self._refer(value) if self._refer is not None else None
        if reference is not None:
            return Ext(_REFERENCE, self.pack(reference, depth + 1))
        # Not isinstance: a mock or a lazy object pretends to be what it stands for.
        if issubclass(kind, Enum):
            return self._write_member(value, depth)
        shape = classes.shape_of(kind)
        if shape is not None:
            return self._write_declared(value, shape, depth)
        if arrays.is_numpy(kind):
            return _write_array(value)
        raise _Refused(_refusal(kind))

    def _write_member(self, value: Enum, depth: int) -> Ext:
        name, parts = name_of(type(value)), classes.member_parts(value)
        if name is None or parts is None:
            raise _Refused(_not_found(type(value)))
        return Ext(_MEMBER, self.pack([name, *parts], depth))

    def _write_declared(self, value: Any, shape: classes.Shape, depth: int) -> Ext:
        name = name_of(type(value))
        if name is None:
            raise _Refused(_not_found(type(value)))
        if shape.obstacle:
            raise _Refused(f"is of type {_spelled(type(value))}, which {shape.obstacle}")
        if isinstance(value, tuple):
            if len(value) != len(shape.fields) or getattr(value, "__dict__", None):
                raise _Refused(f"is a {_spelled(type(value))} with more or less than its fields")
            head, code, parts = [name, shape.fingerprint], _NAMED_TUPLE, dict(zip(shape.fields, value, strict=True))
        else:
            try:
                parts = {field: getattr(value, field) for field in shape.fields}
            except AttributeError as error:
                raise _Refused(f"is a {_spelled(type(value))} with a field that is not set: {error}") from error
            extras = classes.extras_of(value, shape)
            head, code = [name, shape.fingerprint, self._write_parts(extras, depth) if extras else None], _DATACLASS
        return Ext(code, _encoder.encode([*head, *self._write_parts(parts, depth).values()]))

    def _write_parts(self, parts: dict[str, object], depth: int) -> dict[str, object]:
        written = {}
        for name, part in parts.items():
            try:
                written[name] = self.write(part, depth + 1)
            except _Refused as refused:
                refused.path.append(f".{name}")
                raise
        return written


def _leaf(value: Any, kind: type | None = None) -> tuple[int, bytes]:
    code, write = leaves.WRITERS[kind or type(value)]
    try:
        return code, write(value)
    except leaves.Unwritable as unwritable:
        raise _Refused(str(unwritable)) from unwritable


def _write_array(value: object) -> Ext:
    try:
        code, description, raw = arrays.write(value)
    except (leaves.Unwritable, ValueError, TypeError) as error:
        raise _Refused(f"is a numpy {type(value).__name__} that {error}") from error
    return Ext(code, arrays.join(_Writer(None).pack(description, 0), raw))


def _is_text(value: str) -> bool:
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _spelled(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _shown(key: object) -> str:
    # Python refuses to spell out an integer of thousands of digits.
    is_short = type(key) is not int or key.bit_length() <= 64
    shown = repr(key) if is_short and type(key) in SCALARS else f"<{_spelled(type(key))}>"
    return shown if len(shown) <= _SHOWN_KEY else shown[:_SHOWN_KEY] + "…"


def _refusal(kind: type) -> str:
    known = next(
        (base for base in kind.__mro__ if base in SCALARS | CONTAINERS | {tuple, set, frozenset, *leaves.WRITERS}),
        None,
    )
    reason = f"is of type {_spelled(kind)}, which the safe codec does not write"
    return (
        reason if known is None else f"{reason} (convert it with {_spelled(known)}(...) if that is what it should be)"
    )


def _not_found(kind: type) -> str:
    return f"is of type {_spelled(kind)}, which cannot be found again by that name"


class _Reader:
    """Puts extensions back together."""

    __slots__ = ("_resolve", "decoder")

    def __init__(self, resolve: Resolve | None) -> None:
        self._resolve = resolve
        self.decoder: Decoder[Any] = Decoder(ext_hook=self._read)

    def _read(self, code: int, data: memoryview) -> object:
        read_leaf = leaves.READERS.get(code)
        if read_leaf is not None:
            return read_leaf(data)
        if code == arrays.ARRAY or code == arrays.SCALAR:
            description, raw = arrays.split(data)
            return arrays.read(code, self.decoder.decode(description), raw)
        inside = self.decoder.decode(data)
        if code == _REFERENCE:
            return self._read_reference(inside)
        if type(inside) is not list:
            raise ValueError(f"extension {code} holds no list")
        build = _BUILDERS.get(code)
        if build is None:
            raise ValueError(f"extension {code} is not one of ours")
        return build(inside)

    def _read_reference(self, inside: object) -> object:
        if self._resolve is None:
            raise LookupError("a reference where none is expected")
        try:
            return self._resolve(inside)
        except Exception as error:
            raise _Unresolved(error) from error


def _read_dict(pairs: list[Any]) -> dict[Any, Any]:
    return dict(zip(pairs[::2], pairs[1::2], strict=True))


_BUILDERS: Final[dict[int, Callable[[list[Any]], object]]] = {
    _TUPLE: tuple,
    _SET: set,
    _FROZENSET: frozenset,
    _DICT: _read_dict,
    _NAMED_TUPLE: lambda parts: classes.make_named_tuple(parts[0], parts[1], parts[2:]),
    _DATACLASS: lambda parts: classes.make_dataclass(parts[0], parts[1], parts[2], parts[3:]),
    _MEMBER: lambda parts: classes.make_member(*parts),
    _RANGE: lambda parts: range(*parts),
}

_decoder: Final = _Reader(None).decoder
# `decode` for those who read thousands at once and catch MALFORMED themselves.
decode_bare: Final[Callable[[bytes | memoryview], object]] = _decoder.decode
