"""This is where the few words are that the application of the faults shares with those who watch it."""

from __future__ import annotations

import os
from typing import Final

# Short, so that a row that has to wait for a lease does not take long; the library's own default is 5 s.
LEASE_S: Final = float(os.environ.get("FAULTS_LEASE", "2"))
BRIEF_LEASE_S: Final = 1.0
# Longer than any row that has it may take: there a lease that lapsed cannot pass for one that was given back.
LONG_LEASE_S: Final = 30.0


def twin_of(name: str) -> str:
    """The name under which the plain Celery task of a function enters the ledger."""
    return f"{name}~celery"
