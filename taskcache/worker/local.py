"""This is where the local worker of one process is: `celery -A taskcache.worker.local`, started by its owner."""

from __future__ import annotations

import functools
import os
from typing import Any

from taskcache.cache import Cache
from taskcache.drivers.asyncio import run_to_end
from taskcache.errors import ComputationLost, UntrustedValue
from taskcache.launchers import serializer
from taskcache.launchers.local import RUN, make_app, serve
from taskcache.launchers.task import HEADER, FlightTask, read_header
from taskcache.retrying import plan
from taskcache.worker.execution import execute, header_of, refuse

# The owner gives these to its worker; nobody else sets them.
app = serve(make_app(os.environ["TASKCACHE_LOCAL_BROKER"], os.environ["TASKCACHE_LOCAL_QUEUE"]))
cache = Cache()


class LocalTask(FlightTask):
    """Runs whatever function its message brings; messages are signed with the secret of this user's private server."""

    abstract = True
    # Its caller raises the error; a second traceback in the middle of somebody's prompt helps nobody.
    throws = (Exception,)

    def function_for(self, request: dict[str, Any]) -> Any:
        """A stand-in for the function, for the main process, which opens no message."""
        header = read_header(request.get(HEADER))
        return _Sent(cache_named(header.get("cache", "cache")), request.get("shadow") or RUN)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            message: Any = cache.codec.open_message(args[0])
        except UntrustedValue as error:
            header = header_of(self.request)
            sent = _Sent(cache_named(header.get("cache", "cache")), self.request.shadow or RUN)
            raise refuse(sent, header, _unopened(error)) from error
        function, call_args, call_kwargs = message
        options = function.options.celery
        retried = tuple(options.get("autoretry_for", ()))
        never = tuple(options.get("dont_autoretry_for", ()))

        def body(*args: Any, **kwargs: Any) -> Any:
            try:
                value = function.origin.fn(*args, **kwargs)
                return run_to_end(value) if function.origin.is_coroutine else value
            except retried as error:
                if isinstance(error, never):
                    raise
                planned = plan(options, self.request.retries)._asdict()
                raise self.retry(exc=error, **{**(options.get("retry_kwargs") or {}), **planned}) from error

        return execute(self, body, call_args, call_kwargs, function)


def _unopened(error: UntrustedValue) -> ComputationLost:
    return ComputationLost(
        f"The local worker cannot open the function it was sent ({error}); define what it needs in a module that both can "
        "import, and give all caches of one process the same secret."
    )


class _Sent:
    """What the main process knows of a function that is still in its message."""

    def __init__(self, cache: Cache, name: str) -> None:
        self.cache = cache
        self.name = name


@functools.lru_cache(maxsize=64)
def cache_named(name: str) -> Cache:
    """The cache of this name on the owner's server."""
    return cache if name == cache.name else Cache(name=name)


def _in_message(*args: Any) -> None:
    """What Celery calls `run`: the function itself is in the message. Not a lambda: Celery compiles a header of its name."""


app.task(name=RUN, base=LocalTask, serializer=serializer.NAME, typing=False, shared=False)(_in_message)
