"""This is where we run what the tests talk to: servers, workers, and a network that misbehaves."""

from __future__ import annotations

import os

# With an engine at hand, pytest-celery's own containers can be used: TASKCACHE_TEST_NODES=docker.
NODES_ARE_DOCKER = os.environ.get("TASKCACHE_TEST_NODES") == "docker"
