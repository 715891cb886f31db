"""This is where the functions of the soak are: each value says which version of its source its body has read."""

from __future__ import annotations

import asyncio
import os
import random
import time
from typing import Any

import redis
from celery import Celery
from redis.asyncio import Redis as AsyncRedis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from taskcache import BoundCall, Cache, progress
from tests.soak.words import LEASE_S, TAGS, TIMEOUT_S

app: Any = Celery("soak", broker=os.environ["SOAK_BROKER"], backend=os.environ["SOAK_BACKEND"])
app.conf.update(
    task_default_queue="soak",
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    result_expires=60,
    worker_cancel_long_running_tasks_on_connection_loss=False,
)
cache = Cache(os.environ["SOAK_CACHE"], name="soak", app=app, secret=os.environ["SOAK_SECRET"], lease=LEASE_S)
# Nothing befalls this server: versions of the sources, and how far their invalidations have returned.
truth = redis.Redis.from_url(os.environ["SOAK_TRUTH"], socket_timeout=30, retry=Retry(ExponentialBackoff(1, 0.05), 20))

Value = list[int]


class Failed(Exception):
    """An error of a body, with the version it has read."""

    def __init__(self, source: int, version: int) -> None:
        super().__init__(source, version)
        self.source, self.version = source, version


class Again(Failed):
    """An error of a body that is worth another try."""


def version_of(source: int) -> int:
    return int(truth.get(f"version:{source}") or 0)


def tag_of(source: int) -> str:
    return f"rack{source % TAGS}"


def _read(source: int) -> Value:
    """What every body does: read its source, take a while, sometimes fail."""
    version = version_of(source)
    time.sleep(random.choice((0.0, 0.005, 0.02, 0.1, 0.5 if random.random() < 0.1 else 0.0)))
    if random.random() < 0.02:
        raise Failed(source, version)
    return [source, version]


@cache.cache_async(timeout=TIMEOUT_S, tags=lambda source: (tag_of(source),))
def page(source: int) -> Value:
    progress(1, 2)
    return _read(source)


@cache.cache_async(timeout=TIMEOUT_S, acks_late=True, reject_on_worker_lost=True)
def late(source: int) -> Value:
    return _read(source)


@cache.cache_async(timeout=TIMEOUT_S, autoretry_for=(Again,), default_retry_delay=0.2, max_retries=3)
def retried(source: int) -> Value:
    if random.random() < 0.3:
        raise Again(source, version_of(source))
    return _read(source)


@cache.cache_async(timeout=TIMEOUT_S, revoke_when_abandoned=True)
async def slow(source: int) -> Value:
    # A client of its own: under gevent a coroutine has a hub of its own, and what another has opened breaks there.
    async with AsyncRedis.from_url(os.environ["SOAK_TRUTH"], socket_timeout=30) as own:
        version = int(await own.get(f"version:{source}") or 0)
    await asyncio.sleep(random.random() / 4)
    return [source, version]


@cache.cache_async(timeout=TIMEOUT_S, store_if=lambda value: False)
def unstored(source: int) -> Value:
    return _read(source)


@cache.cached(timeout=TIMEOUT_S)
def here(source: int) -> Value:
    return _read(source)


@cache.cached(timeout=TIMEOUT_S, tags=lambda source: (tag_of(source),))
async def here_async(source: int) -> Value:
    version = version_of(source)
    await asyncio.sleep(random.random() / 20)
    return [source, version]


@cache.cache_async(timeout=TIMEOUT_S, batch=True)
def together(calls: list[BoundCall]) -> list[Value | Failed]:
    sources = [call.args[0] for call in calls]
    time.sleep(random.random() / 20)
    return [
        Failed(source, version_of(source)) if random.random() < 0.02 else [source, version_of(source)]
        for source in sources
    ]


@cache.cache_async(timeout=TIMEOUT_S, near=4, tags=lambda source: (tag_of(source),))
def shelf(source: int) -> Value:
    return _read(source)


@cache.cached(timeout=TIMEOUT_S, near=True)
def near(source: int) -> Value:
    return _read(source)


@cache.cached(timeout=TIMEOUT_S, near=True)
async def near_async(source: int) -> Value:
    version = version_of(source)
    await asyncio.sleep(random.random() / 20)
    return [source, version]


QUEUED: tuple[Any, ...] = (page, late, retried, slow, unstored, together, shelf)
HERE: tuple[Any, ...] = (here, near)
IN_LOOP: tuple[Any, ...] = (here_async, near_async)
EVERY: tuple[Any, ...] = (*QUEUED, *HERE, *IN_LOOP)
TAGGED = (page, shelf, here_async)
NEAR = (shelf, near, near_async)
