"""This is where we find the Celery app that a call is sent with; never Celery's own fallback, which nobody configured."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import celery._state

from taskcache.errors import AmbiguousApp, NoCeleryApp

if TYPE_CHECKING:
    from taskcache.cache import Cache

_state: Any = celery._state  # its stubs know half of it
# Celery knows the running task by its thread; an `async def` body may be on another one, its context goes along.
_running: ContextVar[Any] = ContextVar("taskcache_running_app", default=None)


@contextmanager
def running(task: Any) -> Iterator[None]:
    """Make the app of a task that a worker runs known to whatever the task calls, in whichever thread."""
    entered = _running.set(None if task.request.is_eager else task.app)
    try:
        yield
    finally:
        _running.reset(entered)


def running_app() -> Any:
    """The app of the task that runs here, of any kind; None outside of a worker, and in eager mode."""
    task = _state.get_current_worker_task()
    if task is not None:
        return None if task.request.is_eager else task.app
    return _running.get()


def resolve(cache: Cache, name: str) -> Any:
    """
    The app for calls of the function `name`: the running task's, the cache's own, or the only one there is.

    None when nothing is configured and the cache stands on a private server, which has an app of its own.
    """
    app = running_app()
    # What runs in a local worker is sent as by the process that owns the worker, which has the same apps.
    if app is not None and not _is_private(app):
        return app
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


def finalized() -> list[Any]:
    """The apps whose tasks are known already: what is defined from now on has to be given to them."""
    return [app for app in _state._get_active_apps() if app.finalized]


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
