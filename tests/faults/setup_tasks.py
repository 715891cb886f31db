"""This is where the functions are that pytest-celery's own worker gets; its app is not ours, so they are shared tasks."""

from __future__ import annotations

import os

from celery.exceptions import Ignore, Reject

from taskcache import Cache
from tests.faults.words import LEASE_S, LONG_LEASE_S
from tests.with_celery.apps.ledger import Ledger

ledger = Ledger(os.environ["FAULTS_SETUP_LEDGER"])
cache = Cache(os.environ["FAULTS_SETUP_CACHE"], name="setup", lease=LEASE_S)
# With a lease that no test waits out.
patient = Cache(os.environ["FAULTS_SETUP_CACHE"], name="setup-patient", lease=LONG_LEASE_S)


def run(name: str) -> str:
    """Wait for the gate; the value says which run it was."""
    number = ledger.enter(name)
    ledger.hold(name)
    return f"{name} {number}"


@cache.cache_async(timeout=60)
def setup_held(name: str) -> str:
    return run(name)


@patient.cache_async(timeout=60)
def setup_long_held(name: str) -> str:
    return run(name)


@patient.cache_async(timeout=60, acks_late=True, reject_on_worker_lost=True)
def setup_redelivered(name: str) -> str:
    return run(name)


@patient.cache_async(timeout=60, time_limit=1)
def setup_limited(name: str) -> str:
    return run(name)


@patient.cache_async(timeout=60, soft_time_limit=1)
def setup_softly_limited(name: str) -> str:
    return run(name)


@patient.cache_async(timeout=60)
def setup_rejected(name: str) -> str:
    raise Reject(run(name))


@patient.cache_async(timeout=60)
def setup_ignored(name: str) -> str:
    raise Ignore(run(name))


@patient.cache_async(timeout=60)
def setup_nested(name: str) -> str:
    return setup_held(name)(timeout=LONG_LEASE_S)
