"""This is where the workers' Celery app is made: configured from settings, with the tasks of this package."""

from __future__ import annotations

from celery import Celery

# `include`, not an import: the tasks need the app, and Celery imports them once it is there.
app = Celery("workers", include=["workers.tasks"])
app.config_from_object("workers.settings")
