"""This is where a client process asks: calls in threads of their own, whose answers and times are kept."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
import time
from typing import Any

from celery import chord

from taskcache.errors import TaskCacheError
from taskcache.events import Event, listen, logger
from taskcache.launchers.producers import producer_of
from tests.faults import app
from tests.nodes.waiting import wait_until

# What happened in this process, by kind.
events: dict[str, int] = {}
_asked: list[Asked] = []
_from_child = -1
_loop: asyncio.AbstractEventLoop | None = None


class Asked:
    """One call, asked for in a thread of its own."""

    def __init__(self, function: str, name: str, timeout: float) -> None:
        self.task_id: str | None = None
        self.result: Any = None
        self.cancel: Any = None
        self.begun = threading.Event()
        self.answer: tuple[str, str, float] | None = None
        self.thread = threading.Thread(target=self._ask, args=(function, name, timeout), daemon=True)
        self.thread.start()

    def _ask(self, function: str, name: str, timeout: float) -> None:
        try:
            value = self._value(function, name, timeout)
            told = value[:100].decode(errors="replace") if isinstance(value, bytes) else str(value)
            self.answer = ("value", told[:100], time.monotonic())
        except BaseException as error:
            self.answer = (type(error).__name__, str(error), time.monotonic())
        finally:
            self.begun.set()

    def _value(self, function: str, name: str, timeout: float) -> Any:
        kind, _, plain = function.partition(".")
        if kind == "plain":
            self.result = app.app.tasks[function].delay(name)
            self.task_id = self.result.id
            self.begun.set()
            return self.result.get(timeout=timeout)
        if kind == "loop":
            return self._on_loop(self._computed(plain, name))
        if function == "chord":
            parts = [app.part.s(name, number) for number in (1, 2, 3)]
            return chord(parts)(app.total.s(name)).get(timeout=timeout)
        if kind == "aio":
            return self._on_loop(self._awaited(plain, name, timeout))
        called = getattr(app, function)
        if function == "here":
            return called(name)
        self.result = called(name)
        self.task_id = self.result.task_id
        self.begun.set()
        return self.result(timeout=timeout)

    async def _computed(self, function: str, name: str) -> Any:
        return await getattr(app, function).aio(name)

    async def _awaited(self, function: str, name: str, timeout: float) -> Any:
        self.result = await getattr(app, function).aio(name)
        self.task_id = self.result.task_id
        self.begun.set()
        return await self.result.wait(timeout=timeout)

    def _on_loop(self, coroutine: Any) -> Any:
        """Run on the one loop of this process, which outlives what is cancelled on it."""
        global _loop
        if _loop is None:
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, daemon=True).start()
        future = asyncio.run_coroutine_threadsafe(coroutine, _loop)
        self.cancel = future.cancel
        return future.result()


def warm() -> None:
    """Import and connect what a first call would: a fault is measured, not a start."""
    app.app.finalize()
    app.cache.get("warm")
    app.app.backend.client.ping()
    for borrowed in (producer_of(app.app), app.app.producer_or_acquire()):
        with borrowed as producer:
            assert producer.connection.default_channel


def ask(function: str, name: str, timeout: float = 60) -> int:
    """Call `function(name)` in a thread; `plain.f` is the Celery task of f, `aio.f` awaits f on a loop of its own."""
    _asked.append(Asked(function, name, timeout))
    return len(_asked) - 1


def begun(ticket: int) -> str | None:
    """Wait until the call has given its Result, or its error; gives the task's id."""
    _asked[ticket].begun.wait(60)
    return _asked[ticket].task_id


def answer(ticket: int, timeout: float = 90) -> tuple[str, str, float] | None:
    """What the call gave: "value" or the error's name, what it said, and when (monotonic, the same in all processes)."""
    _asked[ticket].thread.join(timeout)
    return _asked[ticket].answer


def told_by_celery(task_id: str) -> tuple[str, str]:
    """The state of a task as Celery has it, and its result."""
    result = app.app.AsyncResult(task_id)
    return str(result.state), str(result.result)


def reaches_cache() -> bool:
    """True when a value can be stored and read: the server is well, and is not left alone any more."""
    try:
        app.cache.set("reached", 1, timeout=9)
        return bool(app.cache.get("reached") == 1)
    except TaskCacheError:
        return False


def is_answered(ticket: int) -> bool:
    """True when the answer is there."""
    return _asked[ticket].answer is not None


def cancel(ticket: int) -> None:
    """Cancel the asyncio task of a call, as soon as there is one."""
    wait_until(lambda: _asked[ticket].cancel is not None, "the task")
    _asked[ticket].cancel()


def wait_in_main(function: str, name: str) -> str:
    """Call and wait in this process's main thread, where Ctrl-C arrives; gives what it ended with."""
    try:
        called = getattr(app, function)(name)
        return "value" if function == "here" else f"value {called(timeout=60)}"
    except KeyboardInterrupt:
        return "KeyboardInterrupt"


def lose_wake_ups() -> None:
    """Lose every message that the inbox receives from now on, on a connection that stays whole."""
    from taskcache.drivers.inbox import Inbox

    Inbox._deliver = lambda *_: None  # type: ignore[method-assign]


def die_before_dispatch(function: str, name: str) -> None:
    """Call, and die by SIGKILL where the message would be sent."""
    from taskcache.launchers.celery import CeleryLauncher

    CeleryLauncher.launch = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign]
    getattr(app, function)(name)


def fork_and_wait(ticket: int) -> int:
    """Fork this process; the child waits for the result of a call and says through a pipe what it got."""
    global _from_child
    result = _asked[ticket].result
    _from_child, to_parent = os.pipe()
    child = os.fork()
    if not child:
        try:
            told = f"value {result(timeout=30)}"
        except BaseException as error:
            told = f"{type(error).__name__} {error}"
        os.write(to_parent, told.encode())
        os._exit(0)
    os.close(to_parent)
    return child


def told_by_child() -> str:
    """Wait for what the forked child got."""
    with os.fdopen(_from_child) as child:
        told = child.read()
    os.wait()
    return told


def send_again(ticket: int) -> None:
    """Send the message of a call once more, as a broker that repeats itself does."""
    pending = _asked[ticket].result._pending
    pending.launcher.launch(pending.token)


class _Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


_kept = _Kept()


def warnings() -> list[str]:
    """What taskcache has logged in this process."""
    return _kept.lines


def _count(event: Event) -> None:
    events[event.kind] = events.get(event.kind, 0) + 1


listen(_count)
logger.addHandler(_kept)
