"""This is where each part of the table is measured; a chapter gives its outcomes and curves."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.bench.goals import Curve, Outcome
from tests.bench.ground import Ground

Chapter = Callable[[Ground], Iterator[Outcome | Curve]]
