"""This is where a near hit costs a third of a microsecond: plain arguments find their value without becoming a key.

A front is compiled for one function. It binds arguments as the function does and looks them up as they are. That 1, True
and 1.0 are equal in a dict and are three calls to us is settled by a guard: the types that each parameter was seen with.
Other types, other values than plain scalars, and everything unusual go the longer way, by the digest of the call.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from inspect import Parameter
from types import NoneType
from typing import Any, Final, Protocol

from taskcache.keys.binding import Binding
from taskcache.near.cache import Near
from taskcache.near.entries import UNREADABLE, Held

# Exact types whose equality, within one type, is that of the key. Not float: 0.0 and -0.0 are equal and are two calls.
_PLAIN: Final = frozenset((int, str, bool, bytes, NoneType))
_NAMED: Final = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
# The index of values that are found by the digest of their call only.
_NOWHERE: Final[dict[Any, Held]] = {}
Call = Callable[..., Any]


class Counts(Protocol):
    """Where hits are counted."""

    hits: int


class Front:
    """Answers the calls of one function from the near cache, or hands them on to `far`."""

    def __init__(
        self,
        near: Near,
        binding: Binding,
        stats: Counts,
        *,
        stamp: bytes,
        prefix: bytes,
        far: Call,
        install: Callable[[Call], None],
    ) -> None:
        """`stamp` and `prefix` are the Redis key of the function's stamp and what its entries' keys begin with."""
        self._near = near
        self._binding = binding
        self._stats = stats
        self._prefix = prefix
        self._far = far
        self._install = install
        # Until then the index may be believed; see `Near.quiet_until`.
        self.quiet_until = 0.0
        self._index: dict[Any, Held] = {}
        # The stamp that everything in the index carries.
        self._value: bytes | None = None
        self._source = binding.source.fork()
        self._names = [parameter.name for parameter in self._source.counted]
        self._seen: list[set[type]] = [set() for _ in self._names]
        self._stamp = near.stamp(stamp)
        with near.lock:  # under which they are walked
            self._stamp.fronts.add(self)
        self._compile()

    def halt(self) -> None:
        """Answer nothing until `_put` has seen that the stamp is known again."""
        self.quiet_until = 0.0

    def empty(self) -> None:
        """Forget everything; what was in the index is held nowhere any more."""
        self._index.clear()

    def _renew(self) -> bool:
        """Look whether anything has changed; True when the index may be believed for another while."""
        near = self._near
        if not near.turn():
            return False
        with near.lock:
            if self._stamp.value is None or self._stamp.value != self._value:
                return False
            self.quiet_until = near.quiet_until
            return True

    def _slow(self, /, *args: Any, **kwargs: Any) -> Any:
        """Look again, by the digest of the call; what is found is put where it is found sooner next time."""
        near = self._near
        if near.turn():
            key = self._prefix + self._binding.digest(*args, **kwargs).encode()
            held = near.entries.find(key)
            if held is not None:
                if held.index is not _NOWHERE:
                    self._put(held, args, kwargs)
                value = held.take()
                if value is not UNREADABLE:
                    self._stats.hits += 1
                    return value
        return self._far(*args, **kwargs)

    def _put(self, held: Held, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        near = self._near
        bound = self._binding.bind(args, kwargs)
        values = [bound[name] for name in self._names]
        with near.lock:
            # Found under a known stamp a moment ago; only now, with the lock, is it certain that this is still so.
            if near.entries.find(held.key) is not held:
                return
            if held.stamps[0][1] != self._value:
                self._index.clear()
                self._value = held.stamps[0][1]
            # One stamp, the function's: `halt` is called for that one only. Tagged values stay on the longer way.
            if len(held.stamps) > 1 or not all(type(value) in _PLAIN for value in values):
                held.index = _NOWHERE
                return
            self._learn([type(value) for value in values])
            if held.index is not None and held.index is not self._index:
                held.index.pop(held.index_key, None)  # another decoration of the same name had it
            held.index, held.index_key = self._index, self._index_key(values)
            self._index[held.index_key] = held
            self.quiet_until = min(near.quiet_until, held.until)

    # -- the compiled function ---------------------------------------------------------------------------

    def _learn(self, kinds: list[type]) -> None:
        """Admit types that were not seen before; a few times in the life of a function, then never again."""
        if all(kind in seen for kind, seen in zip(kinds, self._seen, strict=True)):
            return
        for kind, seen in zip(kinds, self._seen, strict=True):
            seen.add(kind)
        for held in self._index.values():
            held.index = None
        self._index.clear()
        self._compile()

    def _is_mixed(self, seen: set[type]) -> bool:
        # Equal, or at least compared, because they have the same hash.
        return {int, bool} <= seen or {str, bytes} <= seen

    def _index_key(self, values: list[Any]) -> Any:
        return tuple(
            (type(value), value) if self._is_mixed(seen) else value
            for value, seen in zip(values, self._seen, strict=True)
        )

    def _compile(self) -> None:
        source = self._source
        slow = source.own("slow", self._slow)
        passed = ", ".join(_passed(parameter) for parameter in self._binding.signature.parameters.values())
        longer = f"return {slow}({passed})"
        if not all(self._seen):
            self._install(source.compile([longer]))
            return
        find, front, now = (
            source.own("find", self._index.get),
            source.own("front", self),
            source.own("now", time.monotonic),
        )
        renew = source.own("renew", self._renew)
        stats, type_of = source.own("stats", self._stats), source.own("type", type)
        unreadable = source.own("unreadable", UNREADABLE)
        guards, key = [], ""
        for at, (name, seen) in enumerate(zip(self._names, self._seen, strict=True)):
            kinds = [source.own(f"kind{at}_{number}", kind) for number, kind in enumerate(seen)]
            guards.append("(" + " or ".join(f"{type_of}({name}) is {kind}" for kind in kinds) + ")")
            key += f"({type_of}({name}), {name}), " if self._is_mixed(seen) else f"{name}, "
        held = f"{source.prefix}held"
        call = source.compile(
            [
                f"if {' and '.join(guards) or True}:",
                f"    {held} = {find}(({key}))",
                # What is found before a look is found again after it, or has gone with it.
                f"    if {held} is not None and ({now}() < {front}.quiet_until or {renew}() and {find}(({key})) is {held}):",
                f"        if {held}.reopen is None:",
                f"            {stats}.hits += 1",
                f"            return {held}.value",
                f"        {held} = {held}.take()",
                f"        if {held} is not {unreadable}:",
                f"            {stats}.hits += 1",
                f"            return {held}",
                longer,
            ]
        )
        self._install(call)


def _passed(parameter: Parameter) -> str:
    return f"{parameter.name}={parameter.name}" if parameter.kind is Parameter.KEYWORD_ONLY else parameter.name


def fits(binding: Binding | None) -> bool:
    """Whether a function's calls can be looked up by their arguments: an own key, and parameters with names."""
    return binding is not None and all(parameter.kind in _NAMED for parameter in binding.signature.parameters.values())
