"""This is where a function learns about the computation it runs in: its progress, its lifetime, its fate."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, Final

from msgspec import Struct, field

from taskcache.errors import UsageError
from taskcache.settings import Lifetime, lifetime_ms

# A waiter looks once a second; telling more often than this costs the function time and shows nobody more.
PROGRESS_EVERY_S: Final = 0.2


class Progress(Struct, frozen=True):
    """How far a computation is; `total` 0 means unknown."""

    done: float = 0
    total: float = 0
    message: str = ""


def check_tags(tags: Iterable[Any]) -> tuple[str, ...]:
    """Refuse what is not a tag; each once, in an order of their own: that of a set differs between processes."""
    if isinstance(tags, str):
        raise UsageError(f"tags={tags!r}: give several, such as ({tags!r},)")
    checked = []
    for tag in tags:
        if not isinstance(tag, str) or not tag:
            raise UsageError(f"a tag is a text that is not empty, not {tag!r}")
        # The text that it is: the member of a (str, Enum) is formatted as its name in some versions of Python.
        checked.append(tag if type(tag) is str else str.__str__(tag))
    return tuple(sorted(set(checked))) if len(checked) > 1 else tuple(checked)


class Tags:
    """The tags added while a computation runs; each covers what is read after it was added."""

    def __init__(self, stamp: Callable[[str], bytes | None] | None = None) -> None:
        self._stamp = stamp
        self.stamps: dict[str, bytes] = {}

    def add(self, *tags: str) -> None:
        """Let `cache.invalidate(tag)` invalidate the value being computed. Without the server, it is not stored instead."""
        for tag in check_tags(tags):
            if self._stamp is not None and tag not in self.stamps:
                stamp = self._stamp(tag)
                if stamp is not None:
                    self.stamps[tag] = stamp

    def __iter__(self) -> Iterator[str]:
        return iter(self.stamps)


class Computation(Struct, eq=False):
    """One running body, as it sees itself. Outside of a computation every method does nothing."""

    key: str = ""
    token: str = ""
    # The keys that it computes; in a worker also those of the computations that sent it here.
    computes: frozenset[str] = frozenset()
    # The one that it runs in, in this process.
    within: Computation | None = None
    is_over: bool = False
    tags: Tags = field(default_factory=Tags)
    tell: Callable[[Progress], None] | None = None
    ask_cancelled: Callable[[], bool] | None = None
    stores: bool = True
    _timeout: Lifetime | None = None
    _told_at: float = 0.0

    @property
    def timeout(self) -> Lifetime | None:
        """How long the value will live; None leaves what the decorator says."""
        return self._timeout

    @timeout.setter
    def timeout(self, timeout: Lifetime) -> None:
        lifetime_ms(timeout)
        self._timeout = timeout

    def progress(self, done: float, total: float = 0, message: str = "") -> None:
        """Show waiters how far this computation is; cheap enough for a loop, it speaks five times a second at most."""
        now = time.monotonic()
        if self.tell is not None and (now - self._told_at >= PROGRESS_EVERY_S or (total and done >= total)):
            self._told_at = now
            self.tell(Progress(done, total, message))

    def do_not_store(self) -> None:
        """Give the value to those who wait, and store nothing."""
        self.stores = False

    @property
    def is_cancelled(self) -> bool:
        """True when nobody will get what this computation returns; a long loop may end early then."""
        return self.ask_cancelled is not None and self.ask_cancelled()


_OUTSIDE: Final = Computation()
_current: ContextVar[Computation] = ContextVar("taskcache_computation", default=_OUTSIDE)


def current() -> Computation:
    """The computation that runs here; outside of one, a stand-in on which everything is a no-op."""
    computation = _current.get()
    # A stand-in keeps nothing: what is set outside must not leak into the next computation.
    return Computation() if computation is _OUTSIDE else computation


def progress(done: float, total: float = 0, message: str = "") -> None:
    """Show waiters how far the current computation is; outside of one, nothing happens."""
    _current.get().progress(done, total, message)


def ancestors() -> frozenset[str]:
    """The keys being computed above this point, in this process and in the callers that sent it here."""
    found: frozenset[str] = frozenset()
    computation: Computation | None = _current.get()
    while computation is not None:
        # What a body has begun and left behind has a copy of its context, and is no part of it when it is over.
        if not computation.is_over:
            found |= computation.computes
        while computation.within is not None and computation.within.is_over:
            computation.within = computation.within.within
        computation = computation.within
    return found


class computing:  # noqa: N801 - used like a function, as those of contextlib
    """Make `computation` the current one. Not by contextlib, which cannot pass on an error that is a frozen dataclass."""

    def __init__(self, computation: Computation) -> None:
        self._computation = computation

    def __enter__(self) -> Computation:
        computation, within = self._computation, _current.get()
        computation.within, computation.is_over = None if within is _OUTSIDE else within, False
        self._entered = _current.set(computation)
        return computation

    def __exit__(self, *error: object) -> None:
        self._computation.is_over = True
        # The collector ends a coroutine that nobody holds any more in whatever context it finds: there is nothing to reset.
        with suppress(ValueError):
            _current.reset(self._entered)
