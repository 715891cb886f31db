"""This is where messages leave in bounded time: a producer pool of our own, on connections that give up."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from kombu import pools

from taskcache.drivers import hubs

# Long enough for a slow network; a broker that accepts and never answers would otherwise hold a caller for minutes.
CONNECT_TIMEOUT_S: Final = 3.0
REPLY_TIMEOUT_S: Final = 5.0

# kombu would wait 2 s and then 4 s between its tries to connect. A broker that restarts is back in a moment, and several
# brokers are each tried once without a pause.
_TRIES: Final[dict[str, Any]] = {
    "interval_start": 0.1,
    "interval_step": 0.2,
    "interval_max": 0.5,
    "connect_retries_timeout": 1.0,
}
_TIMEOUTS: Final[dict[str, dict[str, Any]]] = {
    "redis": {
        "socket_timeout": REPLY_TIMEOUT_S,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "retry_on_timeout": False,
    },
    "amqp": {"read_timeout": REPLY_TIMEOUT_S, "write_timeout": REPLY_TIMEOUT_S},
}

_pools: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


@contextmanager
def producer_of(app: Any) -> Iterator[Any]:
    """Borrow a producer for `app`'s broker."""
    if hubs.is_apart():
        with _connection(app) as connection:
            yield connection.Producer()
        return
    pool = _pools.get(app)
    if pool is None:
        with _lock:
            pool = _pools.get(app)
            if pool is None:
                pool = _pools[app] = _make(app)
    with pool.acquire(block=True) as producer:
        yield producer


def messages_in(app: Any, queue: str) -> int | None:
    """
    How many messages wait in a queue of a Redis broker; None for other brokers.

    There a message is out of its queue as soon as a worker has it, and lost for an hour when that worker dies. Others
    (AMQP) put it back by themselves.
    """
    with producer_of(app) as producer:
        if producer.connection.transport.driver_type != "redis":
            return None
        return int(producer.channel._size(queue))


def _make(app: Any) -> Any:
    # kombu keeps its pools by address and options, so this one is not the app's own.
    return pools.producers[_connection(app)]


def _connection(app: Any) -> Any:
    connection = app.connection_for_write(connect_timeout=CONNECT_TIMEOUT_S)
    driver = connection.transport_cls if isinstance(connection.transport_cls, str) else ""
    for prefix, timeouts in _TIMEOUTS.items():
        if driver.startswith(prefix) or (prefix == "amqp" and driver in ("pyamqp", "py-amqp")):
            connection.transport_options = {**_TRIES, **timeouts, **connection.transport_options}
    return connection


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()
    _pools.clear()


os.register_at_fork(after_in_child=_after_fork)
