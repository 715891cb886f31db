"""This is where a Celery application stands that is wired as the documentation tells users to: `celery -A workers worker`.

Which pool to choose is in POOLS.md, how it is deployed in deploy/.
"""

from __future__ import annotations

from workers.celery import app

__all__ = ["app"]
