"""This is where the workers are configured: addresses from the environment, the rest as POOLS.md recommends and explains."""

from __future__ import annotations

import os

# Addresses. Without any, a server on this machine: a laptop with Redis or Valkey on it is a deployment of one.
# In production the broker is a server of its own: a cache may evict, and a broker must not (deploy/compose.yaml).
cache_url = os.environ.get("TASKCACHE_URL") or "redis://localhost:6379/0"
broker_url = os.environ.get("CELERY_BROKER_URL") or "redis://localhost:6379/1"
result_backend = os.environ.get("CELERY_RESULT_BACKEND") or "redis://localhost:6379/2"
broker_connection_retry_on_startup = True

# A worker or a child that dies gives its message back. Twice delivered is not twice computed: the flight sees to it.
task_acks_late = True
task_reject_on_worker_lost = True
# Nobody sits on messages that others could run.
worker_prefetch_multiplier = 1
broker_transport_options = {
    # Above the longest body, retry countdown and ETA, else work that is still running is delivered again.
    "visibility_timeout": 3600,
    # How soon the messages of a dead worker are looked for; with the default throttle of 10 it would be after 100 s.
    "unacked_restore_interval": 10,
    "unacked_restore_throttle": 1,
}

# Prefork only. Longer than any body should take, shorter than what the deployment waits before it kills.
task_time_limit = 300
task_soft_time_limit = 270
worker_max_tasks_per_child = 1000

# Values go to the cache; what is here is for chords and `.delay()`, and read at once.
result_expires = 3600
# A print in a task is a line of the log, not a WARNING of Celery's.
worker_redirect_stdouts = False
# Times without a zone are UTC everywhere.
enable_utc = True
