"""This is where types are that arguments of the shop may have."""

from __future__ import annotations

import threading


class Keyed:
    """It has an identity, and holds a lock, which nobody can write down."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def __cache_key__(self) -> str:
        return "the one"
