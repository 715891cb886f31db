"""This is where we start Valkeys that have the users of `deploy/users.acl`."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.deploy.files import DEPLOY, run
from tests.nodes import guard
from tests.nodes.server import ValkeyNode

PASSWORDS = {"taskcache": "p-taskcache", "celery": "p-celery", "operator": "p-operator"}


def environment(*users: str) -> dict[str, str]:
    """Give an environment with the passwords of `users`, as Compose gives it to one server."""
    return {"PATH": os.environ["PATH"]} | {f"{user.upper()}_PASSWORD": PASSWORDS[user] for user in users}


def user_lines(*users: str) -> list[str]:
    """Let the start script print the lines it would give to the server."""
    done = run("sh", DEPLOY / "valkey-start.sh", env=environment(*users) | {"VALKEY_SERVER": "cat"})
    assert (0, "") == (done.returncode, done.stderr)
    return done.stdout.splitlines()


class GuardedValkey(ValkeyNode):
    """A Valkey with the users of the file, and an `admin` who can look at what was refused."""

    def __init__(self, *users: str) -> None:
        super().__init__(
            config=[*user_lines(*users), "user admin on >p-admin ~* &* +@all"], username="admin", password="p-admin"
        )

    def login(self, user: str, password: str | None = None) -> redis.Redis:
        """Open a client as one of the users."""
        return redis.Redis(
            port=self.port,
            username=user,
            password=password or PASSWORDS[user],
            retry=Retry(NoBackoff(), 0),
            socket_timeout=10,
        )

    def url_for(self, user: str, db: int = 0) -> str:
        """Give the address with the login of one of the users."""
        return f"redis://{user}:{PASSWORDS[user]}@127.0.0.1:{self.port}/{db}"

    def allows(self, user: str, *command: str) -> bool:
        """Ask the server whether it would let `user` do this, without doing it."""
        with self.client() as admin:
            answer: object = admin.execute_command("ACL DRYRUN", user, *command)
            return answer in (b"OK", True)

    def refused(self) -> list[dict[str, Any]]:
        """Give what was refused so far."""
        with self.client() as admin:
            return [dict(entry) for entry in admin.acl_log()]


class ScriptedValkey(ValkeyNode):
    """A Valkey started by the start script itself, with the options the Compose file gives it."""

    def __init__(self, options: Sequence[str], *users: str) -> None:
        super().__init__(username="operator", password=PASSWORDS["operator"])
        self.options = options
        self.users = users

    def _launch(self) -> None:
        binary = self.binary()
        assert binary is not None
        # The last word on an option wins, so what the machine of the test needs comes last.
        ours = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder)]
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                ["sh", DEPLOY / "valkey-start.sh", *self.options, *ours],
                env=environment(*self.users) | {"VALKEY_SERVER": binary},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        guard.watch(self._process.pid)
