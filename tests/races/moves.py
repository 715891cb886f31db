"""This is where a move of the explorer is: its name tells it in a story and finds it again in a repetition."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Move(NamedTuple):
    """Something that can happen next."""

    name: str
    weight: float
    act: Callable[[], Any]
    # A fault, or what only some runs do: nothing of it happens once everybody is to come to an end.
    is_fault: bool = False


@dataclass
class Climate:
    """What may happen in one run, and how often."""

    processes: int = 2
    workers: int = 2
    calls: int = 5
    # The keys of a `cached` function; the others are of a `cache_async` one.
    computing: tuple[str, ...] = ()
    invalidations: int = 2
    lifetimes: tuple[str, ...] = ("lasting", "short", "zero")
    acks_late: bool = False
    requeues: bool = False
    revokes: bool = False
    # Bodies may add a tag while they run.
    adds_tags: bool = False
    # Bodies of the first key that run in workers may call the second.
    nests: bool = False
    # How readily bodies end, calls begin and invalidations come, beside a step of somebody under way, which has 4.
    ending: float = 0.4
    beginning: float = 0.15
    invalidating: float = 0.08
    budget: dict[str, int] = field(default_factory=dict)
