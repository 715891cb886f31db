"""This is where we refuse to start a private server, namely wherever it would quietly break the promise of a fleet."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from taskcache.errors import NoServer
from taskcache.settings import read_environment


def refuse_where_it_would_be_a_trap() -> None:
    """Raise NoServer with the reason where a private server is impossible, forbidden, or almost certainly a mistake."""
    environment = read_environment()
    if os.name != "posix":
        raise NoServer(
            "a private server needs Linux or macOS; on this system set TASKCACHE_URL=redis://host:6379/0 "
            'or pass `Cache("redis://...")`'
        )
    if environment.embedded is False:
        raise NoServer(
            "TASKCACHE_EMBEDDED=0 forbids a private server and none is configured; "
            'set TASKCACHE_URL=redis://host:6379/0 or pass `Cache("redis://...")`'
        )
    fleet = "a Celery worker" if _is_celery_worker(sys.argv) else environment.fleet
    if fleet is not None and environment.embedded is None:
        raise NoServer(
            f"no server is configured, and inside {fleet} no private one is started: the processes of another machine "
            "or container would get one of their own and share nothing with this one, without a word. "
            "Set TASKCACHE_URL=redis://host:6379/0, or TASKCACHE_EMBEDDED=1 if this machine really is all there is"
        )


def _is_celery_worker(argv: list[str]) -> bool:
    """Recognise `celery ... worker` and `python -m celery ... worker`; forked pool processes keep their parent's."""
    if "worker" not in argv[1:]:
        return False
    program = Path(argv[0])
    return program.stem == "celery" or program.parts[-2:] == ("celery", "__main__.py")
