"""This is where we check that the private server's app is not led away by variables meant for another app."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskcache.embedded.state import runtime_directory
from taskcache.launchers.local import _ours, make_app


def test_the_local_app_keeps_its_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Celery puts CELERY_BROKER_URL above what an app was given; functions by value must not go there."""
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://elsewhere:6379/0")
    app = make_app("redis://127.0.0.1:7777/1", "queue")
    with app.connection_for_write() as sends, app.connection_for_read() as takes:
        assert [("127.0.0.1", 7777)] * 2 == [(sends.hostname, sends.port), (takes.hostname, takes.port)]


def test_a_local_worker_is_led_away_by_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It joins the server that its owner stands on, whatever addresses and directories were set since."""
    names = ("REDIS_URL", "TASKCACHE_URL", "CELERY_BROKER_READ_URL")
    for name in names:
        monkeypatch.setenv(name, "redis://elsewhere:6379/0")
    ours = _ours()
    place = ours.get("XDG_RUNTIME_DIR") or ours.get("TMPDIR")

    assert [None, None, None] == [ours[name] for name in names]
    assert place is not None
    assert runtime_directory().parent == Path(place)
