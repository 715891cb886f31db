"""This is where true messages for the local worker come back changed: functions by value, each with its waiters."""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import cloudpickle
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from taskcache import BoundCall, Cache, ComputationLost, events
from taskcache.codec import typed
from taskcache.codec.sealing import Codec
from taskcache.embedded import release
from taskcache.embedded.worker import stop_worker
from taskcache.launchers.local import RUN, app_of, ensure_worker
from taskcache.settings import Settings
from tests.security import post
from tests.security.bombs import bomb
from tests.security.damage import fuzz, spoilt
from tests.security.harvest import CORPUS, WITNESS
from tests.security.vault import FORGER, MISSING, SECRET

LONG = 30
ARGUMENT = "canary-argument"
CAUGHT = "caught"
KINDS = {"single": ("single", 1), "chunk": ("single", 3), "batch": ("together", 3)}
_numbers = itertools.count(1)


# What may lead this process elsewhere than to a private server.
VARIABLES = (
    *(f"TASKCACHE_{name}" for name in ("EMBEDDED", "SECRET", "SERVER", "URL")),
    *("REDIS_URL", "KUBERNETES_SERVICE_HOST", "SERVER_SOFTWARE"),
)


@dataclass
class House:
    """A process with a private server and a local worker, where every message of the worker's is caught."""

    cache: Cache
    functions: dict[str, Any]
    broker: redis.Redis
    folder: Path

    @property
    def app(self) -> Any:
        return app_of(self.cache)

    def worker(self) -> int:
        """The local worker, by its process id."""
        from taskcache.embedded import worker

        assert ensure_worker(self.app) is None
        assert worker._worker is not None
        return worker._worker.pid

    def lines(self, name: str) -> list[str]:
        """What the worker has written to a file: the numbers it computed, the events it noted, or its log."""
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []

    def begin(self, kind: str) -> Caught:
        """Make calls that wait, and catch the message that they went in."""
        name, count = KINDS[kind]
        function, numbers = self.functions[name], [next(_numbers) for _ in range(count)]
        results = list(function.starmap([(ARGUMENT, n) for n in numbers], chunk=count))
        return Caught(self, function, numbers, results, post.Message.caught(self.broker, CAUGHT, results[0].task_id))


@dataclass
class Caught:
    """A message that was caught on its way to the local worker, and those who wait for its calls."""

    house: House
    function: Any
    numbers: list[int]
    results: list[Any]
    message: post.Message

    def send(self, *seals: bytes, **changed: Any) -> None:
        """Send it on, with other functions and arguments, and whatever else is changed."""
        if seals:
            changed["body"] = post.body(*seals)
        whose = SimpleNamespace(app=self.house.app)
        replace(self.message, **changed).send(whose, self.house.app.conf.task_default_queue)  # type: ignore[arg-type]  # has `app`

    def sealed(self, secret: str = SECRET, function: Any = None, shift: int = 0) -> list[bytes]:
        """Each call as somebody else would sign it, or with another function, or for another number."""
        codec = Codec(Settings(secrets=(secret.encode(),)), pickler=cloudpickle.Pickler)
        whose = function or self.function
        return [codec.seal_message([whose, [ARGUMENT, n + shift], {}]) for n in self.numbers]

    @property
    def keys(self) -> list[str]:
        return [self.function.key_for(ARGUMENT, n) for n in self.numbers]


def functions(cache: Cache, folder: Path) -> dict[str, Any]:
    """Functions that travel by value, since nobody can import them."""
    runs, refusals, log = (str(folder / name) for name in ("runs", "events", "log"))

    @cache.cache_async(name="watch", timeout=60)
    def watch() -> bool:
        """Have the worker write down what it distrusts and what it logs."""

        def note(event: events.Event) -> None:
            if event.kind == "untrusted":
                with open(refusals, "a") as file:
                    file.write(json.dumps([event.name, event.key]) + "\n")

        events.listen(note)
        logging.getLogger().addHandler(logging.FileHandler(log))
        return True

    @cache.cache_async(name="single", timeout=60)
    def single(text: str, number: int) -> int:
        with open(runs, "a") as file:
            file.write(f"{number}\n")
        return 2 * number

    @cache.cache_async(name="other", timeout=60)
    def other(text: str, number: int) -> int:
        return -number

    @cache.cache_async(name="together", timeout=60, batch=True)
    def together(calls: list[BoundCall]) -> list[int]:
        with open(runs, "a") as file:
            file.writelines(f"{call.args[1]}\n" for call in calls)
        return [2 * call.args[1] for call in calls]

    @cache.cache_async(name="negative", timeout=60, batch=True)
    def negative(calls: list[BoundCall]) -> list[int]:
        return [-call.args[1] for call in calls]

    return {"watch": watch, "single": single, "other": other, "together": together, "negative": negative}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """This process, as the owner of a local worker."""
    folder = tmp_path_factory.mktemp("house")
    with pytest.MonkeyPatch.context() as patch:
        for name in VARIABLES:
            patch.delenv(name, raising=False)
        patch.setenv("XDG_RUNTIME_DIR", str(folder))
        patch.chdir(folder)
        # As at a prompt: the apps of other tests are not in this process.
        patch.setattr("celery._state._get_active_apps", set)
        cache = Cache(secret=SECRET, name="house")
        made = functions(cache, folder)
        assert made["watch"]()(timeout=60)
        app = app_of(cache)
        # Only the caller goes astray: the worker has its queue from its command line.
        app.conf.task_routes = {RUN: {"queue": CAUGHT}}
        app.amqp.flush_routes()
        app.amqp.router = app.amqp.Router()
        with redis.Redis.from_url(cache.embedded.broker_url) as broker:
            yield House(cache, made, broker, folder)
        cache.close()
        stop_worker()
        release()


@pytest.fixture(autouse=True)
def _is_one_life(house: House) -> Iterator[None]:
    """Whatever a test sends, the same worker answers an honest call; no log has an argument, and nothing was unpickled."""
    pid = house.worker()
    yield
    caught = house.begin("single")
    caught.send()
    assert [2 * n for n in caught.numbers] == [result(timeout=LONG) for result in caught.results]
    assert pid == house.worker()
    assert "canary" not in "".join(house.lines("log"))
    assert not (house.folder / "unpickled").exists()


# What is wrong with each call of a message: what stands in its place.
CALLS: dict[str, Callable[[Caught], list[bytes]]] = {
    "another secret": lambda caught: caught.sealed(FORGER),
    "no secret": lambda caught: [post.sealed(caught.function.name, [ARGUMENT, n], None) for n in caught.numbers],
    "cut": lambda caught: [seal[:-3] for seal in post.seals_of(caught.message)],
    "cut to nothing": lambda caught: [b"" for _ in caught.numbers],
    "of another version": lambda caught: [seal[:1] + b"\2" + seal[2:] for seal in post.seals_of(caught.message)],
    "of another function": lambda caught: caught.sealed(function=caught.house.functions["other"]),
    "of other calls": lambda caught: caught.sealed(shift=10**6),
    "names its function": lambda caught: [
        post.sealed(caught.function.name, [ARGUMENT, n], SECRET) for n in caught.numbers
    ],
    "a pickle, signed by guess": lambda caught: [
        post.with_pickle(bomb(caught.house.folder / "unpickled"), mac=b"m" * 16) for _ in caught.numbers
    ],
}

# What is wrong with a whole message.
WHOLE: dict[str, Callable[[Caught], dict[str, Any]]] = {
    "cut": lambda caught: {"body": caught.message.body[:-9]},
    "cut to nothing": lambda caught: {"body": b""},
    "a pickle": lambda caught: {"body": bomb(caught.house.folder / "unpickled")},
    "said to be a pickle": lambda caught: {
        "body": bomb(caught.house.folder / "unpickled"),
        "content_type": "application/x-python-serialize",
    },
    "one call more": lambda caught: {"body": post.body(*post.seals_of(caught.message), b"more")},
    "no arguments": lambda caught: {"body": typed.encode([[], {}, post.EMBED])},
    "plain arguments": lambda caught: {"body": typed.encode([[ARGUMENT, 1], {}, post.EMBED])},
    "plain text": lambda caught: {"body": b'[["canary"], {}, {}]', "content_type": "application/json"},
}


def assert_refused(caught: Caught) -> None:
    """Everybody who waits is told why; nothing has run or is stored."""
    for result in caught.results:
        with pytest.raises(ComputationLost, match=r"(?i)secret|another version"):
            result(timeout=LONG)
    assert [MISSING] * len(caught.keys) == [caught.house.cache.get(key, MISSING) for key in caught.keys]
    assert not {str(n) for n in caught.numbers} & set(caught.house.lines("runs"))


def refused(caught: Caught) -> list[str]:
    """The keys of what the worker has counted, in order."""
    return [json.loads(line)[1] for line in caught.house.lines("events")]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrong", CALLS)
def test_calls_that_are_not_ours_are_refused_each_and_counted(house: House, kind: str, wrong: str) -> None:
    """Under true keys and tokens: one `untrusted` for each of them, with its key, and one line in the log for all."""
    caught = house.begin(kind)
    before = len(refused(caught))
    caught.send(*CALLS[wrong](caught))

    assert_refused(caught)
    assert caught.keys == refused(caught)[before:]
    names = {json.loads(line)[0] for line in house.lines("events")}
    said = [line for line in house.lines("log") if "is refused here" in line]
    assert sorted(f"taskcache: a message of {name}" for name in names) == sorted(
        line.partition(" is refused here (")[0] for line in said
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrong", WHOLE)
def test_a_message_that_is_not_ours_is_refused_as_one_and_counted(house: House, kind: str, wrong: str) -> None:
    """Also one that Celery itself refuses: those who wait for its calls are told, and it is counted once."""
    caught = house.begin(kind)
    before = len(refused(caught))
    caught.send(**WHOLE[wrong](caught))

    assert_refused(caught)
    assert before + 1 == len(refused(caught))


@pytest.mark.parametrize("kind", ["chunk", "batch"])
def test_calls_that_change_places_are_refused(house: House, kind: str) -> None:
    """All of them ours, and each under the key of its neighbour."""
    caught = house.begin(kind)
    first, *rest = post.seals_of(caught.message)
    caught.send(*rest, first)

    assert_refused(caught)
    assert sorted(caught.keys) == sorted(refused(caught)[-3:])


@pytest.mark.parametrize("kind", ["chunk", "batch"])
@pytest.mark.parametrize("wrong", CALLS)
def test_a_forged_call_does_not_harm_its_neighbours(house: House, kind: str, wrong: str) -> None:
    """The others of its message are computed; it alone is refused."""
    caught = house.begin(kind)
    good = post.seals_of(caught.message)
    caught.send(good[0], CALLS[wrong](caught)[1], good[2])

    post.assert_middle_refused(caught.results, caught.numbers)
    assert caught.keys[1] == refused(caught)[-1]


def test_a_call_of_another_function_is_not_computed_by_the_batch(house: House) -> None:
    """Two true calls of two batch functions, put in one message: the first function must not answer for the second."""
    one = house.begin("batch")
    function, n = house.functions["negative"], next(_numbers)
    stray = function(ARGUMENT, n)
    other = post.Message.caught(house.broker, CAUGHT, stray.task_id)
    calls = [*one.message.header["calls"][:2], (other.header["key"], other.header["token"])]
    one.send(*post.seals_of(one.message)[:2], *post.seals_of(other), header={**one.message.header, "calls": calls})

    with pytest.raises(ComputationLost):
        stray(timeout=LONG)
    assert [2 * each for each in one.numbers[:2]] == [result(timeout=LONG) for result in one.results[:2]]
    assert MISSING is house.cache.get(function.key_for(ARGUMENT, n), MISSING)
    one.results[2].cancel()


@pytest.mark.parametrize("kind", KINDS)
def test_an_old_message_is_dropped(house: House, kind: str) -> None:
    """Sent again it runs nothing, and stores nothing of what was invalidated since; it is ours, and not counted."""
    caught = house.begin(kind)
    caught.send()
    assert [2 * n for n in caught.numbers] == [result(timeout=LONG) for result in caught.results]
    for n in caught.numbers:
        caught.function.bust(ARGUMENT, n)
    before = len(refused(caught))
    caught.send()
    # The worker takes them in their order, on two threads or more: some calls later it has had this one.
    for _ in range(3):
        honest = house.begin("chunk")
        honest.send()
        assert [2 * n for n in honest.numbers] == [result(timeout=LONG) for result in honest.results]

    assert [1] * len(caught.numbers) == [house.lines("runs").count(str(n)) for n in caught.numbers]
    assert [MISSING] * len(caught.keys) == [house.cache.get(key, MISSING) for key in caught.keys]
    assert before == len(refused(caught))


@pytest.mark.parametrize("path", sorted(CORPUS.glob("body-*.bin")), ids=lambda path: path.stem)
def test_a_body_of_the_corpus_is_refused(house: House, path: Path) -> None:
    """Under a true header, of one call and of several: who waits for them is told."""
    for kind in KINDS:
        caught = house.begin(kind)
        caught.send(body=path.read_bytes())

        assert_refused(caught)
    assert not (house.folder / WITNESS).exists()


@fuzz(30)
@given(data=st.data())
def test_fuzz_who_waits_gets_the_truth_or_a_reason(house: House, data: st.DataObject) -> None:
    """Damaged bodies, damaged calls, forged ones, in every kind of message: each wait ends, and no value is wrong."""
    caught = house.begin(data.draw(st.sampled_from(sorted(KINDS))))
    random = Random(data.draw(st.integers(0, 2**32)))
    good = post.seals_of(caught.message)
    forged = [*good, *caught.sealed(FORGER), *caught.sealed(shift=10**6)]
    forged += caught.sealed(function=house.functions["other"])
    forged.append(post.with_pickle(bomb(house.folder / "unpickled"), mac=b"m" * 16))
    forged += [spoilt(seal, random) for seal in good]
    seals = [random.choice(forged) for _ in random.choice([good, good, [*good, b""], [b""]])]
    body = random.choice([post.body(*seals), post.body(*seals), spoilt(caught.message.body, random)])
    header = {**caught.message.header, "batch": data.draw(st.booleans())}
    caught.send(body=body, header=header)

    for n, result in zip(caught.numbers, caught.results, strict=True):
        try:
            assert 2 * n == result(timeout=LONG)
        except ComputationLost:
            continue
