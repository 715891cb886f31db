"""This is where every hub of gevent has a station of its own: what one has opened, no other may use."""

from __future__ import annotations

import weakref
from typing import Any

from taskcache.drivers import hubs
from taskcache.drivers.station import Station
from taskcache.settings import Settings


def station_for(database: Any, settings: Settings) -> Station:
    """One process's side of one server; under gevent one for each hub behind it."""
    if not hubs.are_used():
        return Station(database, settings)
    made: Any = HubStation(Station(database, settings), settings)
    return made  # type: ignore[no-any-return]  # it answers as whichever station is right here


class HubStation:
    """Stands for the station of the hub that asks."""

    def __init__(self, main: Station, settings: Settings) -> None:
        self._main = main
        self._settings = settings
        self._others: weakref.WeakKeyDictionary[Any, Station] = weakref.WeakKeyDictionary()

    def _here(self) -> Station:
        import gevent

        hub = gevent.get_hub()
        if hub.main_hub:
            return self._main
        found = self._others.get(hub)
        if found is None:
            found = self._others[hub] = Station(self._main.server.copy_client(), self._settings)
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._here(), name)
