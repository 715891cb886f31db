"""taskcache: slow calls computed once, by Celery workers or where they are made, and shared through Redis or Valkey."""

from __future__ import annotations

from taskcache.batch import as_completed, gather
from taskcache.batching import BoundCall
from taskcache.cache import Cache
from taskcache.calls.current import current, progress
from taskcache.errors import (
    AmbiguousApp,
    Cancelled,
    ComputationLost,
    DispatchFailed,
    Expired,
    NoCeleryApp,
    NoServer,
    NotReady,
    RemoteError,
    Revoked,
    TaskCacheError,
    TimeLimitExceeded,
    UncacheableArgument,
    UnknownTask,
    UnstorableValue,
    UsageError,
    ValueTooLarge,
)
from taskcache.keys.identity import identify
from taskcache.result import Result
from taskcache.settings import FOREVER

__version__ = "0.1.0.dev0"

__all__ = [
    "FOREVER",
    "AmbiguousApp",
    "BoundCall",
    "Cache",
    "Cancelled",
    "ComputationLost",
    "DispatchFailed",
    "Expired",
    "NoCeleryApp",
    "NoServer",
    "NotReady",
    "RemoteError",
    "Result",
    "Revoked",
    "TaskCacheError",
    "TimeLimitExceeded",
    "UncacheableArgument",
    "UnknownTask",
    "UnstorableValue",
    "UsageError",
    "ValueTooLarge",
    "as_completed",
    "current",
    "gather",
    "identify",
    "progress",
]
