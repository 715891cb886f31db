"""This is where `taskcache ping` tells whether the server is there, which one it is, and how far away."""

from __future__ import annotations

import platform
import statistics
import time
from importlib.metadata import version
from typing import Any, Final

from taskcache import __version__
from taskcache.cache import Cache
from taskcache.drivers.topology import Server
from taskcache.errors import NoServer
from taskcache.protocol.steps import Call

ROUNDS: Final = 50


def ping(url: str | None) -> int:
    """Print what answers, in plain text; raises NoServer when nothing does."""
    with Cache(url, debug=False) as cache:
        server = cache.station.server
        first_ms = _round_trip_ms(server)
        median_ms = statistics.median(_round_trip_ms(server) for _ in range(ROUNDS))
        about = _about(server)
        kind = " (a private one of this user)" if cache.embedded is not None else ""
        print(f"{server.url} answers{kind}")
        if about:
            print(f"server     {_name(about)}, {_mode(about)}, policy {_words(about, 'maxmemory_policy')}")
            print(
                f"memory     {_words(about, 'used_memory_human')} of {_words(about, 'maxmemory_human')} (0B: no limit)"
            )
        else:
            print("server     does not tell this user which one it is (INFO is not permitted)")
        print(f"latency    {median_ms:.2f} ms (median of {ROUNDS}; with the connection {first_ms:.1f} ms)")
    print(f"here       taskcache {__version__}, celery {version('celery')}, redis-py {version('redis')}, ", end="")
    print(f"Python {platform.python_version()}")
    return 0


def _about(server: Server) -> dict[str, Any]:
    try:
        about: dict[str, Any] = server.call(Call("INFO", ()))
    except NoServer:
        # It has just answered: what a cache needs its user may do, and INFO is not among it (deploy/users.acl).
        return {}
    return about


def _round_trip_ms(server: Server) -> float:
    began = time.perf_counter()
    server.call(Call("PING", ()))
    return (time.perf_counter() - began) * 1000


def _name(about: dict[str, Any]) -> str:
    # Valkey says the version of the Redis it branched from, too.
    if "valkey_version" in about:
        return f"Valkey {about['valkey_version']}"
    return f"Redis {about.get('redis_version', 'of unknown version')}"


def _mode(about: dict[str, Any]) -> str:
    return str(about.get("server_mode") or about.get("redis_mode") or "of unknown mode")


def _words(about: dict[str, Any], name: str) -> str:
    return str(about.get(name, "unknown"))
