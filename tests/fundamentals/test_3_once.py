"""This is where many ask at the same moment, and one computes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from taskcache import Cache
from tests.nodes.waiting import wait_until


def test_a_herd_computes_once(cache: Cache) -> None:
    """Fifty threads miss together: one runs the function, all get its value."""
    barrier = Barrier(50)
    runs = []

    @cache.cached()
    def slow() -> int:
        runs.append("run")
        return len(runs)

    def call() -> int:
        barrier.wait()
        return slow()

    with ThreadPoolExecutor(50) as pool:
        values = [each.result() for each in [pool.submit(call) for _ in range(50)]]

    assert [1] * 50 == values


def test_an_error_reaches_everybody_who_waits(cache: Cache) -> None:
    """Its type and its message."""

    @cache.cached()
    def slow() -> int:
        wait_until(lambda: cache.stats()["waits"], "a second caller")
        raise LookupError("nothing there")

    with ThreadPoolExecutor(2) as pool:
        for call in [pool.submit(slow) for _ in range(2)]:
            with pytest.raises(LookupError, match="nothing there"):
                call.result()


def test_an_invalidation_beats_a_computation_under_way(cache: Cache) -> None:
    """The value was read before the bust: whoever waited gets it, nobody afterwards does."""
    price = 10

    @cache.cached()
    def get_price() -> int:
        nonlocal price
        read = price
        if read == 10:
            # In the middle of the computation somebody changes the price, and says so.
            price = 12
            get_price.bust()
        return read

    assert 10 == get_price()
    assert 12 == get_price()


def test_look_without_computing(cache: Cache) -> None:
    """`peek` gives the entry or None; `join` what is being computed or None."""

    @cache.cached()
    def slow() -> int:
        return 1

    assert (None, None) == (slow.peek(), slow.join())
    slow()
    entry = slow.peek()
    assert entry is not None
    assert 1 == entry.value


def test_a_function_may_call_itself(cache: Cache) -> None:
    """Nobody waits for himself."""

    @cache.cached()
    def factorial(n: int) -> int:
        return n * factorial(n - 1) if n else 1

    assert 120 == factorial(5)


def test_without_a_server_calls_still_work() -> None:
    """The cache must not break what it is there to help: the function is computed."""
    away = Cache("redis://127.0.0.1:1/0")

    @away.cached()
    def double(number: int) -> int:
        return number * 2

    assert 8 == double(4)
