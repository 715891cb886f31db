"""This is where we decide how a cache is set up; the environment is read here and nowhere else."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any, Final, Literal

from msgspec import Struct
from msgspec.structs import replace

from taskcache.errors import UsageError


class Forever:
    """The lifetime of an entry that never expires."""

    def __repr__(self) -> str:
        return "FOREVER"

    def __reduce__(self) -> str:
        return "FOREVER"


FOREVER: Final = Forever()
Duration = float | int | timedelta
Lifetime = Duration | Forever

# Milliseconds as the scripts take them: PERSIST is "no expiry", 0 is "do not store".
PERSIST: Final = -1
# A hundred years. Servers count in 64 bits from 1970 and refuse what goes over them, in the middle of a call.
LONGEST_MS: Final = 3_155_760_000_000


def to_ms(duration: object, option: str) -> int:
    """Convert seconds or a timedelta to whole milliseconds, at least one for any positive duration."""
    seconds = duration.total_seconds() if isinstance(duration, timedelta) else duration
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise UsageError(f"{option}={duration!r} is not a duration; pass seconds or a timedelta")
    if seconds < 0 or seconds != seconds or seconds == float("inf"):
        raise UsageError(f"{option}={duration!r} must be zero or more seconds; pass FOREVER for a lifetime without end")
    if seconds * 1000 > LONGEST_MS:
        raise UsageError(f"{option}={duration!r} is more than a hundred years; pass FOREVER for a lifetime without end")
    return max(1, round(seconds * 1000)) if seconds else 0


def lifetime_ms(timeout: object, option: str = "timeout") -> int:
    """Convert a lifetime to milliseconds; FOREVER is PERSIST, 0 stores nothing."""
    if isinstance(timeout, Forever):
        return PERSIST
    return to_ms(timeout, option)


class Environment(Struct, frozen=True):
    """What the process environment says; an empty string counts as unset."""

    url: str | None  # maybe with a password
    secret: str | None
    name: str | None
    debug: bool
    embedded: bool | None
    server: str | None
    # What tells us that many machines may be running this code, so that a private server would be a trap.
    fleet: str | None
    # Where this user's login session keeps sockets and the like; unset on macOS and in most containers.
    runtime_dir: str | None = None

    def __repr__(self) -> str:
        return "<Environment>"  # it holds secrets


def read_environment() -> Environment:
    """Read every variable taskcache knows, once, at the edge."""
    get = os.environ.get
    embedded = get("TASKCACHE_EMBEDDED") or None
    fleet = None
    if get("KUBERNETES_SERVICE_HOST"):
        fleet = "Kubernetes"
    elif get("SERVER_SOFTWARE", "").startswith("gunicorn"):
        fleet = "gunicorn"
    elif get("UWSGI_ORIGINAL_PROC_NAME"):
        fleet = "uWSGI"
    return Environment(
        url=get("TASKCACHE_URL") or get("REDIS_URL") or None,
        secret=get("TASKCACHE_SECRET") or None,
        name=get("TASKCACHE_NAME") or None,
        debug=_is_true(get("TASKCACHE_DEBUG")),
        embedded=None if embedded is None else _is_true(embedded),
        server=get("TASKCACHE_SERVER") or None,
        fleet=fleet,
        runtime_dir=get("XDG_RUNTIME_DIR") or None,
    )


def _is_true(text: str | None) -> bool:
    return (text or "").strip().lower() in {"1", "true", "yes", "on"}


class Settings(Struct, frozen=True):
    """How one cache behaves. Times are milliseconds unless the name says otherwise."""

    name: str = "cache"
    # How long `set` and decorators store when nothing else is said; PERSIST as walrus does.
    default_timeout_ms: int = PERSIST
    debug: bool = False
    # Keys for signing, newest first. Empty: nothing is signed and pickle is never read or written.
    secrets: tuple[bytes, ...] = ()
    codec: Literal["auto", "safe", "pickle"] = "auto"
    # Below 4 KiB compressing costs more than it saves, on loopback and on 1 Gbit (facts/performance).
    compress_above_bytes: int = 4096
    # A running leader is renewed every lease / 5, so one lost and one slow renewal do not end it.
    lease_ms: int = 5_000
    # A queued flight lives this long without a waiter; waiters extend it.
    queued_ms: int = 60_000
    # How long the leader may take to report that the message was sent before a waiter sends it again.
    unsent_ms: int = 5_000
    # How long an outcome stays for waiters that missed the wake-up: many watchdog periods.
    linger_ms: int = 15_000
    error_linger_ms: int = 60_000
    # One look at every waited flight per second bounds what a lost wake-up costs.
    watchdog_ms: int = 1_000
    # Size × waiters above which wake-ups carry no value, so that a herd does not fill output buffers.
    inline_bytes: int = 65_536
    # A flight may die this often under its leaders before its waiters are told.
    max_deaths: int = 3
    # How long a finished value is offered to a server that is away before it is given up.
    publish_patience_ms: int = 30_000
    transport: Literal["auto", "redis-py"] = "auto"
    # What a process keeps near of one cache: enough for the hot keys of a web process, small beside its own memory.
    near_entries: int = 10_000
    near_bytes: int = 64 * 2**20

    def __repr__(self) -> str:
        return f"<Settings of {self.name!r}>"  # without the secrets

    def __post_init__(self) -> None:
        name: object = self.name  # what the annotations say is not what everybody passes
        if not isinstance(name, str):
            raise UsageError(f"name={name!r}: a cache name is a str; write name={str(name)!r}")
        if not self.name or any(sign in self.name for sign in "{}~") or self.name.isspace():
            raise UsageError(f"name={self.name!r}: a cache name is not empty and has none of the signs {{ }} ~")
        if self.codec not in ("auto", "safe", "pickle"):
            raise UsageError(f"codec={self.codec!r}: choose 'auto', 'safe' or 'pickle'")
        if self.codec == "pickle" and not self.secrets:
            raise UsageError("codec='pickle' needs a secret: pass Cache(secret=...) or set TASKCACHE_SECRET")
        if self.transport not in ("auto", "redis-py"):
            raise UsageError(f"transport={self.transport!r}: choose 'auto' or 'redis-py'")
        if type(self.compress_above_bytes) is not int or self.compress_above_bytes < 0:
            raise UsageError(f"compress_above={self.compress_above_bytes!r}: pass a number of bytes, or None for never")
        if self.lease_ms < 100:
            raise UsageError(f"lease of {self.lease_ms} ms is shorter than a renewal can be; use 0.1 s or more")

    def without_secrets(self) -> Settings:
        """These settings as they may travel; the other process has secrets of its own."""
        return replace(self, secrets=(), codec="auto" if self.codec == "pickle" else self.codec)


def check_app(app: Any) -> Any:
    """The Celery app that a cache was given, or its name; a name is resolved when it is needed."""
    if app is not None and not isinstance(app, str) and not hasattr(app, "send_task"):
        raise UsageError(f"app={app!r}: pass a Celery app, or its name as for `celery -A`")
    return app


def parse_secrets(secret: str | bytes | None) -> tuple[bytes, ...]:
    """Split "new,old" into signing keys, newest first, each of 16 bytes or more; bytes are one key, whatever they hold."""
    given: object = secret
    if not given:
        return ()
    if isinstance(given, bytes):
        parts = [given]
    elif isinstance(given, str):
        # A variable of the environment holds bytes, of which Python makes text that gives them back.
        parts = [part.strip() for part in given.encode("utf-8", "surrogateescape").split(b",")]
    else:
        raise UsageError(f"the signing secret is of type {type(given).__name__}; pass a str or bytes")
    secrets = tuple(filter(None, parts))
    if not secrets:
        # Whoever gave one wants signatures: without a word, everything would go unsigned.
        raise UsageError("the signing secret is empty; give one of 16 bytes or more, or none: unset TASKCACHE_SECRET")
    if any(len(part) < 16 for part in secrets):
        raise UsageError(
            "a signing secret is shorter than 16 bytes; make one with "
            "`python -c 'import secrets; print(secrets.token_urlsafe(32))'`"
        )
    return secrets
