"""
This is where the soak is run by hand; it ends with a table, and with 1 and the seed to repeat when something was wrong.

    python -m tests.soak [--minutes M] [--seed N]
"""

from __future__ import annotations

import argparse
import random
import sys

from tests.nodes import guard
from tests.soak.stage import soak


def main() -> int:
    """Soak for the time that is asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    asked = parser.parse_args()
    try:
        report = soak(asked.minutes * 60, asked.seed)
    finally:
        guard.close()
    print(report)
    if report.violations:
        print(f"repeat with: python -m tests.soak --minutes {asked.minutes:g} --seed {asked.seed}", file=sys.stderr)
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
