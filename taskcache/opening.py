"""This is where a cache finds its server: an argument, the environment, or a private one of this user."""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from taskcache.codec.sealing import Codec
from taskcache.drivers.station import Station
from taskcache.drivers.topology import describe as describe_client
from taskcache.drivers.topology import without_password
from taskcache.settings import Settings

if TYPE_CHECKING:
    from taskcache.cache import Cache


@dataclass(frozen=True, slots=True)
class Opened:
    """What a cache stands on once it has been used."""

    station: Station
    codec: Codec
    settings: Settings
    # The private server, when that is what it is.
    embedded: Any


_shared: weakref.WeakValueDictionary[tuple[str, int], Station] = weakref.WeakValueDictionary()
_caches: weakref.WeakValueDictionary[tuple[str, str], Cache] = weakref.WeakValueDictionary()
_lock = threading.Lock()


def open_server(database: Any, settings: Settings) -> Opened:
    """Find the server; caches of one process with the same address share their connections."""
    embedded = None
    if database is None:
        from taskcache.embedded import acquire

        embedded = acquire()
        database = embedded.url
        # Functions and arguments travel by value to a worker of the same user: signed with this user's own secret.
        settings = replace(settings, secrets=settings.secrets or (embedded.secret,))
    if not isinstance(database, str):
        return Opened(Station(database, settings), _codec(settings, embedded), settings, embedded)
    with _lock:
        station = _shared.get((database, settings.lease_ms))
        if station is None:
            station = _shared[database, settings.lease_ms] = Station(database, settings)
    return Opened(station, _codec(settings, embedded), settings, embedded)


def _codec(settings: Settings, embedded: Any) -> Codec:
    if embedded is None:
        return Codec(settings)
    import cloudpickle

    return Codec(settings, pickler=cloudpickle.Pickler)


def remember(cache: Cache) -> None:
    """Keep a cache findable for what is unpickled here: one process, one cache for one name at one address."""
    _caches[address_of(cache.database) or "", cache.name] = cache


def known(address: str | None, name: str) -> Cache | None:
    """The cache of this process with that name at that address."""
    return _caches.get((address or "", name))


def address_of(database: Any) -> str | None:
    """The address a cache travels with: never a password; the other process has its own environment."""
    if database is None:
        return None
    if isinstance(database, str):
        return without_password(database) if "@" not in database else None
    return describe_client(database)


def describe(opened: Opened | None, database: Any) -> str:
    """The server's name for a repr."""
    if opened is not None:
        return opened.station.server.url
    if database is None:
        return "embedded"
    return without_password(database) if isinstance(database, str) else describe_client(database)
