"""This is where a pickle is that does something when it is read: the witness that nobody has read it."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any


class Bomb:
    """Unpickled, it makes a directory."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.place),)


def bomb(place: Path) -> bytes:
    """Give a pickle that makes the directory `place` in whichever process reads it."""
    return pickle.dumps(Bomb(place), 5)
