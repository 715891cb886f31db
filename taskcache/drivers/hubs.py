"""This is where we tell the hubs of gevent apart: a socket, a lock and an event loop belong to one real thread."""

from __future__ import annotations

import contextvars
import sys
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

# Which hub runs the greenlets of the program, for each hub that was made beside it.
_mains: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


def are_used() -> bool:
    """True where gevent has patched threads."""
    monkey: Any = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


def is_apart() -> bool:
    """True on a real thread beside the one whose hub runs the program: nothing made over there may be used here."""
    if not are_used():
        return False
    import gevent

    return not gevent.get_hub().main_hub


def run_apart(function: Callable[[], T]) -> T:
    """Run something on a real thread with a hub that ends with it; other greenlets go on meanwhile."""
    import gevent

    hub = gevent.get_hub()
    main = _mains.get(hub, hub)
    value: T = _unwrapped(hub.threadpool.apply(contextvars.copy_context().run, (_with_own_hub, main, function)))
    return value


def _with_own_hub(main: Any, function: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    import gevent

    hub = gevent.get_hub()
    _mains[hub] = main
    try:
        return _wrapped(function)
    finally:
        # With it go the greenlets and connections that the function's calls have started here.
        hub.destroy(destroy_loop=True)


def run_in_main(function: Callable[[], T]) -> T:
    """Run something in a greenlet of the program's own hub, where the clients are that the user's functions know."""
    if not are_used():
        return function()
    import gevent

    hub = gevent.get_hub()
    main = _mains.get(hub)
    if main is None:
        return function()
    context = contextvars.copy_context()
    ended: list[tuple[Any, BaseException | None]] = []

    def work() -> None:
        ended.append(context.run(_wrapped, function))
        done.send()

    waiter, done = gevent.hub.Waiter(hub), hub.loop.async_()
    done.start(waiter.switch, None)
    try:
        main.loop.run_callback_threadsafe(gevent.spawn, work)
        waiter.get()
    finally:
        done.stop()
        done.close()
    value: T = _unwrapped(ended[0])
    return value


def _wrapped(function: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    """What a function gives, or its error as a value: gevent prints what is raised on its threads."""
    try:
        return function(), None
    except BaseException as error:  # noqa: BLE001 - raised again on the thread that waits
        return None, error


def _unwrapped(ended: tuple[Any, BaseException | None]) -> Any:
    value, error = ended
    if error is not None:
        raise error
    return value
