"""This is where the floors are drawn: what stands on each, from the words up to the edges; imports go down only."""

from __future__ import annotations

FLOORS = {
    "words": ("settings", "options", "errors", "events"),
    "pure": ("keys", "freshness", "codec", "batching"),
    "said": ("protocol", "launcher"),
    "waits": ("drivers", "launchers", "near", "embedded"),
    "held": (
        *("cache", "aio", "opening", "stats"),
        *("decorators", "properties", "decorating", "function", "bound", "awaitable", "calls", "mapping"),
        *("result", "batch"),
    ),
    # The package itself is the table of contents, on top of what it lists.
    "front": ("",),
    "edges": ("worker", "contrib", "cli", "testing", "exporters", "__main__"),
}
ORDER = list(FLOORS)
FLOOR_OF = {part: ORDER.index(floor) for floor, parts in FLOORS.items() for part in parts}
TITLES = {
    "words": "Words: what everybody else speaks with",
    "pure": "Pure rules: no clock, no network, no waiting",
    "said": "What is said to Redis",
    "waits": "Who waits: for Redis, for Celery, for what has changed",
    "held": "What users hold",
    "front": "The table of contents",
    "edges": "The edges: workers and the command line",
}


def part_of(name: str) -> str:
    """Give the first part below the package: "codec" for taskcache.codec.typed, "" for the package."""
    return name.partition(".")[2].partition(".")[0]


def floor_of(name: str) -> int:
    """Give the number of a module's floor."""
    part = part_of(name)
    assert part in FLOOR_OF, f"{name} has no floor: give `{part}` one in FLOORS"
    return FLOOR_OF[part]
