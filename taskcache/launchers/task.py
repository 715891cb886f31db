"""This is where our Celery task is: an ordinary one to everybody else, whose calls are led by flights."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from celery import Task
from celery.utils.imports import symbol_by_name
from celery.utils.saferepr import saferepr
from msgspec import Struct

from taskcache.batching import WINDOW, BoundCall, alone
from taskcache.drivers.asyncio import run_to_end
from taskcache.errors import UnstorableValue, UntrustedValue
from taskcache.keys.identity import load, reference
from taskcache.launchers.serializer import SealedArguments, are_sealed, is_sealed
from taskcache.protocol.entry import is_token, new_token

if TYPE_CHECKING:
    from taskcache.decorators import AsyncFunction

# The one message header of ours: the flight and its key, or those of all calls, and the keys being computed above them.
HEADER: Final = "taskcache"
# Where Celery's request of a delivery has its `Stage`.
STAGE: Final = "taskcache_stage"
# Said with each message: as attributes of a task Celery deprecates them.
ROUTING: Final = frozenset(("queue", "exchange", "routing_key", "priority"))
# What runs a task is an edge, above this floor: named by string, as Celery names its own replaceable parts.
EXECUTE: Final = "taskcache.worker.execution:execute"
EXECUTE_CHUNK: Final = "taskcache.worker.chunks:execute"
RELEASE: Final = "taskcache.worker.ending:release_for_retry"
# Found once: it costs an import each time.
edge: Final = functools.cache(symbol_by_name)


def routing_of(function: AsyncFunction[Any, Any]) -> dict[str, Any]:
    """Where the messages of a function go, as its decorator says."""
    return {name: value for name, value in function.options.celery.items() if name in ROUTING}


def task_body(function: AsyncFunction[Any, Any]) -> Callable[..., Any]:
    """What Celery calls `run`: the function itself under its own name, with a coroutine run to its end."""

    @functools.wraps(function.origin.fn)
    def run(*args: Any, **kwargs: Any) -> Any:
        value = function.origin.fn(*args, **kwargs)
        if function.origin.is_coroutine:
            return run_to_end(value)
        return value

    if not run.__name__.isidentifier():
        run.__name__ = "run"  # Celery compiles a header of the name, and `<lambda>` is none
    return run


def seal_call(function: AsyncFunction[Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> SealedArguments:
    """Write the arguments down, signed and bound to the function; raises UnstorableValue naming the argument."""
    try:
        return SealedArguments(function.cache.codec.seal_message([function.name, list(args), kwargs], refer=reference))
    except UnstorableValue as error:
        raise UnstorableValue(f"An argument of {function.name} cannot travel to a worker: {error}") from error


def open_call(function: AsyncFunction[Any, Any], args: Any, kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a message; raises UntrustedValue when they are not signed with a secret of ours."""
    if not are_sealed(args):
        return tuple(args or ()), dict(kwargs or {})
    if not is_sealed(args):
        raise UntrustedValue("several calls, and nothing that says which they are")
    body: Any = function.cache.codec.open_message(args[0], resolve=load)
    if not isinstance(body, list) or len(body) != 3 or body[0] != function.name:
        raise UntrustedValue("the arguments of another function")
    return tuple(body[1]), body[2]


def read_header(found: object) -> dict[str, Any]:
    """
    Our header of a message; {} where there is none, or one that is not laid out as ours.

    Anybody may have put it there who can reach the broker, and the worker's main process reads it.
    """
    if not isinstance(found, dict):
        return {}
    header: dict[str, Any] = found
    above, again = header.get("above", ()), header.get("again", 0)
    is_ours = (
        isinstance(header.get("key", ""), str)
        and isinstance(header.get("cache", ""), str)
        and ("token" not in header or is_token(header["token"]))
        and ("calls" not in header or _are_calls(header["calls"]))
        and isinstance(above, list | tuple)
        and all(isinstance(key, str) for key in above)
        # As a power of two it says when the message is sent again.
        and type(again) is int
        and 0 <= again < 64
    )
    return dict(header) if is_ours else {}


def _are_calls(calls: object) -> bool:
    """Whether these are the keys and tokens of the calls of a chunk."""
    return (
        isinstance(calls, list | tuple)
        and 0 < len(calls) <= WINDOW
        and all(isinstance(call, list | tuple) and len(call) == 2 for call in calls)
        and all(isinstance(key, str) and is_token(token) for key, token in calls)
        and len({token for _, token in calls}) == len(calls)
    )


def header_in(request: Any) -> dict[str, Any]:
    """Our header as a delivery has it; {} where there is none."""
    own = request.headers if isinstance(request.headers, dict) else {}
    # What the main process has completed comes first: another one beside it is of somebody's making.
    return read_header(getattr(request, HEADER, None) or own.get(HEADER))


def header_of(request: Any) -> dict[str, Any]:
    """Our header of a delivery; in eager mode there is no main process to have completed it."""
    found = header_in(request) or {"direct": True}
    for name in ("token", "owner"):
        if name not in found:
            found[name] = new_token()
    return found


class Stage(Struct):
    """How far a worker has come with one delivery: an attribute of its request, which no message can bring along."""

    # The calls whose body runs, or has run.
    runs: Sequence[Any] = ()
    # What the body gave or raised is known to those who wait: a NoServer from here on is nobody's server but its own.
    is_told: bool = False
    is_in_chunk: bool = False


def stage_of(request: Any) -> Stage:
    """The stage of a delivery, kept with it."""
    stage = getattr(request, STAGE, None)
    if not isinstance(stage, Stage):
        stage = Stage()
        request.update({STAGE: stage})
    return stage


class FlightTask(Task):  # type: ignore[type-arg]  # generic in the stubs only
    """The task of a `cache_async` function. Sent by a call it carries a flight; sent by `.delay()` it makes one."""

    abstract = True
    Request = "taskcache.worker.request:FlightRequest"
    Strategy = "taskcache.worker.request:strategy"
    functions: tuple[AsyncFunction[Any, Any]]

    @property
    def function(self) -> AsyncFunction[Any, Any]:
        """What was decorated."""
        return self.functions[0]

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        if "calls" in header_in(self.request):
            return edge(EXECUTE_CHUNK)(self, args)
        return edge(EXECUTE)(self, self._of_one_call(self._call), args, kwargs)

    def _call(self, /, *args: Any, **kwargs: Any) -> Any:
        # Celery's own takes the task under a name that an argument may have.
        return self.run(*args, **kwargs) if "self" in kwargs else super().__call__(*args, **kwargs)

    def run_one(self, sealed: SealedArguments) -> Any:
        """Run one call of a chunk, under a request of its own."""
        # Celery's `__call__` would put another request on top: the body's own retry would not find this one.
        run = self._call if self.request.is_eager else self.run
        return edge(EXECUTE)(self, self._of_one_call(run), (sealed,), {})

    def open_one(self, sealed: SealedArguments) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
        """The function and the arguments of one call; raises UntrustedValue when we have not signed them."""
        return self.function, *open_call(self.function, (sealed,), {})

    def has_batches(self, header: dict[str, Any]) -> bool:
        """Whether the calls of a chunk are computed together."""
        is_batch: bool = self.function.options.batch
        return is_batch

    def run_batch(self, function: Any, calls: list[BoundCall]) -> Any:
        """Call the body of a batch function."""
        return self.run(calls)

    def _of_one_call(self, run: Callable[..., Any]) -> Callable[..., Any]:
        return alone(run, self.name) if self.function.options.batch else run

    def function_for(self, request: dict[str, Any]) -> Any:
        """The function that a delivered message calls."""
        return self.function

    def apply_async(self, args: Any = None, kwargs: Any = None, *more: Any, **options: Any) -> Any:
        """Celery's own, with the arguments in our serializer and their key in a header."""
        if are_sealed(args) or options.get("serializer", self.serializer) != self.serializer:
            return super().apply_async(args, kwargs, *more, **options)
        args, kwargs = tuple(args or ()), dict(kwargs or {})
        function = self.function
        options = {**routing_of(function), **options}
        header = {"key": function.make_key(args, kwargs), "direct": True}
        options["headers"] = {**(options.get("headers") or {}), HEADER: header}
        options.setdefault("argsrepr", saferepr(args, self.argsrepr_maxlen))
        options.setdefault("kwargsrepr", saferepr(kwargs, self.argsrepr_maxlen))
        return super().apply_async((seal_call(function, args, kwargs),), {}, *more, **options)

    def apply(self, args: Any = None, kwargs: Any = None, *more: Any, **options: Any) -> Any:
        """Celery's own; with `task_eager_propagates` too, what a flight's body raises is told by the flight."""
        header = read_header((options.get("headers") or {}).get(HEADER))
        if header and not header.get("direct") and not more:
            # Celery says it for the first try only, and takes the Retry of the second one for an error.
            options.setdefault("throw", False)
        return super().apply(args, kwargs, *more, **options)

    argsrepr_maxlen = 1024
    # Celery writes what a task returns into the log and its events; a cached value belongs in neither.
    resultrepr_maxsize = 0

    def retry(self, args: Any = None, kwargs: Any = None, *more: Any, **options: Any) -> Any:
        """
        Celery's own; the flight is given back first, since a fast worker may receive the retry before we raise.

        Raises UsageError for other arguments than those of the call: they are another call, with a flight of its own.
        """
        edge(RELEASE)(self, args, kwargs, options)
        if stage_of(self.request).runs:
            args = kwargs = None  # the same, and written down already
        return super().retry(args, kwargs, *more, **options)
