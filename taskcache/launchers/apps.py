"""This is where we find the Celery app that a call is sent with; never Celery's own fallback, which nobody configured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import celery._state

from taskcache.errors import AmbiguousApp, NoCeleryApp

if TYPE_CHECKING:
    from taskcache.cache import Cache

_state: Any = celery._state  # its stubs know half of it


def resolve(cache: Cache, name: str) -> Any:
    """
    The app for calls of the function `name`: the running task's, the cache's own, or the only one there is.

    None when nothing is configured and the cache stands on a private server, which has an app of its own.
    """
    task = _state.get_current_worker_task()
    if task is not None and not task.request.is_eager:
        return task.app
    if cache.app is not None:
        return _find(cache)
    apps = [app for app in _state._get_active_apps() if not _is_fallback(app) and not _is_private(app)]
    if len(apps) == 1:
        return apps[0]
    if apps:
        raise AmbiguousApp(
            f"{name} could be sent with any of {len(apps)} Celery apps ({', '.join(repr(app.main) for app in apps)}); "
            "say which one with Cache(app=app)."
        )
    if cache.embedded is not None:
        return None
    raise NoCeleryApp(f"{name}: no Celery app is known; pass Cache(app=app) or Cache(app='proj.celery:app').")


def configured(cache: Cache) -> Any:
    """The app object that the cache was given, when it is one already; a name is resolved at the first call."""
    return None if cache.app is None or isinstance(cache.app, str) else cache.app


def _find(cache: Cache) -> Any:
    if isinstance(cache.app, str):
        from celery.app.utils import find_app

        try:
            cache.app = find_app(cache.app)
        except (ImportError, AttributeError) as error:
            raise NoCeleryApp(
                f"Cache(app={cache.app!r}) does not lead to a Celery app ({error}); write it as for `celery -A`."
            ) from error
    return cache.app


def _is_fallback(app: Any) -> bool:
    return app is _state.default_app or (app.main == "default" and app.loader is None)


def _is_private(app: Any) -> bool:
    return getattr(app, "is_taskcache_local", False) is True
