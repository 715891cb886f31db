"""This is where true messages are caught and come back changed: single ones, chunks and batches, each with its waiters."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from taskcache import ComputationLost
from taskcache.codec import typed
from taskcache.launchers.task import HEADER, STAGE
from taskcache.protocol.entry import new_token
from tests.nodes.server import ValkeyNode
from tests.nodes.waiting import wait_until
from tests.nodes.workers import WorkerNode
from tests.security import post
from tests.security.bombs import bomb
from tests.security.damage import fuzz, spoilt
from tests.security.harvest import CORPUS, WITNESS
from tests.security.vault import FORGER, MISSING, SECRET

LONG = 30
ARGUMENT = "canary-argument"
CAUGHT = "caught"
# The function of each kind of message, and how many calls go in one.
KINDS = {"single": ("single", 1), "chunk": ("single", 3), "batch": ("together", 3)}
_numbers = itertools.count(1_000)


@dataclass
class Caught:
    """A message that was caught on its way to the worker, and those who wait for its calls."""

    mailed: ModuleType
    function: Any
    numbers: list[int]
    results: list[Any]
    message: post.Message

    def send(self, *seals: bytes, **changed: Any) -> post.Message:
        """Send it on, with other arguments and whatever else is changed."""
        if seals:
            changed["body"] = post.body(*seals)
        return replace(self.message, **changed).send(self.mailed, "mailed")

    def signed(self, secret: str | None, name: str = "", shift: int = 0) -> list[bytes]:
        """The arguments of each call as somebody else would sign them, or for another function, or for other numbers."""
        return [post.sealed(name or self.function.name, [ARGUMENT, n + shift], secret) for n in self.numbers]

    @property
    def keys(self) -> list[str]:
        return [self.function.key_for(ARGUMENT, n) for n in self.numbers]


Begin = Callable[[str], Caught]


@pytest.fixture(scope="module")
def mailed(app: ModuleType) -> Iterator[ModuleType]:
    """The application as its callers have it."""
    mailed = importlib.import_module("tests.security.mailed")
    yield mailed
    mailed.cache.close()
    mailed.app.close()


@pytest.fixture(scope="module")
def mailman(mailed: ModuleType) -> Iterator[WorkerNode]:
    """Its worker, which counts what it refuses."""
    with WorkerNode("tests.security.mailed", pool="threads", concurrency=4) as worker:
        yield worker


@pytest.fixture(scope="module")
def begin(mailed: ModuleType, mailman: WorkerNode, attacked_server: ValkeyNode) -> Iterator[Begin]:
    """Make calls that wait, and catch the message that they went in."""
    with redis.Redis.from_url(attacked_server.url(1)) as broker:

        def catch(kind: str) -> Caught:
            name, count = KINDS[kind]
            function, numbers = getattr(mailed, name), [next(_numbers) for _ in range(count)]
            calls = [(ARGUMENT, n) for n in numbers]
            results = list(function.with_options(queue=CAUGHT).starmap(calls, chunk=count))
            return Caught(mailed, function, numbers, results, post.Message.caught(broker, CAUGHT, results[0].task_id))

        yield catch


@pytest.fixture(autouse=True)
def _is_one_life(mailed: ModuleType, mailman: WorkerNode) -> Iterator[None]:
    """Whatever a test sends, the worker's main process lives on, and no log has an argument."""
    pid = mailman.pid
    yield
    n = next(_numbers)
    assert 2 * n == mailed.single(ARGUMENT, n)(timeout=LONG)
    assert pid == mailman.pid
    assert mailman.is_running
    assert "Unrecoverable error" not in mailman.log()
    assert "canary" not in mailman.log()


# What is wrong with each call of a message: the arguments that stand in the place of the true ones.
CALLS: dict[str, Callable[[Caught], list[bytes]]] = {
    "another secret": lambda caught: caught.signed(FORGER),
    "no secret": lambda caught: caught.signed(None),
    "cut": lambda caught: [seal[:-3] for seal in post.seals_of(caught.message)],
    "cut to nothing": lambda caught: [b"" for _ in caught.numbers],
    "of another version": lambda caught: [seal[:1] + b"\2" + seal[2:] for seal in post.seals_of(caught.message)],
    "of another function": lambda caught: caught.signed(SECRET, name="tests.security.mailed.other"),
    "of other calls": lambda caught: caught.signed(SECRET, shift=10**6),
    "a pickle": lambda caught: [post.with_pickle(bomb(Path("unpickled"))) for _ in caught.numbers],
    "a pickle, signed by guess": lambda caught: [
        post.with_pickle(bomb(Path("unpickled")), mac=b"m" * 16) for _ in caught.numbers
    ],
}

# What is wrong with a whole message.
WHOLE: dict[str, Callable[[Caught], dict[str, Any]]] = {
    "cut": lambda caught: {"body": caught.message.body[:-9]},
    "cut to nothing": lambda caught: {"body": b""},
    "a pickle": lambda caught: {"body": bomb(Path("unpickled"))},
    "said to be a pickle": lambda caught: {
        "body": bomb(Path("unpickled")),
        "content_type": "application/x-python-serialize",
    },
    "half a text": lambda caught: {"body": b'{"canary', "content_type": "application/json"},
    "one call more": lambda caught: {"body": post.body(*post.seals_of(caught.message), b"more")},
    "plain arguments": lambda caught: {"body": typed.encode([[ARGUMENT, -1], {}, post.EMBED])},
    "parameters without a name": lambda caught: {"body": typed.encode([[ARGUMENT, 1], {1: 2}, post.EMBED])},
    "without an id": lambda caught: {"without": ("id",)},
}


def assert_refused(caught: Caught, mailman: WorkerNode) -> None:
    """Everybody who waits is told why; nothing has run, is stored or was unpickled, and the log has it once."""
    for result in caught.results:
        with pytest.raises(ComputationLost, match=r"TASKCACHE_SECRET|another version"):
            result(timeout=LONG)
    assert [MISSING] * len(caught.keys) == [caught.mailed.cache.get(key, MISSING) for key in caught.keys]
    assert [0] * len(caught.numbers) == [caught.mailed.ledger.runs(f"mailed:{n}") for n in caught.numbers]
    assert not (mailman.folder / "unpickled").exists()
    assert 1 == mailman.log().count(f"taskcache: a message of {caught.function.name} is refused here (")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrong", CALLS)
def test_calls_that_are_not_ours_are_refused_each_and_counted(
    mailman: WorkerNode, begin: Begin, kind: str, wrong: str
) -> None:
    """Under true keys and tokens: one `untrusted` for each of them, with its key."""
    caught = begin(kind)
    ledger = caught.mailed.ledger
    before = ledger.runs("untrusted")
    caught.send(*CALLS[wrong](caught))

    assert_refused(caught, mailman)
    assert [1] * len(caught.keys) == [ledger.runs(f"untrusted:{key}") for key in caught.keys]
    assert before + len(caught.keys) == ledger.runs("untrusted")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrong", WHOLE)
def test_a_message_that_is_not_ours_is_refused_as_one_and_counted(
    mailman: WorkerNode, begin: Begin, kind: str, wrong: str
) -> None:
    """Also one that Celery itself refuses: those who wait for its calls are told, and it is counted once."""
    caught = begin(kind)
    before = caught.mailed.ledger.runs("untrusted")
    caught.send(**WHOLE[wrong](caught))

    assert_refused(caught, mailman)
    assert before + 1 == caught.mailed.ledger.runs("untrusted")


@pytest.mark.parametrize("kind", ["chunk", "batch"])
def test_calls_that_change_places_are_refused(mailman: WorkerNode, begin: Begin, kind: str) -> None:
    """All of them ours, and each under the key of its neighbour."""
    caught = begin(kind)
    first, *rest = post.seals_of(caught.message)
    caught.send(*rest, first)

    assert_refused(caught, mailman)
    assert [1, 1, 1] == [caught.mailed.ledger.runs(f"untrusted:{key}") for key in caught.keys]


@pytest.mark.parametrize("kind", ["chunk", "batch"])
@pytest.mark.parametrize("wrong", CALLS)
def test_a_forged_call_does_not_harm_its_neighbours(mailman: WorkerNode, begin: Begin, kind: str, wrong: str) -> None:
    """The others of its message are computed; it alone is refused."""
    caught = begin(kind)
    good = post.seals_of(caught.message)
    caught.send(good[0], CALLS[wrong](caught)[1], good[2])

    post.assert_middle_refused(caught.results, caught.numbers)
    ledger = caught.mailed.ledger
    assert [1, 0, 1] == [ledger.runs(f"mailed:{n}") for n in caught.numbers]
    assert [0, 1, 0] == [ledger.runs(f"untrusted:{key}") for key in caught.keys]


@pytest.mark.parametrize("kind", KINDS)
def test_a_message_that_is_said_to_make_its_flight_is_of_the_one_it_has(begin: Begin, kind: str) -> None:
    """As those of `.delay()` do. It was computed for nobody, and who waited was told nothing for a minute."""
    caught = begin(kind)
    caught.send(header={**caught.message.header, "direct": True})

    assert [2 * n for n in caught.numbers] == [result(timeout=LONG) for result in caught.results]


@pytest.mark.parametrize("kind", KINDS)
def test_an_old_message_is_dropped(mailman: WorkerNode, begin: Begin, kind: str) -> None:
    """Sent again it runs nothing, and stores nothing of what was invalidated since; it is ours, and not counted."""
    caught = begin(kind)
    caught.send()
    assert [2 * n for n in caught.numbers] == [result(timeout=LONG) for result in caught.results]
    for n in caught.numbers:
        caught.function.bust(ARGUMENT, n)
    before = caught.mailed.ledger.runs("untrusted")
    ends = (f"[{caught.message.id}] succeeded", f"[{caught.message.id}] ignored")
    wait_until(lambda: any(end in mailman.log() for end in ends), "the first delivery", LONG)
    caught.send()
    wait_until(lambda: sum(mailman.log().count(end) for end in ends) == 2, "the second delivery", LONG)

    assert [1] * len(caught.numbers) == [caught.mailed.ledger.runs(f"mailed:{n}") for n in caught.numbers]
    assert [MISSING] * len(caught.keys) == [caught.mailed.cache.get(key, MISSING) for key in caught.keys]
    assert before == caught.mailed.ledger.runs("untrusted")


@pytest.mark.parametrize("kind", ["chunk", "batch"])
def test_the_keys_and_tokens_of_other_calls_end_none_of_them(mailman: WorkerNode, begin: Begin, kind: str) -> None:
    """The calls of one message under the header of another: that one is refused, and its own message is not believed either."""
    one, other = begin(kind), begin(kind)
    one.send(*post.seals_of(other.message))

    assert_refused(one, mailman)
    other.send()
    assert [2 * n for n in other.numbers] == [result(timeout=LONG) for result in other.results]


@fuzz(40)
@given(data=st.data())
def test_fuzz_who_waits_gets_the_truth_or_a_reason(mailman: WorkerNode, begin: Begin, data: st.DataObject) -> None:
    """Damaged bodies, damaged calls, forged ones, in every kind of message: each wait ends, and no value is wrong."""
    caught = begin(data.draw(st.sampled_from(sorted(KINDS))))
    random = Random(data.draw(st.integers(0, 2**32)))
    good = post.seals_of(caught.message)
    forged = [*good, *caught.signed(FORGER), *caught.signed(None), *caught.signed(SECRET, shift=10**6)]
    forged += [post.with_pickle(bomb(Path("unpickled")), mac=mac) for mac in (b"", b"m" * 16)]
    forged += [spoilt(seal, random) for seal in good]
    seals = [random.choice(forged) for _ in random.choice([good, good, [*good, b""], [b""]])]
    body = random.choice([post.body(*seals), post.body(*seals), spoilt(caught.message.body, random)])
    header = dict(caught.message.header)
    header.update(data.draw(st.dictionaries(st.sampled_from(["direct", "claims", "batch"]), st.booleans())))
    caught.send(body=body, header=header)
    if header.get("claims"):
        # What says that it is a retry begins nothing (tests/model, H32): those who wait send the call again, in a minute.
        caught.send()

    for n, result in zip(caught.numbers, caught.results, strict=True):
        try:
            assert 2 * n == result(timeout=LONG)
        except ComputationLost:
            continue
    assert mailman.is_running
    assert not (mailman.folder / "unpickled").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_embedded_changes_nothing_of_the_request(mailman: WorkerNode, begin: Begin, kind: str) -> None:
    """Celery makes attributes of its request of it: a call that says it was made directly would be told to nobody."""
    caught = begin(kind)
    seals = post.seals_of(caught.message)
    embed = {**post.EMBED, "called_directly": True, "is_eager": True, STAGE: [1], HEADER: {"direct": True}}
    body = typed.encode([{"sealed": seals if len(seals) > 1 else seals[0]}, {"self": 1}, embed])
    caught.send(body=body)

    assert [2 * n for n in caught.numbers] == [result(timeout=LONG) for result in caught.results]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("path", sorted(CORPUS.glob("body-*.bin")), ids=lambda path: path.stem)
def test_a_body_of_the_corpus_is_refused(mailman: WorkerNode, begin: Begin, path: Path, kind: str) -> None:
    """Under a true header: who waits for its calls is told."""
    caught = begin(kind)
    caught.send(body=path.read_bytes())

    assert_refused(caught, mailman)
    assert not (mailman.folder / WITNESS).exists()


def test_a_chunk_with_a_forged_header_is_no_chunk(mailed: ModuleType, mailman: WorkerNode, begin: Begin) -> None:
    """Calls that are no calls: the header is dropped, and with it the calls; who waits has the next message."""
    caught = begin("chunk")
    token = new_token()
    key = caught.keys[0]
    calls: list[Any] = [7, [], [[key]], [[key, "no token"]], [[key, token]] * 2, [[7, token]], [[key, token]] * 2000]
    before = mailed.ledger.runs("untrusted")
    for forged in calls:
        caught.send(header={"calls": forged}, id=new_token())
    wait_until(lambda: mailed.ledger.runs("untrusted") == before + len(calls), "the refusals", LONG)
    caught.send()

    assert [2 * n for n in caught.numbers] == [result(timeout=LONG) for result in caught.results]
