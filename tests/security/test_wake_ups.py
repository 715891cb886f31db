"""This is where a third party publishes to an inbox: it may make a waiter look, and tells it nothing."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from celery import Celery
from hypothesis import given
from hypothesis import strategies as st

from taskcache import Cache, ComputationLost, NotReady, Result, events
from taskcache.calls import calling
from taskcache.codec.sealing import Codec
from taskcache.protocol.entry import new_token, token_bytes
from taskcache.protocol.watch import Sighting
from taskcache.settings import Settings
from tests.nodes.server import ValkeyNode
from tests.nodes.waiting import stays, wait_until
from tests.security.damage import damaged, fuzz
from tests.security.vault import FORGER, SECRET


class Waiting:
    """Calls that wait for a queue which nobody serves, and everything a third party can say to them."""

    def __init__(self, url: str, secret: str | None) -> None:
        self.app: Any = Celery("waiting", broker=url, backend="disabled://", set_as_current=False)
        name = "signed" if secret else "open"
        self.cache = Cache(url, name=name, app=self.app, secret=secret)
        self.anybody: Any = redis.Redis.from_url(url)
        self.number = 0

        @self.cache.cache_async(name="waiting.negative", timeout=60)
        def negative(number: int) -> int:
            return -number

        self.function = negative

    def begin(self) -> Result[int]:
        """Call for a number that nobody has asked for yet."""
        self.number += 1
        return self.function(self.number)

    def invocation(self, number: int) -> Any:
        return self.function.invocation((number,), {})

    def finish(self, result: Result[int], number: int) -> None:
        """Compute the flight, as a worker does, and publish its value."""
        token = str(result.task_id)
        assert calling.claim_here(
            self.function, self.cache.station, self.invocation(number), token, lambda: ((number,), {})
        )

    def say(self, message: bytes) -> int:
        """Publish to this process's inbox; how many heard it."""
        return int(self.anybody.publish(self.cache.station.keeper.inbox(), message))

    def close(self) -> None:
        self.cache.close()
        self.app.close()
        self.anybody.close()

    def sealed(self, number: int, token: str, value: object, secret: str | None) -> bytes:
        """A value for one flight, signed with any secret or none."""
        codec = Codec(Settings(secrets=(secret.encode(),) if secret else ()))
        place = self.invocation(number)
        return codec.seal(
            place.redis_key,
            value,
            token=token_bytes(token),
            created_ms=1,
            fresh_ms=60_000,
            cost_ms=0,
            label_bytes=place.label_bytes,
            stamps=b"",
        )


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyNode]:
    """A server on which anybody may publish."""
    with ValkeyNode() as node:
        yield node


@pytest.fixture(scope="module")
def waiting(server: ValkeyNode) -> Iterator[Waiting]:
    """Waits with a secret."""
    waiting = Waiting(server.url(), SECRET)
    yield waiting
    waiting.close()


def is_undisturbed(waiting: Waiting, result: Result[int], message: bytes) -> bool:
    """After the message the call still waits, and then gets what its flight delivers."""
    seen: list[Sighting] = []
    stop = result._pending.on_notice(seen.append)
    assert waiting.say(message) == 1
    # Behind it on the same channel: when this one has led to a look, that one has been heard.
    result._pending.sighting = Sighting("lost", b"")
    waiting.say(str(result.task_id).encode())
    wait_until(lambda: seen or result.ready(), "a look at the flight")
    stop()
    if result.ready():
        return False
    waiting.finish(result, waiting.number)
    return result(timeout=20) == -waiting.number


def test_a_wake_up_with_a_forged_value_settles_nothing(waiting: Waiting) -> None:
    """Signed by another, or not at all: the waiter looks, and goes on waiting."""
    for secret in (FORGER, None):
        result = waiting.begin()
        token = str(result.task_id)

        assert is_undisturbed(waiting, result, token.encode() + waiting.sealed(waiting.number, token, 666, secret))


def test_a_wake_up_with_the_value_of_another_flight_settles_nothing(waiting: Waiting) -> None:
    """Our own signature and the right key, but an older flight's value: it may have been invalidated since."""
    result = waiting.begin()
    token = str(result.task_id)
    old = waiting.sealed(waiting.number, new_token(), 666, SECRET)

    assert is_undisturbed(waiting, result, token.encode() + old)


def test_a_wake_up_with_the_value_of_another_key_settles_nothing(waiting: Waiting) -> None:
    """The same for another call of the same function."""
    result = waiting.begin()
    token = str(result.task_id)

    assert is_undisturbed(waiting, result, token.encode() + waiting.sealed(10**6, token, 666, SECRET))


def distrusted(heard: list[events.Event]) -> list[tuple[str, str]]:
    """Whose bytes were not trusted: function and key, in order."""
    return [(event.name, event.key) for event in heard if event.kind == "untrusted"]


def test_each_forged_wake_up_is_counted_and_the_first_is_logged(
    waiting: Waiting, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By function and key, and by the reason: neither the value nor the argument is in the log."""
    monkeypatch.setattr(events, "_said", set())
    heard: list[events.Event] = []
    stop = events.listen(heard.append)
    try:
        result = waiting.begin()
        token, number = str(result.task_id), waiting.number
        key = waiting.invocation(number).key
        forged = [
            waiting.sealed(number, token, "canary", FORGER),
            waiting.sealed(number, token, "canary", None),
            waiting.sealed(number, new_token(), "canary", SECRET),
            waiting.sealed(10**6, token, "canary", SECRET),
            waiting.sealed(number, token, "canary", SECRET)[:-3],
        ]
        for count, wrong in enumerate(forged, 1):
            waiting.say(token.encode() + wrong)
            wait_until(lambda count=count: len(distrusted(heard)) == count, "the count")  # type: ignore[misc]  # no type for it
        waiting.finish(result, number)
        assert -number == result(timeout=20)
    finally:
        stop()

    assert [("waiting.negative", key)] * len(forged) == distrusted(heard)
    said = [record.getMessage() for record in caplog.records if record.name == "taskcache"]
    assert ["taskcache: an entry of waiting.negative is not readable here"] == [
        line.partition(" and ")[0] for line in said
    ]
    assert "canary" not in caplog.text


@fuzz(60)
@given(data=st.data())
def test_fuzz_no_wake_up_settles_a_wait(waiting: Waiting, data: st.DataObject) -> None:
    """Whatever is said, by whoever may publish, to whichever token."""
    result = waiting.begin()
    token = str(result.task_id)
    good = token.encode() + waiting.sealed(waiting.number, token, 666, SECRET)
    message = data.draw(
        st.one_of(
            st.binary(max_size=120),
            st.binary(max_size=120).map(lambda rest: token.encode() + b"?" + rest),
            damaged([good]),
        )
    )

    assert is_undisturbed(waiting, result, message)


async def test_a_coroutine_is_not_disturbed_either(waiting: Waiting) -> None:
    """The same for `await`."""
    result = waiting.begin()
    token, number = str(result.task_id), waiting.number
    task = asyncio.ensure_future(result.wait(timeout=20))
    waiting.say(token.encode() + waiting.sealed(number, token, 666, FORGER))
    with pytest.raises(NotReady):
        await result.wait(timeout=0.2)
    await asyncio.to_thread(waiting.finish, result, number)

    assert -number == await task


def test_a_follower_of_a_cached_function_is_not_disturbed_either(waiting: Waiting) -> None:
    """Who waits for another thread's computation believes no wake-up either."""
    gate, got = threading.Event(), []

    @waiting.cache.cached(name=f"followed-{os.urandom(4).hex()}", timeout=60)
    def followed() -> str:
        assert gate.wait(30)
        return "true"

    # Waits of earlier tests may still be there.
    before = waiting.cache.station.waiting()
    threads = [threading.Thread(target=lambda: got.append(followed())) for _ in range(2)]
    for thread in threads:
        thread.start()
    place = followed.invocation((), {})
    wait_until(lambda: waiting.cache.station.waiting() > before, "a follower")
    token = waiting.anybody.hget(place.place().flight, "token").decode()
    codec = Codec(Settings(secrets=(FORGER.encode(),)))
    head: dict[str, Any] = {"created_ms": 1, "fresh_ms": 1, "cost_ms": 0, "label_bytes": place.label_bytes}
    waiting.say(token.encode() + codec.seal(place.redis_key, "forged", token=token_bytes(token), **head))
    stays(lambda: not got, "nobody's wait being over", 0.3)
    gate.set()
    for thread in threads:
        thread.join(20)

    assert ["true", "true"] == got


def test_a_forged_outcome_is_said_to_be_unreadable(waiting: Waiting) -> None:
    """Who may write can end a wait; the value is not believed, and the error says what does not fit."""
    result = waiting.begin()
    token = str(result.task_id)
    forged = waiting.sealed(waiting.number, token, 666, FORGER)
    waiting.anybody.set(waiting.invocation(waiting.number).place().outcome(token), forged, px=5_000)
    waiting.say(token.encode() + forged)

    with pytest.raises(ComputationLost, match="TASKCACHE_SECRET"):
        result(timeout=20)


@pytest.mark.parametrize("token", [b"\xff\xfe", b"not a token", b"x" * 5_000])
def test_a_flight_with_a_forged_name_hangs_nobody(waiting: Waiting, token: bytes) -> None:
    """A flight that no election has made is waited for as for a dead one, and then another is led."""
    waiting.number += 1
    place = waiting.invocation(waiting.number).place()
    waiting.anybody.hset(place.flight, mapping={"token": token, "state": b"\xff", "owner": "x", "progress": b"\xc1"})
    waiting.anybody.pexpire(place.flight, 1_000)
    result = waiting.function(waiting.number)
    assert result.progress.done == 0
    waiting.anybody.delete(place.flight)
    wait_until(lambda: waiting.anybody.hget(place.flight, "state") == b"queued", "another flight", 20)
    own = waiting.anybody.hget(place.flight, "token").decode()
    assert calling.claim_here(
        waiting.function,
        waiting.cache.station,
        waiting.invocation(waiting.number),
        own,
        lambda: ((waiting.number,), {}),
    )

    assert -waiting.number == result(timeout=20)


def test_without_a_secret_whoever_may_publish_is_believed(server: ValkeyNode) -> None:
    """No signature, no proof: the reason to set a secret wherever others can reach the server (docs/security.md)."""
    waiting = Waiting(server.url(), None)
    result = waiting.begin()
    token = str(result.task_id)
    waiting.say(token.encode() + waiting.sealed(waiting.number, token, 666, None))

    assert 666 == result(timeout=20)
    waiting.close()
