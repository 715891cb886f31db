"""This is where messages leave in bounded time: on producers of our own, whose connections give up."""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from copy import copy
from typing import Any, Final

from kombu.exceptions import EncodeError, OperationalError

from taskcache.drivers import hubs, threads
from taskcache.drivers.wire import SILENT

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

# As many messages leave a process at one time, like with Celery's own pool.
_MOST: Final = 10


class _Producers:
    """The producers of one app that are kept: to make one ready for each message is a tenth of what sending costs."""

    def __init__(self) -> None:
        self.idle: deque[Any] = deque()
        self.places = threading.BoundedSemaphore(_MOST)
        # When a broker last was silent for the whole of its time, and what was raised.
        self.silent: tuple[float, OperationalError] | None = None


_kept: weakref.WeakKeyDictionary[Any, _Producers] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def send(app: Any, publish: Callable[[Any], object]) -> None:
    """
    Have a message published: `publish(producer)`. Raises kombu's OperationalError when the broker does not take it.

    A connection that broke while nobody used it is replaced, and the message is sent again: twice costs a message.
    """
    was_idle = bool(app in _kept and _kept[app].idle)
    try:
        _publish(app, publish)
    except OperationalError as error:
        if not was_idle or isinstance(error.__cause__, SILENT):
            raise
        # What one connection has lost, the others have lost too that were idle as long as it.
        _forget_idle(app)
        _publish(app, publish)


def _forget_idle(app: Any) -> None:
    idle = _kept[app].idle
    with suppress(IndexError):  # the end; other threads take from it too
        while True:
            idle.pop().connection.release()


def _publish(app: Any, publish: Callable[[Any], object]) -> None:
    began = time.monotonic()
    with producer_of(app) as producer:
        kept = _kept.get(app)
        if kept is not None and kept.silent is not None and began <= kept.silent[0]:
            # Who waited for a place meanwhile need not wait for a timeout of its own.
            raise copy(kept.silent[1]) from kept.silent[1].__cause__
        try:
            publish(producer)
        except EncodeError:
            raise
        except OperationalError as error:
            if kept is not None and isinstance(error.__cause__, SILENT):
                kept.silent = time.monotonic(), error
            raise
        except _lost(producer.connection) as error:
            raise OperationalError(str(error)) from error


def _lost(connection: Any) -> tuple[type[Exception], ...]:
    """What a transport raises when its connection breaks; kombu counts KeyError among it, for a reader's sake."""
    return tuple(kind for kind in connection.connection_errors if kind is not KeyError)


@contextmanager
def producer_of(app: Any) -> Iterator[Any]:
    """Borrow a producer for `app`'s broker; one that fails is not lent again."""
    if hubs.is_apart():
        with _connection(app) as connection:
            yield connection.Producer()
        return
    kept = _kept.get(app)
    if kept is None:
        with _lock:
            kept = _kept.setdefault(app, _Producers())
    with kept.places:
        producer = kept.idle.pop() if kept.idle else _connection(app).Producer()
        try:
            yield producer
        except BaseException:
            producer.connection.release()
            raise
        kept.idle.append(producer)


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


def revoke(app: Any, task_id: str) -> None:
    """Have a task revoked: Celery's own message. `control.revoke` sends it without timeouts, and tries for ever."""
    mailbox = app.control.mailbox
    arguments = {"task_id": task_id, "terminate": True, "signal": "SIGTERM"}
    message = {"method": "revoke", "arguments": arguments, "destination": None, "pattern": None, "matcher": None}

    def publish(producer: Any) -> None:
        # As kombu's mailbox does (kombu.pidbox), whose own producer may not be told to give up.
        headers = {"clock": mailbox.clock.forward(), "expires": 0}
        producer.publish(
            message,
            exchange=mailbox.exchange.name,
            declare=[mailbox.exchange],
            headers=headers,
            serializer=mailbox.serializer,
            retry=False,
        )

    send(app, publish)


def _connection(app: Any) -> Any:
    connection = app.connection_for_write(connect_timeout=CONNECT_TIMEOUT_S)
    driver = connection.transport_cls if isinstance(connection.transport_cls, str) else ""
    if driver.startswith("sentinel"):
        driver = "redis"  # how its primary is found is all that differs
    for prefix, timeouts in _TIMEOUTS.items():
        if driver.startswith(prefix) or (prefix == "amqp" and driver in ("pyamqp", "py-amqp")):
            connection.transport_options = {**_TRIES, **timeouts, **connection.transport_options}
    return connection


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()
    _kept.clear()


threads.after_fork(_after_fork)
