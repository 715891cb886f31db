"""This is where a decorated function becomes a method: every verb gets the instance as its first argument."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from taskcache.batching import BoundCall
from taskcache.keys.binding import signature_of
from taskcache.mapping import Batch, bound

if TYPE_CHECKING:
    from taskcache.function import Function

# The verbs that take the arguments of a call.
CALL_VERBS = frozenset(("key_for", "peek", "join", "refresh", "bust", "uncached", "explain", "delay", "s", "si"))
# Celery's own, which take them as a tuple.
ARGS_VERBS = frozenset(("apply_async", "signature"))


class BoundFunction:
    """A decorated function and the object it is called on; `obj.method.bust(1)` works as `function.bust(obj, 1)`."""

    def __init__(self, function: Function[Any, Any], instance: Any) -> None:
        self.__func__ = function
        self.__self__ = instance
        self.__wrapped__ = function.origin.fn
        self.__name__: str = getattr(function.origin.fn, "__name__", function.name)
        self.__doc__ = function.__doc__

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        return self.__func__(self.__self__, *args, **kwargs)  # type: ignore[operator]  # the decorators make it callable

    def put(self, value: Any, /, *args: Any, **kwargs: Any) -> bool:
        """Store `value` as the result of this call."""
        return self.__func__.put(value, self.__self__, *args, **kwargs)

    def make_key(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """`key_for` with the arguments as a tuple and a dict."""
        return self.__func__.make_key((self.__self__, *args), kwargs)

    def map(self, values: Iterable[Any], *, chunk: int | None = None) -> Batch[Any]:
        """Call the method with each value."""
        return self.starmap(((value,) for value in values), chunk=chunk)

    def starmap(self, calls: Iterable[tuple[Any, ...] | BoundCall], *, chunk: int | None = None) -> Batch[Any]:
        """Call the method with each tuple of arguments, or with what `obj.method.call(...)` gave."""
        return self.__func__.starmap(_of(self.__self__, calls), chunk=chunk)

    def warm(
        self, calls: Iterable[tuple[Any, ...] | BoundCall], force: bool = False, *, chunk: int | None = None
    ) -> Batch[Any]:
        """Have these calls computed if they are not stored, or in any case with `force`."""
        return self.__func__.warm(_of(self.__self__, calls), force, chunk=chunk)

    def with_options(self, **options: Any) -> BoundFunction:
        """The same method with other options for these calls."""
        return BoundFunction(self.__func__.with_options(**options), self.__self__)  # type: ignore[attr-defined]

    @property
    def aio(self) -> BoundAwaitable:
        """The same verbs, awaitable."""
        return BoundAwaitable(self.__func__.aio, self.__self__)  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.__func__, name)
        if name in ARGS_VERBS:
            return lambda args=None, *more, **options: found((self.__self__, *(args or ())), *more, **options)
        return functools.partial(found, self.__self__) if name in CALL_VERBS else found

    @property
    def __signature__(self) -> inspect.Signature:
        """That of a call: without the object."""
        whole = signature_of(self.__wrapped__)
        return whole.replace(parameters=list(whole.parameters.values())[1:])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BoundFunction) and self.__func__ is other.__func__ and self.__self__ is other.__self__

    def __hash__(self) -> int:
        return hash((id(self.__func__), id(self.__self__)))

    def __reduce__(self) -> Any:
        return getattr, (self.__self__, self.__name__)

    def __repr__(self) -> str:
        return f"<bound {self.__func__!r} of {type(self.__self__).__name__}>"


def _of(instance: Any, calls: Iterable[Any]) -> Iterator[BoundCall]:
    """The calls with the object as their first argument."""
    return (BoundCall((instance, *call.args), call.kwargs) for call in bound(calls))


class BoundAwaitable:
    """`obj.method.aio`: the awaitable verbs, bound to the object."""

    def __init__(self, verbs: Any, instance: Any) -> None:
        self._verbs = verbs
        self._instance = instance

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        return self._verbs(self._instance, *args, **kwargs)

    def put(self, value: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Store `value` as the result of this call."""
        return self._verbs.put(value, self._instance, *args, **kwargs)

    def warm(
        self, calls: Iterable[tuple[Any, ...] | BoundCall], force: bool = False, *, chunk: int | None = None
    ) -> Any:
        """Have these calls computed if they are not stored."""
        return self._verbs.warm(_of(self._instance, calls), force, chunk=chunk)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._verbs, name)
        return functools.partial(found, self._instance) if name in CALL_VERBS else found
