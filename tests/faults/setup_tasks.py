"""This is where the functions are that pytest-celery's own worker gets; its app is not ours, so they are shared tasks."""

from __future__ import annotations

import os

from taskcache import Cache
from tests.faults.words import LEASE_S
from tests.with_celery.apps.ledger import Ledger

ledger = Ledger(os.environ["FAULTS_SETUP_LEDGER"])
cache = Cache(os.environ["FAULTS_SETUP_CACHE"], name="setup", lease=LEASE_S)


@cache.cache_async(timeout=60)
def setup_held(name: str) -> str:
    """Wait for the gate; the value says which run it was."""
    run = ledger.enter(name)
    ledger.hold(name)
    return f"{name} {run}"
