"""This is where we name what can go wrong; each docstring is the message and its cure."""

from __future__ import annotations

import inspect
import queue


class TaskCacheError(Exception):
    """Something in taskcache went wrong; catch this class to catch everything it raises."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message if message is not None else inspect.cleandoc(type(self).__doc__ or ""))


class NotReady(TaskCacheError, queue.Empty):
    """The value is not there yet; call again, wait longer (`timeout=`), or pass `default=`."""


class UsageError(TaskCacheError, TypeError):
    """taskcache was called in a way it does not support; the message says which way it does."""


class UncacheableArgument(TaskCacheError, TypeError):
    """An argument has no identity to build a key from; give its class `__cache_key__`, call `identify(Type, key=...)`,
    declare its fields (dataclass, NamedTuple, Enum), or leave it out with `ignore=("name",)`."""


class UnstorableValue(TaskCacheError, TypeError):
    """A value cannot be written by the safe codec; return plain data, or set a secret
    (`Cache(secret=...)` or TASKCACHE_SECRET) so that signed pickles may be stored."""


class ValueTooLarge(TaskCacheError, ValueError):
    """A value is larger than the server accepts; return a reference to it, or split it into several calls."""


class NoServer(TaskCacheError, ConnectionError):
    """No Redis or Valkey was found; set TASKCACHE_URL=redis://host:6379/0, pass `Cache("redis://...")`,
    or `pip install 'taskcache[embedded]'` to have a private one started."""


class NoCeleryApp(TaskCacheError):
    """No Celery app is known for this function; pass `Cache(app=app)` or `Cache(app="proj.celery:app")`."""


class AmbiguousApp(TaskCacheError):
    """Several Celery apps have this function; say which one with `Cache(app=app)`."""


class DispatchFailed(TaskCacheError):
    """The broker did not take the task; check `broker_url` and that the broker runs, or choose
    `on_broker_error="inline"` to compute in the calling process instead."""


class ComputationLost(TaskCacheError):
    """The computation ended without a value and without an error of its own; the message says why.
    Call again to start a new one."""


class UnknownTask(ComputationLost):
    """A worker received the task but does not know it; import the module that decorates the function in the worker
    (`celery -A module worker`, `include=[...]`, autodiscover) and restart workers that run older code."""


class Revoked(ComputationLost):
    """The task was revoked before it produced a value; call again to start a new computation."""


class Expired(ComputationLost):
    """The task expired in its queue before a worker took it; raise `expires=` or add workers."""


class TimeLimitExceeded(ComputationLost):
    """The task ran into its time limit and was ended; raise `time_limit=` or make the function faster."""


class Cancelled(TaskCacheError):
    """The computation was cancelled because nobody waited for it any more; call again to start a new one."""


class RemoteError(TaskCacheError):
    """The function raised an error whose type cannot be rebuilt here; its name, message and traceback are in the text.
    Import the module that defines it, or set a secret, to receive the error itself."""


class UntrustedValue(TaskCacheError):
    """Bytes from the server are damaged, of another version, or not signed with a secret of ours. Never raised to users:
    a counted miss."""
