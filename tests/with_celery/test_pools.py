"""This is where each of Celery's pools does everything that a cached function may ask of a worker."""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Iterator
from types import ModuleType

import pytest

from taskcache import ComputationLost, Result
from taskcache.calls.current import Progress
from tests.nodes.prompt import Prompt
from tests.nodes.waiting import wait_until
from tests.nodes.workers import Pool, WorkerNode
from tests.with_celery.apps import SHOP

pytestmark = pytest.mark.usefixtures("shop", "served")

LONG = 30


class Served:
    """One pool with a single slot, which nested calls have to share."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.queue = f"pool-{pool}"
        # With gevent, a worker that has taken all it may looks for more only every two seconds: it gets more slots.
        slots = 10 if pool == "gevent" else 1
        self.node = WorkerNode(SHOP, pool=pool, concurrency=slots, env={"SHOP_QUEUE": self.queue})

    def call(self, function: object, *args: object) -> Result[object]:
        """Call a function of the shop on this pool."""
        routed: Result[object] = function.with_options(queue=self.queue)(*args)  # type: ignore[attr-defined]  # any of them
        return routed


@pytest.fixture(scope="module", params=["prefork", "threads", "gevent", "solo"])
def served(request: pytest.FixtureRequest, _shop: ModuleType) -> Iterator[Served]:
    """A worker of each pool in turn."""
    served = Served(request.param)
    with served.node:
        yield served


@pytest.fixture
def mishaps(shop: ModuleType) -> ModuleType:
    """The functions of `shop` whose calls end in unusual ways."""
    return importlib.import_module("tests.with_celery.apps.mishaps")


def test_a_value_comes_back_and_is_a_hit_afterwards(shop: ModuleType, served: Served, name: str) -> None:
    """The body runs once, in the worker; the second call is answered from the cache."""
    value = {"when": (1, 2.5, None), b"bytes": {"set", "of"}}
    first = served.call(shop.echo, value, name)

    assert value == first(timeout=LONG)
    again = served.call(shop.echo, value, name)
    assert (value, "hit") == (again(block=False), again.source)
    assert 1 == shop.ledger.runs(name)


def test_an_error_arrives_as_it_was_raised(shop: ModuleType, served: Served, name: str) -> None:
    """Type, message, attributes and the worker's own traceback reach the caller."""
    with pytest.raises(shop.OutOfStock, match=f"{name}: 3 left") as caught:
        served.call(shop.raises, name)(timeout=LONG)

    assert (name, 3) == (caught.value.article, caught.value.left)
    assert "raise OutOfStock(name, 3)" in "".join(traceback.format_exception(caught.value))
    assert 1 == shop.ledger.runs(name)


def test_an_async_body_runs_to_its_end(shop: ModuleType, served: Served, name: str) -> None:
    """`async def` bodies give their value and their error like others."""
    assert 42 == served.call(shop.late, 41)(timeout=LONG)
    with pytest.raises(shop.OutOfStock, match="4 left"):
        served.call(shop.late_error, name)(timeout=LONG)


def test_a_nested_call_does_not_need_a_second_slot(shop: ModuleType, served: Served, name: str) -> None:
    """A call inside a call is computed in place when the only slot is its caller's: two deep, and two at a time."""
    expected = [f"branch leaf {name}", f"branch leaf {name}!"]

    assert expected == served.call(shop.tree, name)(timeout=LONG)
    assert f"leaf {name}" == served.call(shop.leaf, name)(block=False)
    assert 1 == shop.ledger.runs(f"leaf:{name}")


def test_functions_may_call_each_other(shop: ModuleType, served: Served, name: str) -> None:
    """Mutual recursion ends, each call under a key of its own."""
    assert ["ping", "pong", "ping", "pong"] == served.call(shop.ping, name, 3)(timeout=LONG)


def test_a_call_of_the_same_key_inside_itself_computes(shop: ModuleType, served: Served, name: str) -> None:
    """A function that asks for the very value it computes does not wait for itself; what is stored is the outer value."""
    assert "outer inner" == served.call(shop.itself, name)(timeout=LONG)
    assert "outer inner" == shop.itself.peek(name).value
    assert 2 == shop.ledger.runs(name)


def test_an_async_body_may_await_calls(shop: ModuleType, served: Served, name: str) -> None:
    """Awaiting calls inside an `async def` body does not need another slot either."""
    assert [f"leaf {name}", f"leaf {name}!"] == served.call(shop.late_tree, name)(timeout=LONG)


def test_waiting_calls_do_not_starve_what_they_wait_for(shop: ModuleType, served: Served, name: str) -> None:
    """Many nested calls that all need the same inner value are answered by one slot."""
    results = [served.call(shop.branch, name)] + [served.call(shop.tree, f"{name}-{turn}") for turn in range(4)]

    assert f"branch leaf {name}" == results[0](timeout=LONG)
    for turn, result in enumerate(results[1:]):
        assert f"branch leaf {name}-{turn}" == result(timeout=LONG)[0]  # type: ignore[index]  # a list of the tree


def test_one_slot_computes_all_that_its_task_waits_for(shop: ModuleType, served: Served, name: str) -> None:
    """gather and as_completed inside a call compute in the caller's own slot what nobody else has begun."""
    leaves = [f"leaf {name}:{number}" for number in range(6)]

    assert [leaves[:3], leaves[3:]] == served.call(shop.several, name)(timeout=LONG)
    late = [f"leaf {name}-late:{number}" for number in range(6)]
    assert [late[:3], late[3:]] == served.call(shop.late_several, f"{name}-late")(timeout=LONG)


def test_progress_is_seen_while_the_body_runs(shop: ModuleType, served: Served, name: str) -> None:
    """What the body tells of its progress is seen by the caller, who needs to do nothing for it."""
    result = served.call(shop.told, name)
    shop.ledger.wait_runs(name, timeout=LONG)
    wait_until(lambda: result.progress == Progress(1, 3, "step 1"), "the first step", LONG)
    for done in (1, 2, 3):
        shop.ledger.open(f"{name}:{done}")

    assert name == result(timeout=LONG)


def test_a_second_process_gets_a_hit(shop: ModuleType, served: Served, name: str) -> None:
    """What one caller had computed, another process finds."""
    served.call(shop.echo, "seen", name)(timeout=LONG)
    with Prompt(f"from {SHOP} import echo") as prompt:
        answer = prompt.ask(f"(lambda result: [result(block=False), result.source])(echo('seen', {name!r}))")

    assert ["seen", "hit"] == answer
    assert 1 == shop.ledger.runs(name)


def test_operators_can_read_the_arguments(shop: ModuleType, served: Served, name: str) -> None:
    """`celery inspect` and Flower see the arguments as text, though they travel sealed."""
    result = served.call(shop.gated, name)
    shop.ledger.wait_runs(name, timeout=LONG)
    seen = None
    if served.pool != "solo":  # solo answers no questions while it computes
        inspect = shop.app.control.inspect(destination=[served.node.name], timeout=5)
        seen = next(task for task in inspect.active()[served.node.name] if task["id"] == result.task_id)
    shop.ledger.open(name)

    assert f"{name} 1" == result(timeout=LONG)
    assert seen is None or (repr((name,)), shop.gated.name) == (seen["args"], seen["name"])


def test_the_value_is_stored_once(shop: ModuleType, served: Served, name: str) -> None:
    """A call leaves its value in the cache and nothing in Celery's result backend."""
    result = served.call(shop.echo, "once", name)
    result(timeout=LONG)

    stored = shop.app.backend.client.keys(f"*{result.task_id}*")
    assert [] == stored
    assert "once" == shop.cache.get(shop.echo.key_for("once", name))


@pytest.mark.parametrize("function", ["exits", "cancels"])
def test_a_body_that_ends_more_than_its_call_is_told_once(
    mishaps: ModuleType, served: Served, name: str, function: str
) -> None:
    """SystemExit and a cancelled `await` are no interruption by the worker: nobody computes that again and again."""
    with pytest.raises(ComputationLost, match=r"SystemExit \(2\)|CancelledError|died: 2"):
        served.call(getattr(mishaps, function), name)(timeout=LONG)

    assert 1 == mishaps.ledger.runs(name)
    assert 42 == served.call(mishaps.row_number, name, mishaps.Row(42))(timeout=LONG)


def test_what_was_cancelled_among_a_batch_is_told(mishaps: ModuleType, served: Served, name: str) -> None:
    """A CancelledError among the values is no value."""
    routed = mishaps.cancelled_among.with_options(queue=served.queue)
    results = list(routed.starmap([(name, 1), (name, 2)]))

    assert 2 == results[1](timeout=LONG)
    with pytest.raises(ComputationLost, match="CancelledError"):
        results[0](timeout=LONG)


def test_a_body_may_call_its_task_like_a_function(mishaps: ModuleType, served: Served, name: str) -> None:
    """That is Python's own call: with other arguments, in the same slot, and only the outer value is stored."""
    assert [2, 1, 0] == served.call(mishaps.countdown, name, 2)(timeout=LONG)
    assert (3, None) == (mishaps.ledger.runs(name), mishaps.countdown.join(name, 1))
