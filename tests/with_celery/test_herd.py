"""This is where a thousand callers in eight processes want one cold key at the same moment."""

from __future__ import annotations

from contextlib import ExitStack
from types import ModuleType

import pytest
import redis

from taskcache.protocol.entry import EntryKey
from tests.nodes.prompt import Prompt
from tests.nodes.waiting import wait_until

pytestmark = pytest.mark.usefixtures("shop", "worker")

PROCESSES, THREADS = 8, 125


def test_a_thousand_callers_compute_once(shop: ModuleType, client: redis.Redis, name: str) -> None:
    """One execution, a thousand equal values; the gate of the body opens when all eight processes wait."""
    flight = EntryKey.of(shop.cache.make_key(shop.gated.key_for(name)).encode()).flight
    with ExitStack() as stack:
        prompts = [
            stack.enter_context(Prompt("from tests.with_celery.apps.herd import stampede")) for _ in range(PROCESSES)
        ]
        for prompt in prompts:
            prompt.say(f"stampede({name!r}, {THREADS})")
        shop.ledger.wait_runs(f"{name}:ready", PROCESSES, timeout=60)
        shop.ledger.open(f"{name}:go")
        wait_until(lambda: PROCESSES == len(_inboxes(client, flight)), "all processes to wait", 60)
        shop.ledger.open(name)
        answers = [prompt.answer() for prompt in prompts]

    assert [{f"{name} 1": THREADS}] * PROCESSES == answers
    assert 1 == shop.ledger.runs(name)


def _inboxes(client: redis.Redis, flight: bytes) -> list[bytes]:
    fields: list[bytes] = client.hkeys(flight)  # type: ignore[assignment]  # the synchronous client
    return [field for field in fields if field.startswith(b"w:")]
