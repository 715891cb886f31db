"""This is where a sender keeps what it knows of its messages, one call or many in each, and whether anybody is at work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

# No worker is busy with other messages of an empty queue for this long, as a rule; nor with those of a queue that goes on.
MISSING_S: Final = 10.0
LONGEST_MISSING_S: Final = 600.0
# Calls of one chunk take their turns to be sent again within a look of their watchdog or two: one message serves them all.
TOGETHER_S: Final = 5.0
# Each call of a chunk asks once a second for Celery's state of their one message: the first one asks for all.
LOOK_S: Final = 1.0
# As much of the arguments as Celery's own tools show.
SHOWN_CHARACTERS: Final = 1024
# Half of AMQP's usual frame of 131,072 bytes, in which all headers of a message must fit; links and tags want some too.
HEADER_BYTES: Final = 64 * 1024
# What AMQP writes around one key and one token.
CALL_BYTES: Final = 16


class Message:
    """A message that carries one call, however often it was sent."""

    def __init__(self, task_id: str) -> None:
        self.id = task_id
        self._patience_s = MISSING_S
        self.note_sent()
        self.first_at = self.sent_at

    def note_sent(self) -> None:
        """Hear that it is sent, or sent again."""
        self.sent_at = time.monotonic()
        self._look_at = self.sent_at + self._patience_s

    def is_look_due(self) -> bool:
        """True when its queue should be looked at: 10 s after it was sent, and at growing distance."""
        now = time.monotonic()
        if now < self._look_at:
            return False
        self._patience_s = min(2 * self._patience_s, LONGEST_MISSING_S)
        self._look_at = now + self._patience_s
        return True


class Chunk(Message):
    """
    A message that carries several calls, which a worker computes one after another.

    While one of them is seen to run, the turns of the others will come. When they are no longer, their worker has died,
    or was told to leave the rest: then each of them is sent again by itself, as soon as its waiters notice.
    """

    def __init__(self, task_id: str, tokens: Sequence[str], send: Callable[[], None], silent_s: float) -> None:
        super().__init__(task_id)
        self._send = send
        self._silent_s = silent_s
        self._wanted = set(tokens)
        self._served_at = 0.0
        self._is_over = False
        self._told: tuple[float, BaseException | None] = (0.0, None)

    def note_served(self) -> None:
        """Hear that one of its calls was seen to run, or has ended."""
        self._served_at = time.monotonic()

    @property
    def is_taken(self) -> bool:
        """A worker has been seen to work on it."""
        return self._served_at > 0

    @property
    def is_over(self) -> bool:
        """Whoever had it does not go on: what has not begun is not in it any more."""
        return self._is_over or (self.is_taken and time.monotonic() - self._served_at > self._silent_s)

    def end(self) -> None:
        """Hear that its task has ended."""
        self._is_over = True

    def send_again(self) -> None:
        """Send what nobody has taken once more, for all of its calls together."""
        now = time.monotonic()
        if not self.is_taken and now - self.sent_at > TOGETHER_S:
            self.note_sent()
            self._send()

    def abandon(self, token: str) -> bool:
        """Hear that nobody waits for this call any more; True when that is so for all of them."""
        self._wanted.discard(token)
        return not self._wanted

    def told(self, ask: Callable[[], BaseException | None]) -> BaseException | None:
        """What Celery says of its task, asked once for all of its calls."""
        now = time.monotonic()
        if now - self._told[0] > LOOK_S:
            self._told = (now, ask())
        return self._told[1]


def parted(sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Where each message of these calls starts and stops, when so many bytes of each are in the message's header."""
    start, room = 0, HEADER_BYTES
    for place, size in enumerate(sizes):
        room -= size + CALL_BYTES
        if room < 0 and place > start:
            yield start, place
            start, room = place, HEADER_BYTES - size - CALL_BYTES
    if start < len(sizes):
        yield start, len(sizes)


def described(calls: Sequence[tuple[str, str]]) -> str:
    """Many calls, each as the texts of its args and kwargs, as one text for Celery's tools."""
    shown, room = [], SHOWN_CHARACTERS
    for args, kwargs in calls:
        text = args if kwargs == "{}" else f"{args} {kwargs}"
        room -= len(text) + 2
        if room < 0:
            shown.append("...")
            break
        shown.append(text)
    return f"{len(calls)} calls: {', '.join(shown)}"
