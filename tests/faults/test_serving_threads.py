"""This is where the threads that serve a whole process meet what goes wrong for one of those they serve, and go on."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import pytest
import redis

from taskcache import Cache, DispatchFailed
from taskcache.calls.calling import InlineLauncher
from taskcache.calls.invocation import Invocation
from taskcache.drivers import keeper as keeping
from taskcache.drivers import threads
from taskcache.drivers.dispatch import Dispatch, Order
from taskcache.drivers.keeper import Keeper
from taskcache.drivers.pending import Pending
from taskcache.drivers.renewer import Lease, Renewer
from taskcache.drivers.topology import Server
from taskcache.protocol.entry import EntryKey
from taskcache.protocol.flight import Ending, Landing
from taskcache.protocol.steps import Call, Inquire, Launch, Steps, Wait
from taskcache.protocol.watch import Sighting
from tests.nodes.proxy import FaultProxy
from tests.nodes.server import ValkeyNode
from tests.nodes.waiting import wait_until

TOKEN = "00000000-0000-4000-8000-000000000001"
OTHER = "00000000-0000-4000-8000-000000000002"


class Backend:
    """A launcher whose result backend answers when the test says so."""

    def __init__(self, *, answers: bool) -> None:
        self.asked, self.may_answer = threading.Event(), threading.Event()
        if answers:
            self.may_answer.set()

    def inquire(self, token: str) -> None:
        self.asked.set()
        self.may_answer.wait(60)

    def note_served(self, token: str) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"nobody asks it for {name}")


class Unsent:
    """A launcher whose broker is away."""

    def launch_beside(self, token: str) -> None:
        raise DispatchFailed("the broker is away")


def asking(call: Call) -> Pending:
    """A call that waits for a flight, and then asks the server something."""

    def steps() -> Steps[Landing]:
        yield Wait(TOKEN, False)
        return Landing((yield call), None, 0)

    pending = Pending(steps(), None, None)  # type: ignore[arg-type]  # these steps have no errand
    next(pending.steps)
    return pending


def follow(cache: Cache, launcher: Backend | None, heard: Callable[[Any], None], token: str = TOKEN) -> EntryKey:
    """Wait for a flight of this cache as calls do."""
    errand = Invocation.of(cache.settings, cache.codec, "key", "f", (), 1000).errand(cache.station, "")
    cache.station.keeper.follow(errand, Wait(token, False), launcher, heard, lambda sighting: None)
    return errand.key


def fly(client: redis.Redis, key: EntryKey) -> None:
    """Have a flight whose message was sent, and which nobody has begun."""
    due_ms = (time.time() + 3600) * 1000
    client.hset(key.flight, mapping={"token": TOKEN, "state": "queued", "stamps": "", "resend_at": round(due_ms)})
    client.pexpire(key.flight, 60_000)


Refuse = Callable[[object], None]

# -- threads that cannot be started, and those that nobody needs any more


@pytest.fixture
def refuse_once(monkeypatch: pytest.MonkeyPatch) -> Refuse:
    """`refuse_once(owner)`: the next thread for a method of `owner` cannot be started, and the one after it can."""
    start, owners = threads.start, list[object]()

    def refuses(target: Callable[[], None], name: str) -> None:
        # Nobody else's: a cache of another test may start a thread meanwhile.
        if any(getattr(target, "__self__", None) is owner for owner in owners):
            owners.clear()
            raise RuntimeError("can't start new thread")
        start(target, name)

    monkeypatch.setattr(threads, "start", refuses)
    return owners.append


def test_a_renewer_that_could_not_start_starts_with_the_next_lease(refuse_once: Refuse, redis_url: str) -> None:
    """What was refused is not held, and no thread is taken to run that does not."""
    server = Server(redis_url)
    renewer = Renewer(lambda: server, 500)
    asked: list[str] = []

    def is_wanted() -> bool:
        asked.append("wanted")
        return False

    refuse_once(renewer)
    lease = partial(Lease, EntryKey.of(b"some:key"), TOKEN, "me", is_wanted=is_wanted)
    with pytest.raises(RuntimeError):
        renewer.hold(lease())
    assert renewer.find(TOKEN, "me") is None
    renewer.hold(lease())
    wait_until(lambda: asked, "the second one to be looked at")
    server.close()


def test_a_keeper_that_could_not_start_starts_with_the_next_wait(
    redis_url: str, cache_name: str, refuse_once: Refuse
) -> None:
    """The first caller hears of it, and the second one its value."""
    heard: list[Any] = []
    with Cache(redis_url, name=cache_name) as cache:
        cache.station.keeper.inbox()
        refuse_once(cache.station.keeper)
        with pytest.raises(RuntimeError):
            follow(cache, None, heard.append)
        assert 0 == cache.station.waiting()
        follow(cache, None, heard.append)
        cache.station.keeper._hear(TOKEN, b"")
        # Nothing flies under this token: looked at for the time of its grace, it has vanished.
        wait_until(lambda: heard, "the keeper to look")

    assert [None] == heard


def test_a_dispatch_that_could_not_start_starts_with_the_next_order(refuse_once: Refuse) -> None:
    """What was refused is not carried out later either: whoever ordered it has gone another way."""
    dispatch, backend = Dispatch(), Backend(answers=True)
    refuse_once(dispatch)
    answered: list[str] = []
    orders = [Order(backend, Inquire(token), lambda order, reply: answered.append(order.step.token)) for token in "12"]
    with pytest.raises(RuntimeError):
        dispatch.take(orders[0])
    dispatch.take(orders[1])
    wait_until(lambda: answered, "the second order")

    assert ["2"] == answered


def test_a_body_that_the_broker_does_not_take_holds_up_no_other_order() -> None:
    """With `on_broker_error="inline"` it is computed beside: it may even wait for one whose turn comes later."""
    second = threading.Event()

    def claim(token: str) -> bool:
        if token == "1":
            return second.wait(60)
        second.set()
        return True

    dispatch, launchers = Dispatch(), [InlineLauncher(cast(Any, Unsent()), claim) for _ in range(2)]
    for launcher, token in zip(launchers, "12", strict=True):
        dispatch.take(Order(launcher, Launch(token), lambda order, reply: None))

    wait_until(lambda: all(launcher.has_computed for launcher in launchers), "both to be computed")


def test_an_order_that_cannot_be_given_ends_one_wait(redis_url: str, cache_name: str, refuse_once: Refuse) -> None:
    """Another wait of the same turn goes on."""
    heard: list[Any] = []
    with Cache(redis_url, name=cache_name) as cache, redis.Redis.from_url(redis_url) as client:
        cache.station.keeper.inbox()
        backend = Backend(answers=True)
        key = follow(cache, backend, heard.append)
        fly(client, key)
        refuse_once(cache.station.keeper._dispatch)
        cache.station.keeper._hear(TOKEN, b"")
        wait_until(lambda: heard, "the end of the wait")
        other = asking(Call("GET", (key.entry,)))
        cache.station.keeper.resume(other, None)

        assert other.wait(10)
    assert "can't start" in str(heard[0])


# -- callbacks that end whoever calls them


@pytest.mark.parametrize("error", [SystemExit(1), asyncio.CancelledError(), KeyError("plain")])
def test_a_callback_that_ends_its_thread_ends_nothing(error: BaseException) -> None:
    """It runs in the thread that wakes everybody else of the process."""
    pending = asking(Call("GET", (b"key",)))
    told: list[Any] = []

    def fails(said: object) -> None:
        raise error

    pending.on_notice(fails)
    pending.on_notice(told.append)
    pending.when_done(fails)
    pending.when_done(lambda done: told.append(done.landing))
    pending.notice(Sighting("running", b""))
    pending.settle(Landing("a value", None, 0))

    assert [Sighting("running", b""), Landing("a value", None, 0)] == told


def test_a_waiter_that_exits_keeps_it_from_nobody(redis_url: str, cache_name: str) -> None:
    """Two wait for one flight, and the first that is told calls sys.exit()."""
    heard: list[Ending | BaseException] = []

    def fails(ending: Ending | BaseException) -> None:
        raise SystemExit(1)

    with Cache(redis_url, name=cache_name) as cache:
        follow(cache, None, fails)
        follow(cache, None, heard.append)
        cache.station.keeper._hear(TOKEN, b"a value")

    assert [b"a value"] == heard


def test_a_wait_may_begin_in_the_middle_of_another(redis_url: str, cache_name: str) -> None:
    """A signal's handler runs between any two steps of the main thread, also of one that has the keeper's lock."""
    heard: list[Ending | BaseException] = []
    with Cache(redis_url, name=cache_name) as cache:
        keeper = cache.station.keeper
        with keeper._condition:
            follow(cache, None, heard.append)
        keeper._hear(TOKEN, b"a value")

    assert [b"a value"] == heard


# -- one bad answer among good ones


def test_one_reply_that_is_refused_costs_the_others_nothing(start_valkey: Callable[..., ValkeyNode]) -> None:
    """A full server reads and does not write: who reads has an answer, and who writes waits for room."""
    node = start_valkey(config=["maxmemory-policy noeviction"])
    server = Server(node.url(), own_wire=True)
    keeper = Keeper(server, 30.0)
    reads = [asking(Call("GET", (f"key-{number}".encode(),))) for number in range(2)]
    writes = asking(Call("SET", (b"key-0",), (b"a value", "PX", 60_000)))
    with node.client() as client:
        client.config_set("maxmemory", 1)
        with keeper._condition:
            keeper._ready.extend((pending, None) for pending in (reads[0], writes, reads[1]))
            keeper._start()
        assert [True, True] == [pending.wait(10) for pending in reads]
        assert writes.landing is None
        client.config_set("maxmemory", 0)

        assert writes.wait(10)
    assert [None, None, None] == [pending.landing and pending.landing.error for pending in (*reads, writes)]
    keeper.close()
    server.close()


def test_a_renewal_that_fails_is_heard_by_nobody_else(client: redis.Redis, redis_url: str, cache_name: str) -> None:
    """A key of another type is one lease's trouble."""
    server = Server(redis_url)
    renewer = Renewer(lambda: server, 60_000)
    renewer._runs = True
    keys = [EntryKey.of(f"{cache_name}:{number}".encode()) for number in range(3)]
    leases = [renewer.hold(Lease(key, token, "me")) for key, token in zip(keys, (TOKEN, OTHER, "3"), strict=True)]
    for lease in leases[::2]:
        client.hset(lease.key.flight, mapping={"token": lease.token, "state": "running", "owner": "me"})
        client.pexpire(lease.key.flight, 60_000)
    client.set(keys[1].flight, "not a hash", px=60_000)
    renewer.beat(server)
    server.close()

    assert [True, False, True] == [lease.held for lease in leases]


class Counting(Server):
    """Counts how often it was asked."""

    asked = 0

    def replies(self, calls: Any) -> list[Any]:
        self.asked += 1
        return super().replies(calls)


def test_a_server_that_is_silent_is_waited_for_once_a_turn(
    monkeypatch: pytest.MonkeyPatch, proxy: FaultProxy, redis_url: str
) -> None:
    """However many pages of questions there are: the rest of them is asked at the next turn."""
    monkeypatch.setattr(keeping, "PIPELINE", 1)
    server = Counting(redis.Redis.from_url(proxy.url(redis_url), socket_timeout=1.0), own_wire=True)
    keeper = Keeper(server, 0.0)
    waiting = [asking(Call("GET", (b"key",))) for _ in range(5)]
    proxy.blackhole = True
    with keeper._condition:
        keeper._ready.extend((pending, None) for pending in waiting)
        keeper._start()
    ended = [pending.wait(20) for pending in waiting]
    proxy.blackhole = False
    keeper.close()
    server.close()

    # Held in the first turn, and given up in the second one.
    assert ([True] * 5, 2) == (ended, server.asked)


# -- a result backend that does not answer


def test_a_value_is_found_while_the_result_backend_is_silent(
    client: redis.Redis, redis_url: str, cache_name: str
) -> None:
    """Woken without a value, a wait looks at once, and not after the time of a backend that is away."""
    heard: list[Any] = []
    backend = Backend(answers=False)
    with Cache(redis_url, name=cache_name) as cache:
        key = follow(cache, backend, heard.append)
        fly(client, key)
        assert backend.asked.wait(10)
        client.set(key.outcome(TOKEN), b"a value", px=60_000)
        began = time.monotonic()
        cache.station.keeper._hear(TOKEN, b"")
        try:
            wait_until(lambda: heard, "the value", 20)
        finally:
            backend.may_answer.set()

    assert [b"a value"] == heard
    assert time.monotonic() - began < 20


def test_an_answer_that_came_too_late_is_not_taken_for_another(redis_url: str, cache_name: str) -> None:
    """The steps have gone on: they ask for something else by now."""
    heard: list[Any] = []
    backend = Backend(answers=False)
    with Cache(redis_url, name=cache_name) as cache, redis.Redis.from_url(redis_url) as client:
        key = follow(cache, backend, heard.append)
        fly(client, key)
        assert backend.asked.wait(10)
        watching = cache.station.keeper._watches[TOKEN]
        for _ in range(3):
            before = wait_until(lambda: watching.order, "an order")
            cache.station.keeper._hear(TOKEN, b"")
            wait_until(lambda before=before: watching.order not in (None, before), "the next look")  # type: ignore[misc]
        backend.may_answer.set()
        client.set(key.outcome(TOKEN), b"a value", px=60_000)
        wait_until(lambda: heard, "the value")

    assert [b"a value"] == heard
