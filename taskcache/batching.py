"""This is where calls travel together: what one of them is, how many go at once, and what a batch function gives back."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any, Final

from msgspec import Struct

from taskcache.errors import UsageError

# Calls that are looked up together, and so the most that one message can hold: enough that a round trip is shared, few
# enough that memory stays small.
WINDOW: Final = 1000
# How many calls a batch function gets at once when nothing is said: most of what sharing gives, and still several tasks
# of one window, so that several workers take part.
BATCH: Final = 100


class BoundCall(Struct, frozen=True):
    """The arguments of one call: what `fn.call(...)` gives to `starmap` and `warm`, and a batch function gets a list of."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def chunk_size(chunk: Any, *, is_batch: bool) -> int:
    """How many calls go in one message; raises UsageError for what is not a number of calls."""
    if chunk is None:
        return BATCH if is_batch else 1
    if type(chunk) is not int or not 1 <= chunk <= WINDOW:
        raise UsageError(f"chunk={chunk!r}: pass a number of calls for each message, from 1 to {WINDOW}")
    return chunk


def check_body(fn: Any, name: str) -> None:
    """Refuse a function that cannot be called with one list of calls."""
    try:
        inspect.signature(fn).bind([])
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"{name} with batch=True is called with one list of calls ({error}): write a function or a staticmethod with "
            "one parameter `calls`, and find the arguments of the first one in calls[0].args and calls[0].kwargs"
        ) from error


def alone(fn: Callable[[list[BoundCall]], Any], name: str, is_coroutine: bool = False) -> Callable[..., Any]:
    """A batch function as a function of one call, which is a batch of one; what its calls are bound to."""

    def body(*args: Any, **kwargs: Any) -> Any:
        return _only(answers(fn([BoundCall(args, kwargs)]), 1, name))

    async def coroutine_body(*args: Any, **kwargs: Any) -> Any:
        return _only(answers(await fn([BoundCall(args, kwargs)]), 1, name))

    made: Callable[..., Any] = coroutine_body if is_coroutine else body
    made.__name__ = getattr(fn, "__name__", "batch")
    made.__qualname__ = getattr(fn, "__qualname__", "batch")
    made.__module__ = getattr(fn, "__module__", None) or ""
    return made


def answers(returned: Any, count: int, name: str) -> Sequence[Any]:
    """What a batch function returned for `count` calls; raises UsageError when it is not one answer for each of them."""
    has_order = hasattr(returned, "__len__") and not isinstance(returned, str | bytes | bytearray | Mapping | Set)
    if not has_order:
        raise UsageError(
            f"{name} is a batch function: it has to return a list with one value for each call, in the order of the "
            f"calls, and returned {type(returned).__name__}"
        )
    if len(returned) != count:
        raise UsageError(
            f"{name} is a batch function: it got {count} {'call' if count == 1 else 'calls'} and returned "
            f"{len(returned)} {'value' if len(returned) == 1 else 'values'}; return one for each call, in their order, "
            "and an exception as the value of a call that fails"
        )
    return list(returned)


def _only(values: Sequence[Any]) -> Any:
    (value,) = values
    if isinstance(value, Exception):
        raise value
    return value
