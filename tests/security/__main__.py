"""
This is where the attacks go on for longer than in CI, each round from another seed.

    python -m tests.security --minutes 10
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import time

FUZZED = (
    *("test_entries.py", "test_wake_ups.py", "test_messages.py", "test_ids.py"),
    *("test_several.py", "test_local.py"),
)


def main() -> int:
    """Run rounds until the time is over or one has failed; the seed of each is printed, to repeat it."""
    parser = argparse.ArgumentParser(prog="python -m tests.security", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, help="repeat the round with this seed")
    given = parser.parse_args()
    end = time.monotonic() + 60 * given.minutes
    while True:
        seed = random.randrange(2**32) if given.seed is None else given.seed
        print(f"--seed {seed}", flush=True)
        words = ["-q", "-x", "-k", "fuzz", f"--hypothesis-seed={seed}", "-o", "timeout=1200"]
        files = [f"tests/security/{name}" for name in FUZZED]
        status = subprocess.call(
            [sys.executable, "-m", "pytest", *words, *files], env={**os.environ, "TASKCACHE_FUZZ_ROUND": str(seed)}
        )
        if status or given.seed is not None or time.monotonic() > end:
            return status


if __name__ == "__main__":
    sys.exit(main())
