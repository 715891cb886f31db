"""This is where the soak's runner, its clients and its workers agree on names and bounds."""

from __future__ import annotations

# Short, so that a minute sees many takeovers.
LEASE_S = 2.0
TIMEOUT_S = 6
# How long a call may take to end with a value or a typed error, whatever befalls it. A worker that is killed takes the
# messages with it that it had fetched; waiters send them again after 60 s (queued_ms), and a second time after 120 s.
BOUND_S = 190.0
# Longer than everything but such a loss.
LONG_S = 30.0
SOURCES = 16
CLIENTS = 8
TAGS = 4
APP = "tests.soak.app"
SECRET = "a secret of the soak and long enough"
