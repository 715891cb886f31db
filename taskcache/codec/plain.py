"""This is where we see at a glance whether a value is plain data, which msgspec writes in one piece."""

from __future__ import annotations

import sys
from gc import get_referents
from typing import Final

SCALARS: Final = frozenset((type(None), bool, int, float, str, bytes))
CONTAINERS: Final = frozenset((list, dict))


def is_plain(value: object, levels: int) -> bool:
    """
    Whether a value is made of nothing but scalars, lists and dicts, nested at most so deep.

    Level by level with the collector's eyes: a list of a thousand dicts costs a few calls into C, not a Python walk. A
    dict whose keys are all of exact type str shows only its values, any other shows its keys as well.
    """
    if type(value) in SCALARS:
        return True
    if type(value) not in CONTAINERS:
        return False
    level = _inside([value])
    for _ in range(levels - 1):
        if SCALARS.issuperset(map(type, level)):
            return True
        parted = [one for one in level if type(one) not in SCALARS]
        if not CONTAINERS.issuperset(map(type, parted)):
            return False
        level = _inside(parted)
    return False


def _inside(containers: list[object]) -> list[object]:
    if sys.version_info >= (3, 13):
        # There the `__dict__` of a living object shows nothing: the collector finds its values in the object.
        hidden = [each for each in containers if type(each) is dict and each and not get_referents(each)]
        if hidden:
            return get_referents(*containers) + [item for each in hidden for item in each.values()]
    return get_referents(*containers)
