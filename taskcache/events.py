"""This is where we say what happened; metrics, spans and logs only listen."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Literal

from msgspec import Struct

logger = logging.getLogger("taskcache")

Kind = Literal[
    "failed",  # a function body raised here
    "stored",  # an entry was published
    "delivered",  # a value reached its waiters and was not stored
    "refused",  # a late or foreign publish was refused by the fence
    "untrusted",  # an entry, a wake-up or a message could not be decoded or verified
    "degraded",  # the cache could not be reached and the call was computed without it
    "busted",  # an entry was invalidated
]


class Event(Struct, frozen=True):
    """
    One thing that happened to one call; `name` is the function's name or "" for plain keys.

    Never holds values, and of the arguments their digest, or what a `key_fn` made of them.
    """

    kind: Kind
    name: str
    key: str = ""
    seconds: float = 0.0


Listener = Callable[[Event], None]
# One registration each: the same listener may be there twice, and each end is of its own.
_listeners: dict[object, Listener] = {}


def listen(listener: Listener) -> Callable[[], None]:
    """Call `listener(event)` for every event of this process; returns a function that ends it."""
    registration = object()
    _listeners[registration] = listener

    def end() -> None:
        _listeners.pop(registration, None)  # it may have ended already

    return end


def emit(event: Event) -> None:
    """Tell every listener; one that raises is logged and does not disturb the call."""
    for listener in tuple(_listeners.values()):  # one may end itself
        try:
            listener(event)
        except Exception:
            logger.exception("a taskcache event listener failed")


_said: set[str] = set()


def warn_once(topic: str, message: str, *args: object) -> None:
    """Log a warning the first time `topic` comes up in this process."""
    if topic not in _said:
        _said.add(topic)
        logger.warning(message, *args)
