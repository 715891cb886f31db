"""This is where calls go when nothing is configured: to one local worker of this process, functions by value."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from celery import Celery

from taskcache.errors import ComputationLost, UsageError
from taskcache.launchers import serializer
from taskcache.launchers.celery import CeleryLauncher
from taskcache.launchers.serializer import SealedArguments

if TYPE_CHECKING:
    from taskcache.cache import Cache
    from taskcache.calls.calling import Arguments
    from taskcache.calls.invocation import Invocation
    from taskcache.decorators import AsyncFunction

# The task that runs any function: it arrives in the message, signed with this user's secret.
RUN: Final = "taskcache.local.run"
WORKER: Final = "taskcache.worker.local"

_apps: dict[tuple[int, str], Any] = {}
_lock = threading.Lock()


# The app of this process when it is a local worker itself: what its tasks call goes to its own queue.
_served: Any = None


def app_of(cache: Cache) -> Any:
    """The Celery app of this process for its private server, with a queue of its own."""
    if _served is not None:
        return _served
    url = cache.embedded.broker_url
    with _lock:
        app = _apps.get((os.getpid(), url))
        if app is None:
            app = _apps[os.getpid(), url] = make_app(url, f"taskcache-local-{os.getpid()}")
            # The first cache's: a worker that is started anew for every other secret would end what it is computing.
            app.taskcache_secrets = cache.settings.secrets
    return app


def serve(app: Any) -> Any:
    """Say that this process is the local worker of `app`."""
    global _served
    _served = app
    return app


def make_app(url: str, queue: str) -> Any:
    """The app that both ends use: the process that sends, and its worker."""
    app: Any = Celery("taskcache-local", broker=url, backend=url, set_as_current=False, fixups=[])
    app.is_taskcache_local = True
    app.conf.update(
        # These two, since CELERY_BROKER_URL and BROKER_URL, meant for another app, win over `broker=`.
        broker_read_url=url,
        broker_write_url=url,
        task_default_queue=queue,
        accept_content=["json", serializer.NAME],
        # The queue's only worker dies with its process; what is left is nobody's.
        task_default_expires=3600,
        worker_prefetch_multiplier=1,
        broker_connection_retry_on_startup=True,
        result_expires=600,
        worker_hijack_root_logger=False,
        worker_log_format="%(message)s",
    )
    return app


class LocalLauncher(CeleryLauncher):
    """Sends a call with its function to the local worker, which is started by the first one."""

    def __init__(
        self,
        function: AsyncFunction[Any, Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        invocation: Invocation,
        above: frozenset[str],
    ) -> None:
        app = app_of(function.cache)
        task = app.tasks.get(RUN)
        if task is None:
            task = app.task(name=RUN, serializer=serializer.NAME, typing=False, shared=False)(_never_here)
        sealed = SealedArguments(function.cache.codec.seal_message([function, list(args), kwargs]))
        super().__init__(task, function, (args, kwargs), sealed, invocation, above)
        self._app = app

    def launch(self, token: str) -> None:
        ensure_worker(self._app)
        super().launch(token)

    def launch_together(self, calls: Sequence[tuple[CeleryLauncher, str]]) -> None:
        ensure_worker(self._app)
        super().launch_together(calls)

    def arguments(self) -> Arguments:
        body: Any = self._function.cache.codec.open_message(self._sealed)
        return tuple(body[1]), body[2]

    def _header(self) -> dict[str, Any]:
        settings, options = self._function.cache.settings, self._function.options
        return {**super()._header(), "cache": settings.name, "lease": settings.lease_ms, "batch": options.batch}

    def _per_call(self) -> dict[str, Any]:
        limits = ("time_limit", "soft_time_limit", "priority", "expires")
        given = self._function.options.celery
        return {"shadow": self._function.name, **{name: given[name] for name in limits if name in given}}

    def inquire(self, token: str) -> BaseException | None:
        """Look after the worker too: one that has died is started again, and one that cannot live ends the wait."""
        # A forked child looks after its own worker: it has one, and that serves the child's queue.
        if self._message is not None and self._app is app_of(self._function.cache):
            status = ensure_worker(self._app)
            # One that somebody killed is started again by a later look; one that ends by itself would do so again.
            if status is not None and status > 0:
                return ComputationLost(f"The local worker ended with status {status}; its output says why. Call again.")
        return super().inquire(token)

    def _warn_unserved(self) -> None:
        """The worker is ours and starts by itself."""


def ensure_worker(app: Any) -> int | None:
    """Start the worker of this process, unless it runs or we are it; its exit status when it cannot live."""
    if app is _served:
        return None
    from taskcache.embedded.worker import ensure_worker as start

    queue = app.conf.task_default_queue
    environment: dict[str, str | None] = {"TASKCACHE_LOCAL_BROKER": app.conf.broker_write_url, **_ours()}
    environment["TASKCACHE_LOCAL_QUEUE"] = queue
    if app.taskcache_secrets:
        environment["TASKCACHE_SECRET"] = _as_text(app.taskcache_secrets)
    return start(["-A", WORKER, "worker", "-Q", queue], environment=environment).exit_status


def _ours() -> dict[str, str | None]:
    """
    What has a worker join the private server that its owner stands on, as a user of its own, so that it pickles as we do.

    No address (None takes a variable away), also when one was set since; the directory where we have found the server; and
    none of Celery's own variables, which are meant for another app: they win over what ours says and over its command
    line, and one of them has a worker start itself again and again.
    """
    from taskcache.embedded.state import runtime_directory

    found = runtime_directory()
    is_of_session = found.name == "taskcache"
    place = {"XDG_RUNTIME_DIR" if is_of_session else "TMPDIR": str(found.parent)}
    others = [name for name in os.environ if name.startswith("CELERY_")]
    unset = ["TASKCACHE_URL", "REDIS_URL", *others, *([] if is_of_session else ["XDG_RUNTIME_DIR"])]
    return dict.fromkeys(unset) | place


def _as_text(secrets: Sequence[bytes]) -> str:
    """Secrets as an environment takes them, which holds text without zeros, parted by commas."""
    try:
        text = b",".join(secrets).decode()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text or any(b"," in secret or secret != secret.strip() for secret in secrets):
        raise UsageError(
            "The local worker gets its secret as text, and this one is none: write it as text, as in "
            "Cache(secret=secret.hex()), or start workers of your own with Cache(app=app)."
        )
    return text


def _never_here(*args: Any) -> None:
    raise RuntimeError(f"{RUN} runs in the local worker only")
