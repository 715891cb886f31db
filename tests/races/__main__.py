"""
This is where the explorer goes on for as long as one wants: each seed is another run, and a broken one tells its story.

    python -m tests.races [--seed N] [--runs N] [--steps M] [--seconds S]
    python -m tests.races --every [--name TEXT] [--switches N]

The second plays every run of the small fleets instead, and prints how many states that are.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace

from tests.nodes import guard
from tests.nodes.server import ValkeyNode
from tests.races.exhaustive import play_all
from tests.races.explorer import MOVES, explore
from tests.races.worlds import WORLDS


def main() -> int:
    """Play runs until time or runs are used up; 1 when one of them broke."""
    parser = argparse.ArgumentParser(prog="python -m tests.races", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first run")
    parser.add_argument("--runs", type=int, default=1_000_000, help="how many")
    parser.add_argument("--steps", type=int, default=MOVES, help="moves of a run before everybody comes to an end")
    parser.add_argument("--seconds", type=float, default=60, help="stop after this time")
    parser.add_argument("--go-on", action="store_true", help="do not stop at the first run that breaks")
    parser.add_argument("--every", action="store_true", help="play every run of the small fleets (worlds.py)")
    parser.add_argument("--name", default="", help="only those whose name contains this")
    parser.add_argument(
        "--switches", type=int, help="with so many switches, instead of each one's own; -1: all there are"
    )
    asked = parser.parse_args()
    if asked.every:
        return _play_every(asked.name, asked.switches)
    began, broken, seed = time.monotonic(), 0, asked.seed
    with ValkeyNode() as node, node.client() as client:
        while seed < asked.seed + asked.runs and time.monotonic() < began + asked.seconds:
            found = explore(client, seed, asked.steps)
            seed += 1
            if found is not None:
                broken += 1
                print(found, flush=True)
                if not asked.go_on:
                    break
    guard.close()
    print(
        f"{seed - asked.seed} runs, seeds {asked.seed} to {seed - 1}: {broken} broken; {time.monotonic() - began:.0f} s"
    )
    return 1 if broken else 0


def _play_every(name: str, switches: int | None) -> int:
    print("| fleet | switches | states | ends | verdict | time |\n|---|---|---|---|---|---|")
    broken = 0
    with ValkeyNode() as node, node.client() as client:
        for title, world in WORLDS.items():
            if name not in title:
                continue
            if switches is not None:
                world = replace(world, switches=None if switches < 0 else switches)
            began = time.monotonic()
            played = play_all(client, world)
            broken += played.broken is not None
            bound = "all" if world.switches is None else world.switches
            verdict = "clean" if played.broken is None else str(played.broken)
            took = f"{time.monotonic() - began:.0f} s"
            print(f"| {title} | {bound} | {played.states:,} | {played.ends:,} | {verdict} | {took} |", flush=True)
    guard.close()
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
