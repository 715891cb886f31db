"""This is where we say how a private server is reached."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class EmbeddedServer:
    """A running private server that this process is a user of."""

    url: str = field(repr=False)  # with the password
    # The broker's messages and the cache's entries do not share a database, so that flushing one keeps the other.
    broker_url: str = field(repr=False)
    # Shared by this user's processes: what they sign with it, they trust.
    secret: bytes = field(repr=False)
    pid: int
    supervisor_pid: int
    port: int
