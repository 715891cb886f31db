"""This is where a process hears of ended flights: one channel, one connection, one thread, started by the first wait."""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import closing

from taskcache.drivers import threads
from taskcache.drivers.subscription import SUBSCRIBED, Subscription
from taskcache.drivers.topology import Server
from taskcache.events import warn_once

CHANNEL = "taskcache:inbox:"
TOKEN_BYTES = 36
# A message can be faster than the reply of the election it answers; a process that is held up may be this late.
EARLY_S = 10.0
# Many more flights than can end while their elections are answered, and their values in as much memory as one may notice.
EARLY_COUNT = 10_000
EARLY_BYTES = 8 * 2**20
# How long a caller waits for the first subscription; without it, the watchdog finds the value a second later.
OPEN_S = 2.0
# A connection that lived for this long is made again at once, without a word.
LIVED_S = 1.0


class Early:
    """
    What came for flights that nobody of this process waited for at that moment; bounded in time, number and bytes.

    A value that is dropped leaves «look» in its place, which costs its waiter a round trip. A «look» that is dropped
    costs a watchdog period: whoever begins to wait does not hear that the flight is over, and finds it so.
    """

    def __init__(self) -> None:
        # Both oldest first, which a plain dict finds slowly once many have gone; a flight without a value has «look».
        self._since: OrderedDict[str, float] = OrderedDict()
        self._values: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._since)

    @property
    def size_bytes(self) -> int:
        """What the values take that are kept."""
        return self._bytes

    def keep(self, token: str, envelope: bytes, now: float) -> None:
        """Keep a message for who comes later, and forget what is old or too much."""
        self._drop(token)
        self.forget(now)
        while len(self._since) >= EARLY_COUNT:
            self._drop(next(iter(self._since)))
        self._since[token] = now
        if envelope and len(envelope) <= EARLY_BYTES:
            self._values[token] = envelope
            self._bytes += len(envelope)
        while self._bytes > EARLY_BYTES:
            self._take_value(next(iter(self._values)))

    def take(self, token: str) -> bytes | None:
        """
        Give what came, or None when nothing did.

        The first to ask gets the value, later ones b"", «look»: values are not kept for those who may never ask.
        """
        return self._take_value(token) if token in self._since else None

    def forget(self, now: float) -> None:
        """Forget what nobody will come for."""
        while self._since:
            oldest = next(iter(self._since))
            if now - self._since[oldest] < EARLY_S:
                return
            self._drop(oldest)

    def _drop(self, token: str) -> None:
        self._take_value(token)
        self._since.pop(token, None)

    def _take_value(self, token: str) -> bytes:
        envelope = self._values.pop(token, b"")
        self._bytes -= len(envelope)
        return envelope


class Inbox:
    """The ears of one process on one server. Messages are hints: what is lost, the watchdog finds."""

    def __init__(
        self, server: Server, on_message: Callable[[str, bytes], bool], on_reconnect: Callable[[], None]
    ) -> None:
        self.channel = CHANNEL + os.urandom(12).hex()
        self._server = server
        self._on_message = on_message
        self._on_reconnect = on_reconnect
        self._early = Early()
        self._lock = threading.Lock()
        self._subscribed = threading.Event()
        self._give_up_at = 0.0
        self._runs = False
        self._closed = threading.Event()
        self._subscription: Subscription | None = None

    def open(self) -> str:
        """Start listening if nobody has, and return the channel's name."""
        with self._lock:
            if not self._runs and not self._closed.is_set():
                self._give_up_at = time.monotonic() + OPEN_S
                threads.start(self._run, "taskcache-inbox")
                self._runs = True
        if not self._subscribed.is_set():
            # Waited for once: the keeper asks for every look at every flight, and a server that is away is waited out there.
            self._subscribed.wait(max(0.0, self._give_up_at - time.monotonic()))
        return self.channel

    def early(self, token: str) -> bytes | None:
        """What came for a flight before this caller waited for it; None when nothing did."""
        with self._lock:
            return self._early.take(token)

    def close(self) -> None:
        """Stop listening; the thread ends with its connection, or at its next pause."""
        self._closed.set()
        if self._subscription is not None:
            self._subscription.hang_up()

    def _run(self) -> None:
        try:
            self._listen()
        finally:
            # Whatever ended it, the next wait listens again.
            with self._lock:
                self._runs = False

    def _listen(self) -> None:
        pause_s = 0.0
        while not self._closed.is_set():
            began = time.monotonic()
            try:
                with closing(self._server.subscribe(self.channel)) as subscription:
                    # Before the look whether it is over: whoever ends it after that look hangs up.
                    self._subscription = subscription
                    while not self._closed.is_set():
                        heard = subscription.hear()
                        if heard is None:
                            self._forget_early()
                        elif heard is SUBSCRIBED:
                            self._begin()
                        else:
                            self._deliver(heard)
            # Not only of redis-py: a socket that another thread closes raises TypeError or ValueError in select.
            except Exception as error:  # noqa: BLE001 - this thread wakes every wait of the process: it must go on
                if self._closed.is_set():
                    return
                if time.monotonic() - began > LIVED_S:
                    pause_s = 0.0
                if pause_s:
                    # A connection may break; one that breaks again and again is worth a word.
                    warn_once("inbox", "taskcache: the wake-up connection to %s broke (%s)", self._server.url, error)
                time.sleep(pause_s)
                pause_s = min(max(pause_s * 2, 0.05), 1.0)

    def _begin(self) -> None:
        if self._subscribed.is_set():
            # What was said meanwhile is lost.
            self._on_reconnect()
        self._subscribed.set()

    def _forget_early(self) -> None:
        with self._lock:
            self._early.forget(time.monotonic())

    def _deliver(self, data: bytes) -> None:
        token, envelope = data[:TOKEN_BYTES].decode("ascii", "replace"), data[TOKEN_BYTES:]
        with self._lock:
            self._early.keep(token, envelope, time.monotonic())
        if self._on_message(token, envelope):
            self.early(token)
