"""This is where we find the queue that Celery will route a call to: what is said of it, and looked up, is that queue."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

# Routers are slow to ask, and every call asks. What they answer for other arguments of the same task is not known.
_known: weakref.WeakKeyDictionary[Any, dict[tuple[Any, ...], str]] = weakref.WeakKeyDictionary()


def queue_of(app: Any, task_name: str, options: Mapping[str, Any]) -> str:
    """The name of the queue for calls of a task that are sent with these options."""
    known = _known.get(app)
    if known is None:
        known = _known.setdefault(app, {})
    question = (task_name, options.get("queue"), options.get("exchange"), options.get("routing_key"))
    found = known.get(question)
    if found is None:
        found = known[question] = _routed(app, task_name, options)
    return found


def _routed(app: Any, task_name: str, options: Mapping[str, Any]) -> str:
    asked = {name: options[name] for name in ("queue", "exchange", "routing_key") if options.get(name)}
    try:
        route = app.amqp.router.route(asked, task_name)
        queue = _bound(app, route) or route.get("queue")
    except Exception:  # noqa: BLE001 - a router may raise anything, and does so again when the call is sent
        queue = None
    return str(getattr(queue, "name", queue) or app.conf.task_default_queue)


def _bound(app: Any, route: Mapping[str, Any]) -> Any:
    """The queue that an exchange and a routing key lead to, when a route names both; then its queue says nothing."""
    exchange, key = route.get("exchange"), route.get("routing_key")
    if not exchange or not key:
        return None
    name = getattr(exchange, "name", exchange)
    return next(
        (each for each in app.amqp.queues.values() if each.exchange.name == name and each.routing_key == key), None
    )
