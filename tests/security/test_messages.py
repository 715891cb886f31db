"""This is where a third party puts messages on the broker, and a real worker neither believes, unpickles nor falls."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskcache import ComputationLost
from taskcache.launchers import serializer
from taskcache.protocol.entry import new_token
from tests.nodes.waiting import wait_until
from tests.nodes.workers import WorkerNode
from tests.security import post
from tests.security.bombs import bomb
from tests.security.damage import damaged, fuzz
from tests.security.vault import FORGER, MISSING, SECRET

LONG = 30
_numbers = itertools.count(1_000)

# What stands in the place of our header when somebody else writes it.
HEADERS: list[Any] = [
    "abc",
    7,
    ["key"],
    {},
    {"key": 7},
    {"key": "a", "token": 7},
    {"key": "a", "token": "no token"},
    {"key": "a\ud800{}", "token": "\x00"},
    {"key": "k", "token": "t" * 36, "above": 5},
    {"key": "k", "above": [[], {}]},
    {"key": "k", "again": 10**6},
    {"key": "k", "again": "x"},
    {"key": "k", "owner": [], "main": "x", "claims": {}, "direct": []},
    {"cache": ["x"]},
]


def number() -> int:
    """A number nobody has asked for yet."""
    return next(_numbers)


def wait_handled(victim: WorkerNode, *messages: post.Message) -> None:
    """Wait until the worker has said what became of each message."""

    def handled() -> bool:
        log = victim.log()
        ends = ("succeeded", "raised", "ignored", "rejected", "retry")
        refused = {message.id for message in messages if not message.body}
        return all(message.id in refused or any(f"[{message.id}] {end}" in log for end in ends) for message in messages)

    wait_until(lambda: handled() or not victim.is_running, "the worker to have handled the messages", LONG)


def is_well(app: ModuleType, victim: WorkerNode) -> bool:
    """The same worker process answers an honest call."""
    n = number()
    return app.double(n)(timeout=LONG) == 2 * n and victim.is_running


@pytest.fixture(autouse=True)
def _is_one_life(app: ModuleType, victim: WorkerNode) -> Any:
    """Whatever a test sends, the worker's main process lives on, and never said that it fell."""
    pid = victim.pid
    yield
    assert is_well(app, victim)
    assert pid == victim.pid
    assert "Unrecoverable error" not in victim.log()


# Arguments that are not ours


@pytest.mark.parametrize("secret", [FORGER, None], ids=["another secret", "no secret"])
def test_arguments_of_a_forger_are_not_run(app: ModuleType, victim: WorkerNode, secret: str | None) -> None:
    """Its flight ends with a reason; nothing runs and nothing is stored."""
    n = number()
    waited = app.double.with_options(queue="nobody")(n)
    message = post.call_of(app.double, n, secret=secret, token=waited.task_id).send(app)

    with pytest.raises(ComputationLost, match="TASKCACHE_SECRET"):
        waited(timeout=LONG)
    wait_handled(victim, message)
    assert (0, MISSING) == (app.ledger.runs(f"double:{n}"), app.cache.get(app.double.key_for(n), MISSING))


@pytest.mark.parametrize("mac", [b"", b"m" * 16], ids=["unsigned", "guessed"])
def test_a_pickle_without_our_signature_is_never_read(
    app: ModuleType, victim: WorkerNode, tmp_path: Path, mac: bytes
) -> None:
    """Not by the main process, and not by the one that runs the task."""
    seal = post.with_pickle(bomb(tmp_path / "read"), mac=mac)
    header = {"key": app.double.key_for(1), "token": new_token()}
    messages = [
        post.Message(app.double.name, post.body(seal), header).send(app),
        post.Message(app.double.name, bomb(tmp_path / "read"), header).send(app),
        post.Message(app.double.name, bomb(tmp_path / "read"), header, content_type="application/x-python-serialize"),
    ]
    messages[2].send(app)
    wait_handled(victim, *messages[:2])

    assert is_well(app, victim)
    assert not (tmp_path / "read").exists()


def test_arguments_of_another_function_are_not_run(app: ModuleType, victim: WorkerNode) -> None:
    """They are ours, and signed for another function."""
    n = number()
    stolen = post.body(post.sealed(app.double.name, [n], SECRET))
    message = post.Message(app.triple.name, stolen, {"key": app.triple.key_for(n), "token": new_token()}).send(app)
    wait_handled(victim, message)

    assert (0, 0) == (app.ledger.runs(f"double:{n}"), app.ledger.runs(f"triple:{n}"))


def test_a_message_that_names_another_key_is_not_run(app: ModuleType, victim: WorkerNode) -> None:
    """Good arguments under the key of another call: the worker makes its own key of them, and sees."""
    n, other = number(), number()
    header = {"key": app.double.key_for(other), "token": new_token()}
    message = post.Message(app.double.name, post.body(post.sealed(app.double.name, [n], SECRET)), header).send(app)
    wait_handled(victim, message)

    assert (0, 0) == (app.ledger.runs(f"double:{n}"), app.ledger.runs(f"double:{other}"))
    assert MISSING is app.cache.get(app.double.key_for(other), MISSING)


def test_a_wrong_token_stores_the_right_value_or_nothing(app: ModuleType, victim: WorkerNode) -> None:
    """The token of another call's flight under a true key: that other flight is neither run nor ended by it."""
    n, other = number(), number()
    waited = app.double.with_options(queue="nobody")(other)
    message = post.call_of(app.double, n, secret=SECRET, token=waited.task_id)
    message.id = new_token()
    message.send(app)
    wait_handled(victim, message)

    assert (False, 0) == (waited.ready(), app.ledger.runs(f"double:{other}"))
    assert app.cache.get(app.double.key_for(n), 2 * n) == 2 * n
    waited.cancel()


# Old messages


def test_an_old_message_is_not_run_again(app: ModuleType, victim: WorkerNode) -> None:
    """Its flight has ended: it is dropped, also when its entry was invalidated since, and nothing is stored."""
    n = number()
    waited = app.double.with_options(queue="nobody")(n)
    message = post.call_of(app.double, n, secret=SECRET, token=waited.task_id).send(app)
    assert 2 * n == waited(timeout=LONG)
    wait_handled(victim, message)
    app.double.bust(n)
    message.send(app)
    wait_until(lambda: f"[{message.id}] ignored" in victim.log(), "the second delivery to be ignored", LONG)

    assert 1 == app.ledger.runs(f"double:{n}")
    assert MISSING is app.cache.get(app.double.key_for(n), MISSING)


def test_a_very_old_message_is_a_call_like_any_other(app: ModuleType, victim: WorkerNode) -> None:
    """When nothing is left of its flight it is computed anew, as after a death: the value is true, and of today."""
    n = number()
    message = post.call_of(app.double, n, secret=SECRET).send(app)
    wait_handled(victim, message)

    assert (1, 2 * n) == (app.ledger.runs(f"double:{n}"), app.cache.get(app.double.key_for(n)))
    message.send(app)
    wait_until(lambda: victim.log().count(f"[{message.id}] ignored") == 1, "the second delivery", LONG)
    assert 1 == app.ledger.runs(f"double:{n}")


# Messages that are no messages


@pytest.mark.parametrize("header", HEADERS, ids=repr)
def test_a_header_that_is_not_ours_does_no_harm(app: ModuleType, victim: WorkerNode, header: Any) -> None:
    """Signed arguments under a forged header: a call of the function, or an error; the worker stays."""
    n = number()
    text = json.dumps(header)  # as it comes from a broker
    message = post.Message(
        app.double.name, post.body(post.sealed(app.double.name, [n], SECRET)), json.loads(text)
    ).send(app)
    wait_handled(victim, message)

    assert app.cache.get(app.double.key_for(n), 2 * n) == 2 * n


def test_a_message_without_what_celery_needs_is_refused(app: ModuleType, victim: WorkerNode) -> None:
    """No id, two parts, nothing at all, half a text: Celery would end the worker, or print what stands in them."""
    good = post.call_of(app.wraps, "canary", "canary", secret=SECRET)
    two = serializer.dumps([(serializer.SealedArguments(b"canary"),), {}])
    before = victim.log().count("Received invalid task message")
    replace(good, without=("id",)).send(app)
    replace(good, body=two).send(app)
    replace(good, body=b"").send(app)
    replace(good, body=b'{"canary', content_type="application/json").send(app)
    wait_until(lambda: victim.log().count("Received invalid task message") == before + 4, "the refusals", LONG)

    assert "canary" not in victim.log()


@pytest.mark.parametrize(
    "made",
    [
        [numpy.zeros(3), {}, post.EMBED],
        ["args", {}, post.EMBED],
        [[1], 7, post.EMBED],
        [[1], {}, 7],
        [{"sealed": 10**12}, {}, post.EMBED],
        [{"sealed": "text"}, {}, post.EMBED],
        [{}, {}, post.EMBED],
        [None, {}, post.EMBED],
        "nothing",
        {"args": [], "kwargs": {}},
    ],
    ids=repr,
)
def test_a_body_that_is_laid_out_wrongly_is_refused(app: ModuleType, victim: WorkerNode, made: Any) -> None:
    """The waiter of its flight is told; neither memory nor the worker goes."""
    from taskcache.codec import typed

    n = number()
    waited = app.double.with_options(queue="nobody")(n)
    header = {"key": app.double.key_for(n), "token": waited.task_id}
    message = post.Message(app.double.name, typed.encode(made), header, id=str(waited.task_id)).send(app)

    with pytest.raises(ComputationLost, match="cannot read the arguments"):
        waited(timeout=LONG)
    wait_handled(victim, message)
    assert 0 == app.ledger.runs(f"double:{n}")


def test_a_call_by_name_that_the_key_function_does_not_bear_fails_alone(app: ModuleType, victim: WorkerNode) -> None:
    """`key_fn` raises an IndexError for a call without arguments, in the main process too."""
    message = post.Message(app.keyed.name, b"[[], {}, {}]", content_type="application/json").send(app)
    wait_handled(victim, message)

    assert f"[{message.id}] raised" in victim.log()


@fuzz(40)
@given(data=st.data())
def test_fuzz_no_message_is_believed(
    app: ModuleType, victim: WorkerNode, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Damaged bodies, damaged seals, forged headers, old tokens, all at once: what is stored is true."""
    place = tmp_path_factory.getbasetemp() / "unpickled"
    victims = [number() for _ in range(5)]
    good = [post.sealed(app.double.name, [n], SECRET) for n in victims]
    bombs = [post.with_pickle(bomb(place)), post.with_pickle(bomb(place), mac=b"m" * 16)]
    tokens = [new_token() for _ in victims]
    headers = st.one_of(
        st.sampled_from([json.loads(json.dumps(header)) for header in HEADERS]),
        st.fixed_dictionaries(
            {
                "key": st.sampled_from([app.double.key_for(n) for n in victims]),
                "token": st.sampled_from([*tokens, "x", ""]),
            },
            optional={"direct": st.booleans(), "claims": st.booleans(), "again": st.integers(-5, 70)},
        ),
    )
    bodies = st.one_of(
        damaged([post.body(seal) for seal in good]),
        damaged(good).map(post.body),
        st.sampled_from([*good, *bombs]).map(post.body),
        st.binary(max_size=60),
    )
    messages = [
        post.Message(data.draw(st.sampled_from([app.double.name, app.triple.name])), body, header).send(app)
        for body, header in data.draw(st.lists(st.tuples(bodies, headers), min_size=5, max_size=10))
    ]
    wait_handled(victim, *messages)

    assert victim.is_running
    assert not place.exists()
    for n in victims:
        assert app.cache.get(app.double.key_for(n), 2 * n) == 2 * n
        assert MISSING is app.cache.get(app.triple.key_for(n), MISSING)
