"""This is where a process hears of ended flights: one channel, one connection, one thread, started by the first wait."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import closing

from taskcache.drivers import threads
from taskcache.drivers.subscription import SUBSCRIBED, Subscription
from taskcache.drivers.topology import Server
from taskcache.events import warn_once

CHANNEL = "taskcache:inbox:"
TOKEN_BYTES = 36
# How long a caller waits for the first subscription; without it, the watchdog finds the value a second later.
OPEN_S = 2.0
# A connection that lived for this long is made again at once, without a word.
LIVED_S = 1.0


class Inbox:
    """The ears of one process on one server. Messages are hints: what is lost, the watchdog finds."""

    def __init__(
        self,
        server: Server,
        on_message: Callable[[str, bytes], None],
        on_reconnect: Callable[[], None],
        on_silence: Callable[[], None],
    ) -> None:
        self.channel = CHANNEL + os.urandom(12).hex()
        self._server = server
        self._on_message = on_message
        self._on_reconnect = on_reconnect
        # Called every few seconds without a message.
        self._on_silence = on_silence
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
                            self._on_silence()
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

    def _deliver(self, data: bytes) -> None:
        self._on_message(data[:TOKEN_BYTES].decode("ascii", "replace"), data[TOKEN_BYTES:])
