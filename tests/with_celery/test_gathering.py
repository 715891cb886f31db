"""This is where several results become one, and where they are taken as they come."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from types import ModuleType

import pytest

from taskcache import NotReady, Result, UsageError, as_completed, gather
from tests.nodes.workers import REPOSITORY

pytestmark = pytest.mark.usefixtures("shop", "worker")

LONG = 30


def test_gather_keeps_the_order(shop: ModuleType, held: Result[str], name: str) -> None:
    """One result of many gives the list of their values."""
    gathered = gather([held, shop.echo(1), shop.echo(2)])
    with pytest.raises(NotReady):
        gathered(timeout=0.05)
    shop.ledger.open(name)

    assert [f"{name} 1", 1, 2] == gathered(timeout=LONG)
    assert ([], "done") == (gather([])(), gathered.state)


def test_gather_raises_the_first_error_in_order(shop: ModuleType, name: str) -> None:
    """With several errors, it is the one of the first result."""
    gathered = gather([shop.echo(1), shop.raises(f"{name}-a"), shop.raises(f"{name}-b")])
    with pytest.raises(shop.OutOfStock, match=f"{name}-a"):
        gathered(timeout=LONG)


def test_gather_refuses_what_is_no_result() -> None:
    """Values instead of results are a mistake."""
    with pytest.raises(UsageError, match="not int"):
        gather([1])  # type: ignore[arg-type]  # the mistake


async def test_a_gathered_result_can_be_awaited(shop: ModuleType) -> None:
    """`await gather(...)` gives the list."""
    assert [0, 1, 2] == await gather([shop.echo(number) for number in range(3)])


def test_results_come_as_they_are_completed(shop: ModuleType, held: Result[str], name: str) -> None:
    """The quick ones come first, whatever their place."""
    quick = shop.echo("quick", name)
    seen = []
    for result in as_completed([held, quick], timeout=LONG):
        seen.append(result)
        shop.ledger.open(name)

    assert [quick, held] == seen
    assert 2 == len(as_completed(seen))


async def test_results_come_as_they_are_completed_to_coroutines(shop: ModuleType, held: Result[str], name: str) -> None:
    """`async for` does the same."""
    quick = shop.echo("quick", name)
    seen = []
    async for result in as_completed([held, quick], timeout=LONG):
        seen.append(result)
        shop.ledger.open(name)

    assert [quick, held] == seen


async def test_what_is_there_is_given_without_time(shop: ModuleType, name: str) -> None:
    """A timeout of 0 waits for nothing, and still gives what has arrived."""
    results = [shop.echo(number, name) for number in range(3)]
    assert [0, 1, 2] == [result(timeout=LONG) for result in results]

    assert (
        results
        == [result async for result in as_completed(results, timeout=0)]
        == list(as_completed(results, timeout=0))
    )


async def test_completion_has_a_timeout(held: Result[str]) -> None:
    """When nothing comes in time, NotReady says how many are missing."""
    with pytest.raises(NotReady, match="1 of 1"):
        list(as_completed([held], timeout=0.05))
    with pytest.raises(NotReady, match="1 of 1"):
        _ = [result async for result in as_completed([held], timeout=0.05)]


# Python's own words about the loop without manners, in some of its versions.
@pytest.mark.filterwarnings("ignore:coroutine method 'aclose'", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_loop_that_is_left_early_hears_no_more(
    shop: ModuleType, held: Result[str], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What arrives afterwards is of no use to an event loop that is closed, and is logged by nobody."""
    quick = shop.echo("quick", name)

    async def first() -> Result[str]:
        async for result in as_completed([held, quick], timeout=LONG):
            return result
        raise AssertionError("nothing arrived")

    def first_of_a_loop_without_manners() -> Result[str]:
        loop = asyncio.new_event_loop()
        try:
            return loop.run_until_complete(first())
        finally:
            loop.close()  # and leaves the generator where it was

    assert quick is asyncio.run(first())
    assert quick is first_of_a_loop_without_manners()
    assert quick is next(iter(as_completed([held, quick], timeout=LONG)))
    told = threading.Event()
    held.add_done_callback(lambda _: told.set())
    shop.ledger.open(name)

    assert told.wait(LONG)
    assert [] == [record for record in caplog.records if record.name == "taskcache"]


def test_results_of_a_greenlet_reach_who_waits_in_another_thread(shop: ModuleType, name: str) -> None:
    """Under gevent each thread has greenlets of its own; whichever way one waits there, the end of a call wakes it."""
    command = [sys.executable, "-m", "tests.with_celery.gevent_program", name]
    gates = [f"{name}-one", f"{name}-2", f"{name}-1", f"{name}-0"]
    with subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        try:
            for gate in (*gates, name):
                shop.ledger.wait_runs(gate)
            for gate in (*gates, f"{name}:1", f"{name}:2", f"{name}:3"):
                shop.ledger.open(gate)
            said, complained = program.communicate(timeout=4 * LONG)
        finally:
            program.kill()
    assert "" == complained
    told = json.loads(said)

    several = [f"{name}-{number} 1" for number in range(3)]
    assert (f"{name}-one 1", several, several) == (told["one"], told["gathered"], sorted(told["completed"]))
    assert [name] == told["endless"]
    assert {*told["steps"]} <= {1, 2, 3}
