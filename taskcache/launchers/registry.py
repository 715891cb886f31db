"""This is where a `cache_async` function becomes a Celery task, and where its calls get what sends them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery import shared_task
from celery._state import connect_on_app_finalize

from taskcache.errors import NoCeleryApp, UsageError
from taskcache.launchers import apps, local, serializer
from taskcache.launchers.celery import CeleryLauncher
from taskcache.launchers.task import ROUTING, FlightTask, seal_call, task_body

if TYPE_CHECKING:
    from taskcache.calls.invocation import Invocation
    from taskcache.decorators import AsyncFunction
    from taskcache.launcher import Launcher

connect_on_app_finalize(serializer.accept)

# Functions that no module holds, the newest of each name: at a prompt and in a notebook they are defined again and again,
# and of two tasks with one name Celery would keep the older. By the app that their cache was given, too; 0: none.
_newest: dict[tuple[int, str], AsyncFunction[Any, Any]] = {}


def register(function: AsyncFunction[Any, Any]) -> None:
    """
    Make a task of a function, under its own name: on the app of its cache, else on every app, as `shared_task` does.

    A worker has the task as soon as it has imported the module: by autodiscover, `include`, or anything else.
    """
    if function.origin.by_value and function.options.name is None and function.origin.fn.__module__ != "__main__":
        # Defined inside another function: no worker can ever import it, so it is no task to register.
        return
    app = apps.configured(function.cache)
    if function.origin.by_value:
        _newest[0 if app is None else id(app), function.name] = function
        for known in apps.finalized():
            if app in (None, known):
                _register_anew(known, function)
        return
    if app is None:
        share: Any = shared_task  # its stubs leave it untyped
        share(name=function.name, base=FlightTask, **task_options(function))(task_body(function))
        return
    # Not shared: Celery would put it on every app of the process, and this cache has said which one is meant.
    app.task(name=function.name, base=FlightTask, shared=False, **task_options(function))(task_body(function))
    serializer.accept(app)


def _register_newest(app: Any) -> None:
    for function in list(_newest.values()):
        if apps.configured(function.cache) in (None, app):
            _register_anew(app, function)


connect_on_app_finalize(_register_newest)


def _register_anew(app: Any, function: AsyncFunction[Any, Any]) -> None:
    app._tasks.pop(function.name, None)
    app.task(name=function.name, base=FlightTask, shared=False, lazy=False, **task_options(function))(
        task_body(function)
    )
    serializer.accept(app)


def task_options(function: AsyncFunction[Any, Any]) -> dict[str, Any]:
    """Celery's own options of the task."""
    # In a tuple: a decorated function is a descriptor, and as an attribute of the task it would become its method.
    own = {name: value for name, value in function.options.celery.items() if name not in ROUTING}
    return {"functions": (function,), "serializer": serializer.NAME, "typing": False, **own}


def task(function: AsyncFunction[Any, Any]) -> Any:
    """The Celery task of the app that calls of this function are sent with."""
    app = apps.resolve(function.cache, function.name)
    if app is None:
        raise NoCeleryApp(
            f"{function.name}: `.task`, `.delay()` and canvas name a task that workers have to know, and the local worker "
            "knows none by name; call the function instead, or pass Cache(app=app) and start a worker."
        )
    return task_of(app, function)


def task_of(app: Any, function: AsyncFunction[Any, Any]) -> Any:
    """The task on one app, registered there if it is not yet."""
    found = app.tasks.get(function.name)
    if found is None:
        found = app.task(name=function.name, base=FlightTask, shared=False, **task_options(function))(
            task_body(function)
        )
        serializer.accept(app)
        return found
    # Of two tasks with one name Celery keeps the first.
    if not isinstance(found, FlightTask) or found.function.cache.name != function.cache.name:
        raise UsageError(
            f"{function.name} is the name of another task of the app {app.main!r}, of another cache or of none; give one "
            "of the two a `name=` of its own."
        )
    return found


def launcher(
    function: AsyncFunction[Any, Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    invocation: Invocation,
    above: frozenset[str],
) -> Launcher:
    """What sends this call, with its arguments written down."""
    app = apps.resolve(function.cache, function.name)
    if app is None:
        return local.LocalLauncher(function, args, kwargs, invocation, above)
    sealed = seal_call(function, args, kwargs)
    return CeleryLauncher(task_of(app, function), function, (args, kwargs), sealed, invocation, above)
