"""This is where the local worker of one process is: `celery -A taskcache.worker.local`, started by its owner."""

from __future__ import annotations

import functools
import os
from typing import Any

from msgspec.structs import asdict, replace

from taskcache import opening
from taskcache.batching import BoundCall, alone
from taskcache.cache import Cache
from taskcache.calls.retrying import plan
from taskcache.decorators import AsyncFunction
from taskcache.drivers.asyncio import run_to_end
from taskcache.errors import ComputationLost, UntrustedValue
from taskcache.launchers import serializer
from taskcache.launchers.local import RUN, make_app, serve
from taskcache.launchers.serializer import SealedArguments, is_sealed
from taskcache.launchers.task import HEADER, FlightTask, header_in, header_of, read_header
from taskcache.worker import chunks
from taskcache.worker.delivery import distrust, refuse
from taskcache.worker.execution import execute

# The owner gives these to its worker; nobody else sets them.
app = serve(make_app(os.environ["TASKCACHE_LOCAL_BROKER"], os.environ["TASKCACHE_LOCAL_QUEUE"]))
opening.owner_decides = True
# Whatever the environment says: the owner's caches store.
cache = Cache(debug=False)


class LocalTask(FlightTask):
    """Runs whatever function its message brings; messages are signed with the secret of this user's private server."""

    abstract = True
    # Its caller raises the error; a second traceback in the middle of somebody's prompt helps nobody.
    throws = (Exception,)

    def function_for(self, request: dict[str, Any]) -> Any:
        """A stand-in for the function, for the main process, which opens no message."""
        header = read_header(request.get(HEADER))
        return _Sent(header, request.get("shadow") or RUN)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        if "calls" in header_in(self.request):
            return chunks.execute(self, args)
        # What is not sealed brings no function, and is refused like an empty message.
        return self.run_one(args[0] if is_sealed(args) else SealedArguments())

    def run_one(self, sealed: SealedArguments) -> Any:
        """Run one call of a message."""
        try:
            function, args, kwargs = self.open_one(sealed)
        except UntrustedValue as error:
            header = header_of(self.request)
            distrust(self.name, header, error)
            raise refuse(_Sent(header, self.request.shadow or RUN), header, _unopened(error)) from error
        body = functools.partial(self._tried, function)
        return execute(self, alone(body, function.name) if function.options.batch else body, args, kwargs, function)

    def open_one(self, sealed: SealedArguments) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
        """The function and the arguments of one call; raises UntrustedValue when we have not signed them."""
        message: Any = cache.codec.open_message(sealed)
        # The same secret signs calls that name their function, for workers that know it.
        if not isinstance(message, list) or len(message) != 3 or not isinstance(message[0], AsyncFunction):
            raise UntrustedValue("a message that does not bring its function")
        function, args, kwargs = message
        return function, tuple(args), kwargs

    def has_batches(self, header: dict[str, Any]) -> bool:
        """Whether the calls of a chunk are computed together, as its sender says: the function is in each of them."""
        return bool(header.get("batch"))

    def run_batch(self, function: Any, calls: list[BoundCall]) -> Any:
        """Call the body of a batch function."""
        return self._tried(function, calls)

    def _tried(self, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call a body, and send it for another try where its own options say so."""
        options = function.options.celery
        retried = tuple(options.get("autoretry_for", ()))
        never = tuple(options.get("dont_autoretry_for", ()))
        try:
            value = function.origin.fn(*args, **kwargs)
            return run_to_end(value) if function.origin.is_coroutine else value
        except retried as error:
            if isinstance(error, never):
                raise
            planned = asdict(plan(options, self.request.retries))
            raise self.retry(exc=error, **{**(options.get("retry_kwargs") or {}), **planned}) from error


def _unopened(error: UntrustedValue) -> ComputationLost:
    return ComputationLost(
        f"The local worker cannot open the function it was sent ({error}); define what it needs in a module that both can "
        "import, and give all caches of one process the same secret."
    )


class _Sent:
    """What the main process knows of a function that is still in its message."""

    def __init__(self, header: dict[str, Any], name: str) -> None:
        lease_ms = header.get("lease")
        self.cache = _cache_named(
            header.get("cache", "cache"), lease_ms if isinstance(lease_ms, int) else cache.settings.lease_ms
        )
        self.name = name


@functools.lru_cache(maxsize=64)
def _cache_named(name: str, lease_ms: int) -> Cache:
    """The cache of this name on the owner's server, as far as the main process has to know it."""
    return Cache.from_settings(None, replace(cache.settings, name=name, lease_ms=lease_ms))


def _in_message(*args: Any) -> None:
    """What Celery calls `run`: the function itself is in the message. Not a lambda: Celery compiles a header of its name."""


app.task(name=RUN, base=LocalTask, serializer=serializer.NAME, typing=False, shared=False)(_in_message)
