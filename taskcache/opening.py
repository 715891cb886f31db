"""This is where a cache finds its server: an argument, the environment, or a private one of this user."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from taskcache.codec.sealing import Codec
from taskcache.drivers import threads
from taskcache.drivers.clients import describe as describe_client
from taskcache.drivers.clients import without_password
from taskcache.drivers.hub_station import station_for
from taskcache.drivers.station import Station
from taskcache.errors import NoServer
from taskcache.settings import Settings, read_environment

if TYPE_CHECKING:
    from taskcache.cache import Cache


class Opened(Struct, frozen=True):
    """What a cache stands on once it has been used."""

    station: Station
    codec: Codec
    settings: Settings
    # The private server, when that is what it is.
    embedded: Any


_shared: weakref.WeakValueDictionary[tuple[str, int, str], Station] = weakref.WeakValueDictionary()
_caches: weakref.WeakValueDictionary[tuple[str, str], Cache] = weakref.WeakValueDictionary()
# Of one name at one address there may be several, of which the last is found.
_all: weakref.WeakSet[Cache] = weakref.WeakSet()
_lock = threading.Lock()
# A cache that arrives is the one that this process has by that name; in a local worker it is as its owner has made it.
owner_decides = False


def open_server(database: Any, settings: Settings) -> Opened:
    """Find the server; caches of one process with the same address share their connections."""
    embedded = None
    if database is None:
        from taskcache.embedded import acquire

        # First: no server is started for somebody who cannot use it.
        _cloudpickle()
        embedded = acquire()
        database = embedded.url
        # Functions and arguments travel by value to a worker of the same user: signed with this user's own secret.
        settings = replace(settings, secrets=settings.secrets or (embedded.secret,))
    if not isinstance(database, str):
        return Opened(station_for(database, settings), _codec(settings, embedded), settings, embedded)
    with _lock:
        # All that a station takes from its settings and a user may choose.
        place = (database, settings.lease_ms, settings.transport)
        station = _shared.get(place)
        if station is None:
            station = _shared[place] = station_for(database, settings)
    return Opened(station, _codec(settings, embedded), settings, embedded)


def _codec(settings: Settings, embedded: Any) -> Codec:
    if embedded is None:
        return Codec(settings)
    return Codec(settings, pickler=_cloudpickle().Pickler)


def _cloudpickle() -> Any:
    try:
        import cloudpickle
    except ImportError as error:
        raise NoServer(
            "a private server runs functions by value, which takes cloudpickle: pip install 'taskcache[embedded]', or "
            "name a server with TASKCACHE_URL=redis://host:6379/0"
        ) from error
    return cloudpickle


def remember(cache: Cache) -> None:
    """Keep a cache findable for what is unpickled here: one process, one cache for one name at one address."""
    _caches[address_of(cache.database) or "", cache.name] = cache
    # Its locks and counts, which its views share, are made anew in a forked child.
    _all.add(cache)


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()
    for cache in list(_all):
        cache.renew()


threads.after_fork(_after_fork)


def known(address: str | None, settings: Settings) -> Cache | None:
    """The cache of this process with that name at that address; where its owner decides, only one that is set up alike."""
    cache = _caches.get((address or "", settings.name))
    is_other = owner_decides and cache is not None and cache.settings.without_secrets() != settings
    return None if is_other else cache


def address_of(database: Any) -> str | None:
    """The address a cache travels with, without the password; None for the private server."""
    if database is None:
        return None
    return without_password(database) if isinstance(database, str) else describe_client(database)


def has_password(database: Any) -> bool:
    """True when the address alone does not let another process in."""
    if database is None or isinstance(database, str):
        return without_password(database or "") != (database or "")
    settings = getattr(getattr(database, "connection_pool", None), "connection_kwargs", {})
    return bool(settings.get("password") or settings.get("credential_provider"))


def arrived(address: str | None, is_guarded: bool) -> str | None:
    """The address for a cache that came from another process; its password is in our environment or nowhere."""
    if not is_guarded:
        return address
    own = read_environment().url
    if address_of(own) != address:
        raise NoServer(
            f"A cache at {address} came from another process, and passwords do not travel; set TASKCACHE_URL here to its "
            "address with the password, or import the module that makes the cache."
        )
    return own


def describe(opened: Opened | None, database: Any) -> str:
    """The server's name for a repr."""
    return opened.station.server.url if opened is not None else address_of(database) or "embedded"
