"""This is where we compile a signature into a function that gives the digest of a call.

The compiled function has the parameters of the original, so CPython binds the arguments, in C: it applies defaults,
sorts out keywords and raises its own TypeError. `inspect.Signature.bind` would do the same forty times slower.

A call whose arguments are all exact scalars is written by msgspec's MessagePack encoder, every other by `encode`.
The two are kept apart by a byte in front, and which one is taken depends on the arguments alone, so equal calls always
meet. Scalars in MessagePack are canonical: the shortest integer, 64-bit floats, lengths in front.
"""

from __future__ import annotations

import copy
import hashlib
import inspect
from collections.abc import Callable, Iterable
from inspect import Parameter, Signature
from itertools import zip_longest
from types import NoneType
from typing import Any, Final

import msgspec
from msgspec import Struct

from taskcache.errors import UncacheableArgument, UsageError
from taskcache.keys.encoding import DIGEST_BYTES, digest, encode
from taskcache.keys.refusal import type_label

# What MessagePack tells apart and msgspec writes in one way. Float is checked apart, because of NaN.
_SCALARS: Final = frozenset({int, str, bool, bytes, NoneType})

_VARIADIC: Final = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)

_FAST: Final = b"\x00"
_GENERAL: Final = b"\x01"

# Enough to recognize a value by; an explanation is for reading.
SHOWN_CHARACTERS: Final = 200


class Binding(Struct, frozen=True):
    """How calls of one function become keys: `digest(*args, **kwargs)` is 32 hex digits, the same for equal calls."""

    signature: Signature
    digest: Callable[..., str]
    ignored: frozenset[str]
    _bound: Callable[..., dict[str, object]]
    # For others who compile something with the same parameters.
    source: Source

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, object]:
        """Give every parameter its value, defaults applied, in the order of the signature."""
        return self._bound(*args, **kwargs)

    def explain(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[tuple[str, str]]:
        """Say for every parameter what it contributes to the key; shows arguments, so it is for eyes, not for logs."""
        return [
            (name, "ignored" if name in self.ignored else _describe(value, name))
            for name, value in self.bind(args, kwargs).items()
        ]


def compile_binding(fn: Callable[..., object], *, ignore: tuple[str, ...] = (), salt: bytes = b"") -> Binding:
    """
    Compile how calls of `fn` become keys; `salt` (name, version) tells functions apart.

    The names of the parameters that count are part of the key: when two of them swap places, old entries do not match.
    """
    name = getattr(fn, "__qualname__", None) or type_label(fn)
    try:
        signature = signature_of(fn)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{name} has no signature to bind arguments to; say what its key is with `key_fn=`") from error
    ignored = _check_ignored(ignore, signature, name)
    counted = [parameter for parameter in signature.parameters.values() if parameter.name not in ignored]
    # Hashed, so that it has one length, and salt and arguments cannot run into each other.
    names = [(int(parameter.kind), parameter.name) for parameter in counted]
    prefix = bytes.fromhex(digest(encode((salt, names))))
    source = Source(fn, signature, counted)
    return Binding(signature, source.compile_digest(prefix), ignored, source.compile_bind(), source)


def signature_of(fn: Callable[..., object]) -> Signature:
    """
    What a function takes when it is called; raises TypeError or ValueError where nobody can say.

    A wrapper (`functools.wraps`) has the signature of what it wraps when it passes on what it is given, and its own when
    it has other parameters or other defaults.
    """
    own = inspect.signature(fn, follow_wrapped=False)
    wrapped = getattr(fn, "__wrapped__", None)
    if not callable(wrapped) or not any(each.kind in _VARIADIC for each in own.parameters.values()):
        return own
    whole = signature_of(wrapped)
    pairs = zip_longest(own.parameters.values(), whole.parameters.values())
    passes_on = all(each.kind in _VARIADIC or _is_alike(each, other) for each, other in pairs if each is not None)
    return whole if passes_on else own


def _is_alike(one: Parameter, other: Parameter | None) -> bool:
    return other is not None and (one.name, one.kind, one.default) == (other.name, other.kind, other.default)


def _check_ignored(ignore: tuple[str, ...], signature: Signature, name: str) -> frozenset[str]:
    given: object = ignore  # what the annotation says is not what everybody does
    if isinstance(given, str):
        raise UsageError(f'ignore={ignore!r} is a string; write ignore=("{ignore}",)')
    if unknown := [each for each in ignore if each not in signature.parameters]:
        raise UsageError(
            f"ignore={tuple(unknown)!r}: {name} has no such parameter; "
            f"it has {', '.join(signature.parameters) or 'none at all'}"
        )
    return frozenset(ignore)


def _describe(value: object, name: str) -> str:
    try:
        text = encode(value, name).decode("utf-8", "backslashreplace")
    except UncacheableArgument as error:
        return f"uncacheable: {error}"
    shown = text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}… ({len(text)} characters)"
    return f"{type_label(value)} as {shown}"


def _are_scalars(values: Iterable[object]) -> bool:
    for value in values:  # noqa: SIM110 # `all` would make a generator, dearer than the few values of a call
        if not (type(value) in _SCALARS or (type(value) is float and value == value)):
            return False
    return True


class Source:
    """The text of functions with a given signature, and the names they use, which no parameter can clash with."""

    def __init__(self, fn: Callable[..., object], signature: Signature, counted: list[Parameter]) -> None:
        self.fn = fn
        self.counted = counted
        self.prefix = "_"
        while any(name.startswith(self.prefix) for name in signature.parameters):
            self.prefix += "_"
        self.namespace: dict[str, Any] = {}
        self.header = self._write_parameters(signature)

    def fork(self) -> Source:
        """The same parameters with names of one's own."""
        forked = copy.copy(self)
        forked.namespace = dict(self.namespace)
        return forked

    def own(self, name: str, value: object) -> str:
        """Make `value` known to the compiled functions; gives the name to write."""
        self.namespace[self.prefix + name] = value
        return self.prefix + name

    def compile_digest(self, prefix: bytes) -> Callable[..., str]:
        if not self.counted:
            constant = self.own("constant", digest(prefix + _GENERAL))
            return self.compile([f"return {constant}"])
        hasher = self.own("hasher", hashlib.blake2b(prefix + _FAST, digest_size=DIGEST_BYTES).copy)
        write = self.own("write", msgspec.msgpack.Encoder().encode)
        slow = self.own("slow", self._general(prefix + _GENERAL))
        hashed = self.prefix + "hash"
        # A trailing comma each: the tuple of one parameter is a tuple too.
        values = "".join(self._scalar_form(parameter) + ", " for parameter in self.counted)
        names = "".join(f"{parameter.name}, " for parameter in self.counted)
        # Any error of msgspec means "not a plain scalar after all": 65 bits, a lone surrogate. Then `encode` decides.
        errors = self.own("errors", (OverflowError, ValueError, TypeError))
        return self.compile(
            [
                f"if {' and '.join(self._is_scalar(parameter) for parameter in self.counted)}:",
                "    try:",
                # Copying a hasher that has seen the prefix costs half of making one.
                f"        {hashed} = {hasher}()",
                f"        {hashed}.update({write}(({values})))",
                f"        return {hashed}.hexdigest()",
                f"    except {errors}:",
                "        pass",
                f"return {slow}(({names}))",
            ]
        )

    def compile_bind(self) -> Callable[..., dict[str, object]]:
        return self.compile([f"return {{{', '.join(f'{name!r}: {name}' for name in self.parameters)}}}"])

    def _general(self, prefix: bytes) -> Callable[[tuple[object, ...]], str]:
        names = [parameter.name for parameter in self.counted]

        def general(values: tuple[object, ...]) -> str:
            written = [encode(value, name) for name, value in zip(names, values, strict=True)]
            return digest(prefix + b"".join(written))

        return general

    def _is_scalar(self, parameter: Parameter) -> str:
        kind, name = parameter.kind, parameter.name
        scalars, type_of = self.own("scalars", _SCALARS), self.own("type", type)
        if kind is Parameter.VAR_POSITIONAL or kind is Parameter.VAR_KEYWORD:
            values = name if kind is Parameter.VAR_POSITIONAL else f"{name}.values()"
            return f"(not {name} or {self.own('are_scalars', _are_scalars)}({values}))"
        # The hardware chooses the bits of a NaN; `encode` makes all of them one.
        is_float = f"{type_of}({name}) is {self.own('float', float)} and {name} == {name}"
        return f"({type_of}({name}) in {scalars} or {is_float})"

    def _scalar_form(self, parameter: Parameter) -> str:
        if parameter.kind is Parameter.VAR_KEYWORD:
            # Pairs, so that the order of keywords does not count; without any, nothing to sort.
            return f"({parameter.name} and {self.own('sorted', sorted)}({parameter.name}.items()))"
        return parameter.name

    def _write_parameters(self, signature: Signature) -> str:
        self.parameters = list(signature.parameters)
        written: list[str] = []
        previous: Parameter | None = None
        star = False
        for index, parameter in enumerate(signature.parameters.values()):
            kind = parameter.kind
            if previous is not None and previous.kind is Parameter.POSITIONAL_ONLY is not kind:
                written.append("/")
            if kind is Parameter.KEYWORD_ONLY and not star:
                written.append("*")
            star = star or kind in (Parameter.KEYWORD_ONLY, Parameter.VAR_POSITIONAL)
            stars = "*" if kind is Parameter.VAR_POSITIONAL else "**" if kind is Parameter.VAR_KEYWORD else ""
            default = ""
            if parameter.default is not Parameter.empty:
                default = f"={self.own(f'default{index}', parameter.default)}"
            written.append(stars + parameter.name + default)
            previous = parameter
        if previous is not None and previous.kind is Parameter.POSITIONAL_ONLY:
            written.append("/")
        return ", ".join(written)

    def compile(self, body: list[str]) -> Callable[..., Any]:
        """Compile a function with the parameters of the original from the lines of its body."""
        name = getattr(self.fn, "__name__", type(self.fn).__name__)
        written = self.prefix + "call"
        lines = [f"def {written}({self.header}):", *(f"    {line}" for line in body)]
        namespace = dict(self.namespace)
        exec(compile("\n".join(lines), f"<taskcache binding of {name}>", "exec"), namespace)
        compiled = namespace[written]
        # CPython writes these into the TypeError of a wrong call.
        compiled.__name__ = name
        compiled.__qualname__ = getattr(self.fn, "__qualname__", name)
        return compiled  # type: ignore[no-any-return]  # exec has no types
