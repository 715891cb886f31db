"""This is where several results become one: gather keeps their order, as_completed takes them as they come."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import suppress
from typing import Any, Generic, TypeVar

from taskcache.calls.following import CLAIM_EVERY_S
from taskcache.drivers.pending import Pending
from taskcache.drivers.threads import Mailbox
from taskcache.errors import NoServer, NotReady, UsageError
from taskcache.protocol.flight import Landing
from taskcache.result import Result, claim_one, hearing, in_order_of_arrival, soonest, wait_seconds
from taskcache.settings import Duration

R = TypeVar("R")


class Gathered(Pending):
    """The values of several calls, in their order; the first error in that order is its error."""

    def __init__(self, results: list[Result[Any]]) -> None:
        super().__init__(None, None, None)  # type: ignore[arg-type]  # its parts are carried on, not itself
        self._results = results
        waited = [result for result in results if not result.ready()]
        self._left = len(waited)
        self._count = threading.Lock()
        if not waited:
            self._finish()
        for result in waited:
            result.add_done_callback(self._arrive)

    def _arrive(self, result: Result[Any]) -> None:
        with self._count:
            self._left -= 1
            if self._left:
                return
        self._finish()

    def after_fork(self) -> None:
        self._count = threading.Lock()
        super().after_fork()

    def _finish(self) -> None:
        for each in self._results:
            error = each.exception
            if error is not None:
                self.settle(Landing.failed(error, each.source))
                return
        self.settle(Landing([each() for each in self._results], None, 0))


def gather(results: Iterable[Result[R]]) -> Result[list[R]]:
    """One result of many: call or await it for the list of values, in the order of `results`."""
    checked = _checked(results)
    return Result(None, None, Gathered(checked), parts=checked)


def as_completed(results: Iterable[Result[R]], timeout: Duration | None = None) -> AsCompleted[R]:
    """Iterate over results as they arrive, with `for` or `async for`; raises NotReady `timeout` seconds after it began."""
    return AsCompleted(_checked(results), wait_seconds(True, timeout))


class AsCompleted(Generic[R]):
    """Results in the order of their arrival."""

    def __init__(self, results: list[Result[R]], seconds: float | None) -> None:
        self._results = results
        self._seconds = seconds

    def __len__(self) -> int:
        return len(self._results)

    def __iter__(self) -> Iterator[Result[R]]:
        arrived: Mailbox[Result[R]] = Mailbox()
        deadline = None if self._seconds is None else time.monotonic() + self._seconds
        with hearing(self._results, arrived.put):
            done, pause = 0, soonest(self._results)
            while done < len(self._results):
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                claims = pause is not None and (left is None or pause < left)
                try:
                    yield arrived.get(timeout=pause if claims else left)
                    done += 1
                except queue.Empty:
                    if not claims:
                        raise NotReady(
                            f"{len(self._results) - done} of {len(self._results)} results are not there yet."
                        ) from None
                    pause = CLAIM_EVERY_S
                    with suppress(NoServer):
                        if claim_one(self._results):
                            pause = 0.0

    def __aiter__(self) -> AsyncIterator[Result[R]]:
        return in_order_of_arrival(self._results, self._seconds)


def _checked(results: Iterable[Result[R]]) -> list[Result[R]]:
    checked = list(results)
    for result in checked:
        if not isinstance(result, Result):
            raise UsageError(f"results are what cache_async functions return, not {type(result).__name__}")
    return checked
