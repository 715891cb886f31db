"""This is where a program without modules spreads its cached function over a process pool, as scripts do."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor

from taskcache import Cache

cache = Cache(os.environ["TASKCACHE_TEST_URL"], name="script", default_timeout=60)


@cache.cached(name="doubled")
def doubled(number: int) -> int:
    """Twice the number."""
    return number * 2


if __name__ == "__main__":
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(sys.argv[1])) as pool:
        print(
            json.dumps([list(pool.map(doubled, range(4))), [doubled(number) for number in range(4)], doubled.stats()])
        )
