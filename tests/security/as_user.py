"""
This is where any tests run with caches that have the rights of `deploy/users.acl`, and no more.

    python -m pytest -p tests.security.as_user tests/with_redis tests/with_celery
    python -m pytest -p tests.security.as_user --revoke +get tests/with_redis/test_cached.py     has to fail

The addresses that tests get for their caches, and hand on to workers and programs, log in as `taskcache`. What looks at
the server for a test (`client`, `node.client()`), its broker and its ledger go on as the default user, who may do all.
A test fails too when something was refused to a cache that has helped itself and said nothing.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import suppress
from typing import Any, ClassVar

import pytest
import redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from taskcache import Cache
from taskcache.protocol.stamps import glob_escape
from tests.deploy.servers import PASSWORDS, user_lines
from tests.nodes.server import ValkeyNode

# The caches of workers and programs, in the place of the file's own name; the second is what `cache_name` gives.
# Those that tests make in this process come along when they are made.
GIVEN = "cache-" + "[0-9a-f]" * 8
NAMES = ["cache", GIVEN, f"{GIVEN}-first", f"{GIVEN}-second", "shop", "fragile", "spawned", "script"]
LOGIN = f"taskcache:{PASSWORDS['taskcache']}@"

# These do with the address or the client of the cache what is no cache's work. The same things are done by others.
NO_CACHES_WORK = {
    "test_a_cut_connection_is_made_again": "kills its connections: CLIENT KILL",
    "test_a_follower_takes_over_when_the_leader_is_killed": "its program counts in keys of its own",
    "test_a_forked_child_begins_empty_with_a_connection_of_its_own": "its program looks: CLIENT LIST",
    "test_a_leader_that_takes_longer_than_its_lease_keeps_it": "looks for the flight: KEYS",
    "test_a_silent_server_ends_a_read": "reads a key of no cache",
    "test_greenlets_share_one_listener": "its program looks: CLIENT LIST",
    "test_many_are_stored_where_that_command_is_forbidden": "forbids itself a command: ACL SETUSER",
    "test_no_value_is_older_than_the_bound": "its program counts in keys of its own",
    "test_one_thousand_callers_in_eight_processes_compute_once": "its program counts in keys of its own",
    "test_threads_queue_for_as_many_connections_as_the_client_may_have": "client_name= asks for +client|setname",
    "test_who_queues_in_vain_is_told": "reads a key of no cache",
}


def rules(revoked: str = "") -> list[str]:
    """Give the file's words about its user, with its key patterns for each name, and without what is revoked."""
    words = user_lines("taskcache")[-1].split()
    assert revoked in ("", *words), f"{revoked} is no right of users.acl"
    given: list[str] = []
    for word in words:
        of_a_name = word.startswith(("~cache", "~{cache"))
        if word != revoked:
            given += [word.replace("cache", name, 1) for name in NAMES] if of_a_name else [word]
    return given


class UserNode(ValkeyNode):
    """A Valkey whose address for a cache logs in as `taskcache`; every other way to it is the default user's."""

    started: ClassVar[set[UserNode]] = set()
    revoked: ClassVar[str] = ""

    def __init__(self, **options: Any) -> None:
        config = options.get("config", ())
        # A test that is about passwords or rights has its own.
        self.has_user = not options.get("password") and not any(re.match("user |rename-", line) for line in config)
        if self.has_user:
            options["config"] = [*config, " ".join(rules(self.revoked))]
        super().__init__(**options)

    def url(self, db: int = 0) -> str:
        """Give the user's address of the cache's database, the only one where it may be: it has no SELECT."""
        plain = super().url(db)
        return plain.replace("//", f"//{LOGIN}", 1) if self.has_user and not db else plain

    def celery_url(self, db: int = 0) -> str:
        """Give the address of a broker, which is not the cache's."""
        return super().celery_url(db).replace(LOGIN, "")

    def client(self, db: int = 0) -> redis.Redis:
        """Open a client that looks."""
        client = super().client(db)
        return as_default(client) if self.has_user else client

    def start(self) -> UserNode:
        if self.has_user:
            self.started.add(self)
        super().start()
        return self

    def close(self) -> None:
        self.started.discard(self)
        super().close()

    def let_in(self) -> None:
        """Take the rules anew: a name has come."""
        with suppress(RedisConnectionError, RedisTimeoutError), self.client() as admin:
            admin.execute_command("ACL", "SETUSER", *rules(self.revoked)[1:])

    def refused(self) -> list[str]:
        """What was refused to a cache since this was asked last; nothing where the test has taken the server away."""
        with suppress(RedisConnectionError, RedisTimeoutError), self.client() as admin:
            log = [entry for entry in admin.acl_log() if entry["username"] == "taskcache"]
            admin.acl_log_reset()
            return [f"{entry['reason']} {entry['object']} ({entry['context']})" for entry in log]
        return []


def as_default(client: redis.Redis) -> redis.Redis:
    """Let a client that has not connected yet come without a login."""
    client.connection_pool.connection_kwargs.update(username=None, password=None)
    return client


def expect(name: str) -> None:
    """Let the servers know the name of a cache that this process makes."""
    pattern = glob_escape(name).decode()
    if not re.fullmatch(GIVEN, name) and pattern not in NAMES:
        NAMES.append(pattern)
        for node in list(UserNode.started):
            node.let_in()


# --- what pytest calls


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--revoke", default="", metavar="RIGHT", help="take a right of users.acl away: tests should fail")


def pytest_configure(config: pytest.Config) -> None:
    """Let the fixtures start servers that have the user, and say which caches there are."""
    UserNode.revoked = config.getoption("--revoke")
    make = Cache.__init__

    def make_and_expect(self: Cache, *args: Any, **options: Any) -> None:
        make(self, *args, **options)
        expect(self.name)

    # For as long as pytest runs, so nothing takes it back.
    patch = pytest.MonkeyPatch()
    patch.setattr(Cache, "__init__", make_and_expect)
    patch.setattr("tests.conftest.ValkeyNode", UserNode)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any]) -> Generator[None, object, object]:
    """Let the test itself look at the server as before."""
    value = yield
    if fixturedef.argname == "client" and isinstance(value, redis.Redis):
        as_default(value)
    return value


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what no cache does."""
    others = [item for item in items if item.name.partition("[")[0] in NO_CACHES_WORK]
    config.hook.pytest_deselected(items=others)
    items[:] = [item for item in items if item not in others]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Look at what was refused, before the test's own servers go."""
    try:
        yield
    finally:
        # Asked in any case: the next test is not to blame.
        refused = [word for node in list(UserNode.started) for word in node.refused()]
        if refused:
            item.add_report_section("call", "refused", "\n".join(refused))
    assert [] == refused, "refused to the cache"
