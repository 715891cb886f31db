"""This is where we check that the private server's app is not led away by variables meant for another app."""

from __future__ import annotations

import pytest

from taskcache.launchers.local import make_app


def test_the_local_app_keeps_its_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Celery puts CELERY_BROKER_URL above what an app was given; functions by value must not go there."""
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://elsewhere:6379/0")
    app = make_app("redis://127.0.0.1:7777/1", "queue")
    with app.connection_for_write() as sends, app.connection_for_read() as takes:
        assert [("127.0.0.1", 7777)] * 2 == [(sends.hostname, sends.port), (takes.hostname, takes.port)]
