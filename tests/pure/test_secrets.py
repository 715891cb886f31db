"""This is where secrets are read: one or several as text, one as bytes, and nothing that looks like one and is none."""

from __future__ import annotations

import os

import pytest

from taskcache import Cache, UsageError
from taskcache.launchers.local import _as_text
from taskcache.settings import parse_secrets

NEW, OLD = "a new secret of sixteen", "an old secret of sixteen"


def test_text_holds_one_secret_or_several() -> None:
    """Newest first; spaces and empty parts around commas are nothing."""
    assert (NEW.encode(),) == parse_secrets(NEW)
    assert (NEW.encode(), OLD.encode()) == parse_secrets(f" {NEW} , {OLD},")


def test_an_environment_may_hold_bytes_that_are_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python gives them as text of its own; the secret is what was written."""
    monkeypatch.setitem(os.environb, b"TASKCACHE_SECRET", b"\xff" * 16)

    assert (b"\xff" * 16,) == Cache("redis://127.0.0.1:1/0").settings.secrets


def test_bytes_are_one_secret() -> None:
    """Random bytes hold commas and spaces too; they are no signs there."""
    assert (b" sixteen,random bytes\n",) == parse_secrets(b" sixteen,random bytes\n")


@pytest.mark.parametrize("secret", [None, "", b""])
def test_no_secret_is_none(secret: str | bytes | None) -> None:
    """As an empty variable counts as unset, `Cache(secret=os.environ.get(...))` may be given nothing."""
    assert () == parse_secrets(secret)


@pytest.mark.parametrize("secret", [" ", ",", " , ,"])
def test_a_secret_that_is_none_is_refused(secret: str) -> None:
    """It would leave everything unsigned without a word."""
    with pytest.raises(UsageError, match="secret is empty"):
        Cache(secret=secret)


@pytest.mark.parametrize("secret", [" ", ","])
def test_an_environment_without_a_secret_in_it_is_refused(secret: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is set to nothing counts as unset; one that holds only signs is a mistake."""
    monkeypatch.setenv("TASKCACHE_SECRET", "")
    assert () == Cache("redis://127.0.0.1:1/0").settings.secrets

    monkeypatch.setenv("TASKCACHE_SECRET", secret)
    with pytest.raises(UsageError, match="TASKCACHE_SECRET"):
        Cache("redis://127.0.0.1:1/0")


@pytest.mark.parametrize(
    "secret", [b"sixteen,random bytes", b" spaces around it all ", b"sixteen\0random bytes", b"\xff" * 16]
)
def test_what_no_text_can_hold_does_not_go_to_the_local_worker(secret: bytes) -> None:
    """It would get another secret there; the error says what to write instead."""
    assert f"{NEW},{OLD}" == _as_text((NEW.encode(), OLD.encode()))
    with pytest.raises(UsageError, match="hex"):
        _as_text((secret,))
