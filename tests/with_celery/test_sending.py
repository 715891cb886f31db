"""This is where messages are looked at as they leave: to which queue, on which connection, and with what when sent again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, suppress
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.signals import before_task_publish
from kombu import Exchange, Queue
from kombu.exceptions import OperationalError

from taskcache import Cache, DispatchFailed, UsageError
from taskcache.launchers import local, producers
from taskcache.launchers.chunk import parted
from taskcache.launchers.routes import queue_of
from taskcache.launchers.task import HEADER, read_header, seal_call
from taskcache.options import PER_CALL, AsyncOptions
from taskcache.protocol.entry import new_token
from taskcache.worker.execution import send_again
from taskcache.worker.request import strategy


@pytest.fixture
def app() -> Any:
    """An app whose broker is this process's memory."""
    return Celery("sending", broker="memory://", set_as_current=False)


@pytest.fixture
def cache(app: Any, redis_url: str) -> Iterator[Cache]:
    """A cache that sends through it."""
    with Cache(redis_url, name="sending", app=app) as cache:
        yield cache


@pytest.fixture
def sent() -> Iterator[list[dict[str, Any]]]:
    """All that Celery tells of the messages that this process sends."""
    seen: list[dict[str, Any]] = []

    def note(**told: Any) -> None:
        seen.append(told)

    before_task_publish.connect(note)
    yield seen
    before_task_publish.disconnect(note)


# Which queue it is


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("proj.plain", {}, "standard"),
        ("proj.slow.report", {}, "slow"),
        ("proj.slow.report", {"queue": "own"}, "own"),
        ("proj.bound", {}, "fan"),
        ("proj.plain", {"exchange": "video", "routing_key": "video.key"}, "fan"),
    ],
)
def test_the_queue_is_the_one_that_celery_routes_to(
    app: Any, sent: list[dict[str, Any]], name: str, options: dict[str, str], expected: str
) -> None:
    """That of `task_routes`, of the options, or of an exchange and a key, and else the default one."""
    app.conf.update(
        task_default_queue="standard",
        task_queues=[Queue("standard"), Queue("slow"), Queue("own"), Queue("fan", Exchange("video"), "video.key")],
        task_routes={"proj.slow.*": "slow", "proj.bound": {"exchange": "video", "routing_key": "video.key"}},
    )
    app.send_task(name, **options)
    at = {"": sent[0]["routing_key"], "video": "fan"}[getattr(sent[0]["exchange"], "name", sent[0]["exchange"])]

    assert expected == queue_of(app, name, options) == at


def test_a_router_that_raises_says_nothing_of_a_queue(app: Any) -> None:
    """What it raises is told when the call is sent; until then it is the default queue."""

    def router(*args: Any, **kwargs: Any) -> None:
        raise LookupError

    app.conf.task_routes = [router]

    assert "celery" == queue_of(app, "proj.plain", {})


# On which connection


def test_idle_connections_are_lost_together(app: Any) -> None:
    """After a broker's restart the second try has a new one, however many stale ones are kept."""
    with ExitStack() as stack:
        stale = [stack.enter_context(producers.producer_of(app)) for _ in range(6)]
    used = []

    def publish(producer: Any) -> None:
        used.append(producer)
        if producer in stale:
            raise OperationalError("Connection reset by peer")

    for _ in range(3):
        producers.send(app, publish)

    assert [True, False, False, False] == [producer in stale for producer in used]


def test_a_broker_behind_sentinels_has_timeouts() -> None:
    """It is a Redis like any other."""
    app: Any = Celery("sending", broker="sentinel://127.0.0.1:1", set_as_current=False)

    assert producers.REPLY_TIMEOUT_S == producers._connection(app).transport_options["socket_timeout"]


# With what, when `with_options` says so for some calls


def test_what_with_options_takes_goes_with_the_message(cache: Cache, sent: list[dict[str, Any]]) -> None:
    """Place and limits of this call; nothing of ours is a property of the message."""
    double = cache.cache_async(timeout=60, queue="a")(lambda x: 2 * x)
    own = {"inline_after": 60, "on_broker_error": "inline", "near": True, "revoke_when_abandoned": True}
    limits = {"priority": 3, "expires": 30, "time_limit": 9, "soft_time_limit": 8}

    result = double.with_options(queue="b", metrics=True, on_cache_error="raise", **own, **limits)(new_token())
    result.cancel()

    headers, properties = sent[0]["headers"], sent[0]["properties"]
    assert ("b", 3, [9, 8]) == (sent[0]["routing_key"], properties["priority"], headers["timelimit"])
    assert headers["expires"] is not None
    assert set() == {*own, "on_cache_error", "metrics", *limits} - {"priority"} & set(properties)


@pytest.mark.parametrize("name", [*sorted(set(AsyncOptions.__annotations__) - PER_CALL), "batch"])
def test_what_does_not_travel_is_refused(cache: Cache, name: str) -> None:
    """The worker goes by the decorator: another lifetime for some calls would be dropped without a word."""
    double = cache.cache_async(timeout=60)(lambda x: 2 * x)

    with pytest.raises(UsageError, match=rf"with_options\({name}=\.\.\.\).*decorat"):
        double.with_options(**{name: 5})


# With what, when it is sent again


def test_what_is_sent_again_is_still_part_of_its_canvas(app: Any, cache: Cache, sent: list[dict[str, Any]]) -> None:
    """The rest of its chain, its chord, links, limits, place and retries go with it; only the header counts on."""

    @cache.cache_async(timeout=60, name="sending.double")
    def double(number: int) -> int:
        return 2 * number

    task, after, args = double.task, double.task.s(3), (seal_call(double, (2,), {}),)
    header = {"key": "sending.double:2", "token": new_token(), "again": 63, "owner": "somebody"}
    task.push_request(
        id="an-id",
        args=args,
        kwargs={},
        headers={"x-own": "kept"},
        **dict.fromkeys(("root_id", "parent_id", "group"), "a-name"),
        retries=2,
        timelimit=[9, 8],
        chain=[after],
        chord=after,
        callbacks=[after],
        errbacks=[after],
        delivery_info={"exchange": "", "routing_key": "there", "priority": 7},
    )
    try:
        send_again(task, header, 0.0)
    finally:
        task.pop_request()

    headers, (sealed, _, embed), own = sent[0]["headers"], sent[0]["body"], sent[0]["headers"][HEADER]
    assert args == tuple(sealed)
    assert ["an-id", "a-name", "a-name", "a-name", 2, [9, 8]] == [
        headers[name] for name in ("id", "root_id", "parent_id", "group", "retries", "timelimit")
    ]
    assert [True] * 4 == [bool(embed[name]) for name in ("chain", "chord", "callbacks", "errbacks")]
    assert ("there", 7, "kept") == (sent[0]["routing_key"], sent[0]["properties"]["priority"], headers["x-own"])
    assert {"key": header["key"], "token": header["token"], "again": 63} == own == read_header(own)


# What cannot be sent, or taken


def test_celerys_first_protocol_is_refused(app: Any, cache: Cache) -> None:
    """Its messages would be lost without a word: the call says which setting it is."""
    app.conf.task_protocol = 1
    double = cache.cache_async(timeout=60, name="sending.double")(lambda x: 2 * x)

    with pytest.raises(DispatchFailed, match="set task_protocol = 2"):
        double(2)


def test_a_worker_takes_our_messages_whatever_was_set_since(app: Any, cache: Cache) -> None:
    """`accept_content` may be set after the functions were decorated and the app has looked at its tasks."""
    double = cache.cache_async(timeout=60, name="sending.double")(lambda x: 2 * x)
    task: Any = double.task
    app.finalize()
    app.conf.accept_content = ["json"]
    consumer = SimpleNamespace(
        hostname="here", connection_errors=(), pool=None, timer=None, app=app, controller=None, event_dispatcher=None
    )
    with suppress(AttributeError):  # Celery's own part of it wants a whole worker
        strategy(task, app, consumer)

    assert ["json", "taskcache"] == app.conf.accept_content


def test_a_secret_that_is_no_text_is_refused_for_the_local_worker() -> None:
    """It would get another one, or none: the error says how to write it."""
    app = local.make_app("redis://127.0.0.1:7777/1", "queue")
    app.taskcache_secrets = (b"\xff" * 16,)

    with pytest.raises(UsageError, match=r"secret\.hex\(\)"):
        local.ensure_worker(app)


# How many calls it carries


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([], []),
        ([100] * 1000, [(0, 564), (564, 1000)]),
        ([10] * 1000, [(0, 1000)]),
        ([100_000, 10, 100_000], [(0, 1), (1, 2), (2, 3)]),
    ],
)
def test_the_keys_of_a_message_fit_a_frame(sizes: list[int], expected: list[tuple[int, int]]) -> None:
    """More calls than their header has room for go in several messages; a call is in one, however long its key."""
    assert expected == list(parted(sizes))
