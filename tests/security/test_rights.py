"""This is where the rights of `deploy/users.acl` are proven: enough for everything a cache does, and not one too many."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator

import pytest

from taskcache import NoServer
from tests.deploy.files import DEPLOY
from tests.deploy.servers import GuardedValkey
from tests.nodes.server import ValkeyNode
from tests.nodes.waiting import wait_until
from tests.nodes.workers import WorkerNode
from tests.security.actions import ACTIONS, Caller
from tests.security.conftest import APP
from tests.security.vault import SECRET


def granted() -> list[str]:
    """The commands that the file grants to `taskcache`."""
    text = (DEPLOY / "users.acl").read_text()
    block = text.partition("user taskcache\n")[2].partition("\nuser ")[0]
    lines = [line for line in block.splitlines() if not line.lstrip().startswith("#")]
    return re.findall(r"\+([\w|]+)", "\n".join(lines))


@pytest.fixture(scope="module")
def server() -> Iterator[GuardedValkey]:
    """The cache with the users of the file."""
    with GuardedValkey("taskcache") as node:
        assert isinstance(node, GuardedValkey)
        yield node


@pytest.fixture(scope="module")
def caller(server: GuardedValkey) -> Iterator[Caller]:
    """A caller and a worker that have the rights of the file at the cache, and a broker of their own."""
    with ValkeyNode() as broker:
        env = {
            "ATTACKED_CACHE": server.url_for("taskcache"),
            "ATTACKED_BROKER": broker.celery_url(),
            "ATTACKED_LEDGER": broker.url(1),
            "ATTACKED_SECRET": SECRET,
        }
        with WorkerNode(APP, pool="threads", concurrency=8, env=env):
            caller = Caller(env)
            yield caller
            caller.close()


def refused_in(server: GuardedValkey, caller: Caller) -> tuple[set[str], str]:
    """Do everything a cache does, in new connections; what was refused first, and what went wrong."""
    caller.cache.close()
    for action in ACTIONS:
        problem = _run(lambda action=action: action(caller), server)  # type: ignore[misc]  # a lambda's default
        if refused := refusals(server):
            return refused, f"{action.__name__}: {problem}"
        if problem:
            return set(), f"{action.__name__}: {problem}"
    return set(), ""


def settle(caller: Caller) -> None:
    """Wait until the caller, which leaves a server alone that has refused it, asks again."""

    def is_served() -> bool:
        try:
            return caller.cache.get("nothing", "served") == "served"
        except NoServer:
            return False

    wait_until(is_served, "the caller to ask again", 20)


def refusals(server: GuardedValkey) -> set[str]:
    """The commands that the server has refused to anybody."""
    words = [entry["object"] for entry in server.refused()]
    return {word.decode() if isinstance(word, bytes) else str(word) for word in words}


def _run(action: Callable[[], None], server: GuardedValkey) -> str:
    """Without its rights an action may go on trying: the refusal in the server's log is enough."""
    failed: list[str] = []

    def act() -> None:
        try:
            action()
        except Exception as error:
            failed.append(f"{type(error).__name__}: {error}")

    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    wait_until(lambda: not thread.is_alive() or refusals(server), "the action to end", 60)
    # With its rights back it comes to its end, so that the next one is not disturbed.
    if thread.is_alive():
        restore(server)
        thread.join(60)
    return "".join(failed)


def restore(server: GuardedValkey, *rules: str) -> None:
    """Give the user what the file says, with a change or none; what was refused stays on record."""
    with server.client() as admin:
        admin.execute_command("ACL", "SETUSER", "taskcache", *(f"+{command}" for command in granted()), *rules)


def begin(server: GuardedValkey, *rules: str) -> None:
    """The same on a server that has refused nothing and knows no script."""
    with server.client() as admin:
        admin.script_flush()
        restore(server, *rules)
        admin.acl_log_reset()


def test_nothing_that_a_cache_does_is_refused(server: GuardedValkey, caller: Caller) -> None:
    """Plain keys, functions, near values, workers, tags, retries, progress, cancellation, listing, the command line."""
    begin(server)
    settle(caller)

    assert (set(), "") == refused_in(server, caller)


@pytest.mark.parametrize("command", granted())
def test_no_right_can_be_dropped(server: GuardedValkey, caller: Caller, command: str) -> None:
    """Without this one, something that a cache does is refused."""
    restore(server)
    settle(caller)
    begin(server, f"-{command}")
    try:
        refused, problem = refused_in(server, caller)
    finally:
        restore(server)

    assert command in refused, f"{command} is granted in users.acl and nothing needs it ({refused} {problem})"
