"""This is where a process hears of ended flights: one channel, one connection, one thread, started by the first wait."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

from taskcache.drivers import threads
from taskcache.drivers.topology import Server
from taskcache.events import warn_once

CHANNEL = "taskcache:inbox:"
TOKEN_BYTES = 36
# A message can be faster than the reply of the election it answers.
EARLY_S = 10.0
# How long a caller waits for the first subscription; without it, the watchdog finds the value a second later.
OPEN_S = 2.0
LISTEN_S = 5.0


class Inbox:
    """The ears of one process on one server. Messages are hints: what is lost, the watchdog finds."""

    def __init__(
        self, server: Server, on_message: Callable[[str, bytes], bool], on_reconnect: Callable[[], None]
    ) -> None:
        self.channel = CHANNEL + os.urandom(12).hex()
        self._server = server
        self._on_message = on_message
        self._on_reconnect = on_reconnect
        self._early: dict[str, tuple[float, bytes | None]] = {}
        self._lock = threading.Lock()
        self._subscribed = threading.Event()
        self._give_up_at = 0.0
        self._runs = False
        self._closed = threading.Event()

    def open(self) -> str:
        """Start listening if nobody has, and return the channel's name."""
        with self._lock:
            if not self._runs:
                self._give_up_at = time.monotonic() + OPEN_S
                threads.start(self._run, "taskcache-inbox")
                self._runs = True
        if not self._subscribed.is_set():
            # Waited for once: the keeper asks for every look at every flight, and a server that is away is waited out there.
            self._subscribed.wait(max(0.0, self._give_up_at - time.monotonic()))
        return self.channel

    def early(self, token: str) -> bytes | None:
        """
        What came for a flight before this caller waited for it; None when nothing did.

        The first to ask gets what came, later ones b"", «look»: values are not kept for those who may never ask.
        """
        with self._lock:
            since, envelope = self._early.get(token, (0.0, None))
            if envelope:
                self._early[token] = (since, b"")
            return envelope

    def close(self) -> None:
        """Stop listening; the thread ends with its connection, or at its next pause."""
        self._closed.set()

    def _run(self) -> None:
        pause_s = 0.05
        subscribed_before = False
        while not self._closed.is_set():
            try:
                with self._server.subscribe(self.channel) as subscription:
                    while not self._closed.is_set():
                        message = subscription.get_message(timeout=LISTEN_S)
                        if message is None:
                            continue
                        if message["type"] == "subscribe":
                            # Also after redis-py has reconnected by itself: what was said meanwhile is lost.
                            self._subscribed.set()
                            pause_s = 0.05
                            if subscribed_before:
                                self._on_reconnect()
                            subscribed_before = True
                        else:
                            self._deliver(message["data"])
            # Not only of redis-py: a socket that another thread closes raises TypeError or ValueError in select.
            except Exception as error:  # noqa: BLE001 - this thread wakes every wait of the process: it must go on
                if self._closed.is_set():
                    return
                warn_once("inbox", "taskcache: the wake-up connection to %s broke (%s)", self._server.url, error)
                time.sleep(pause_s)
                pause_s = min(pause_s * 2, 1.0)

    def _deliver(self, data: Any) -> None:
        token, envelope = data[:TOKEN_BYTES].decode("ascii", "replace"), data[TOKEN_BYTES:]
        now = time.monotonic()
        with self._lock:
            while self._early:
                oldest = next(iter(self._early))
                if now - self._early[oldest][0] < EARLY_S:
                    break
                del self._early[oldest]
            self._early[token] = (now, envelope)
        if self._on_message(token, envelope):
            self.early(token)
