"""This is where a cache without an address gets its server: one private Valkey per user, shared by their processes.

The tree: `refusal` says where we start none, `binary` finds the program, `state` is the directory where processes meet,
`membership` joins or starts, `supervisor` is the process that runs the server. `worker` starts a local Celery worker,
`worker_main` is that worker's program and `leash` ends it with its owner.
"""

from __future__ import annotations

from taskcache.embedded.address import EmbeddedServer
from taskcache.embedded.refusal import refuse_where_it_would_be_a_trap

__all__ = ["EmbeddedServer", "acquire", "release"]


def acquire() -> EmbeddedServer:
    """
    Join this user's private server, or start it, and stay its user for as long as this process lives.

    May be called as often as you like, from every thread and after fork; call it again when the server has died.
    Raises NoServer with the cure where a private server cannot be had or would be a trap.
    """
    refuse_where_it_would_be_a_trap()
    # Not at the top: it needs fcntl, and Windows is to hear the refusal, not an ImportError.
    from taskcache.embedded import membership

    return membership.join_or_start()


def release() -> None:
    """Stop being a user of the private server; it ends when we were the last one."""
    from taskcache.embedded import membership

    membership.leave()
