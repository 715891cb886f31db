"""This is where we hold the users of `deploy/users.acl` to what they need and no more, on a real Valkey."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.exceptions import AuthenticationError, NoPermissionError

from tests.deploy.files import DEPLOY, ROOT, run
from tests.deploy.servers import PASSWORDS, GuardedValkey

SCRIPTS = sorted((ROOT / "taskcache/protocol/lua").glob("*.lua"))
KEY, FLIGHT = "cache:shop.render:1a2b", "{cache:shop.render:1a2b}:flight"

# Arguments that make a command complete, for the server checks how many there are before it checks who asks.
ARGUMENTS = {
    "DEL": (KEY,),
    "EXISTS": (KEY,),
    "GET": (KEY,),
    "GETRANGE": (KEY, "0", "17"),
    "HDEL": (FLIGHT, "f"),
    "HEXISTS": (FLIGHT, "f"),
    "HGET": (FLIGHT, "f"),
    "HGETALL": (FLIGHT,),
    "HKEYS": (FLIGHT,),
    "HMGET": (FLIGHT, "f"),
    "HSET": (FLIGHT, "f", "v"),
    "HSETNX": (FLIGHT, "f", "v"),
    "INCRBY": (KEY, "1"),
    "MGET": (KEY, "cache~f"),
    "PERSIST": ("cache~fn:shop.render",),
    "PEXPIRE": (FLIGHT, "5000"),
    "PTTL": (KEY,),
    "PUBLISH": ("taskcache:inbox:7f", "m"),
    "RENAME": (FLIGHT, "{cache:shop.render:1a2b}:retired:7f"),
    "SET": (KEY, "v", "PX", "5000"),
    "TIME": (),
    "UNLINK": (KEY,),
    "SCAN": ("0",),
    "SUBSCRIBE": ("taskcache:inbox:7f",),
    "PING": (),
    "EVALSHA": ("0" * 40, "1", KEY),
    "SCRIPT": ("LOAD", "return 1"),
    "CLIENT": ("SETINFO", "LIB-NAME", "n"),
    "MSETEX": ("1", KEY, "v", "PX", "5000"),
    "MULTI": (),
    "EXEC": (),
}


@pytest.fixture(scope="module")
def server() -> Iterator[GuardedValkey]:
    """A Valkey that knows all three users."""
    with GuardedValkey(*PASSWORDS) as node:
        assert isinstance(node, GuardedValkey)
        yield node


@pytest.fixture(scope="module")
def taskcache_user(server: GuardedValkey) -> Iterator[redis.Redis]:
    """A client with the rights of a cache."""
    with server.login("taskcache") as client:
        yield client


def test_the_server_knows_exactly_the_users_of_the_file(server: GuardedValkey) -> None:
    """Nobody is there but the file's users (and the test's admin), each on, with one hashed password."""
    with server.client() as admin:
        users = {name: admin.acl_getuser(name) for name in admin.acl_users()}

    assert {"default", "admin", *PASSWORDS} == users.keys()
    for name in PASSWORDS:
        assert (True, 1) == (
            b"on" in users[name]["flags"] or "on" in users[name]["flags"],
            len(users[name]["passwords"]),
        )


def test_nobody_gets_in_without_a_login(server: GuardedValkey) -> None:
    """The default user is off, and a wrong password is refused."""
    with redis.Redis(port=server.port) as nobody, pytest.raises(AuthenticationError):
        nobody.ping()
    with server.login("taskcache", "wrong") as client, pytest.raises(AuthenticationError):
        client.ping()


def test_a_server_knows_only_users_whose_password_it_was_given() -> None:
    """The cache is started without Celery's password, so Celery's user does not exist there."""
    with GuardedValkey("taskcache", "operator") as node:
        assert isinstance(node, GuardedValkey)
        with node.client() as admin:
            assert "celery" not in admin.acl_users()


def test_a_server_without_any_user_does_not_start() -> None:
    """A forgotten environment is told, instead of a server that nobody can use or everybody can."""
    done = run("sh", DEPLOY / "valkey-start.sh", env={"PATH": "/usr/bin:/bin", "VALKEY_SERVER": "cat"})

    assert (64, "") == (done.returncode, done.stdout)
    assert "set TASKCACHE_PASSWORD" in done.stderr


def test_a_user_whose_name_the_shell_reads_otherwise_is_refused(tmp_path: Path) -> None:
    """Of `shop-eu` it would read SHOP, and take the rest of the name for a password that everybody knows."""
    users = tmp_path / "users.acl"
    users.write_text("user shop-eu ~shop:* +get\n")
    environment = {"PATH": "/usr/bin:/bin", "VALKEY_SERVER": "cat", "USERS_FILE": str(users)}
    done = run("sh", DEPLOY / "valkey-start.sh", env=environment)

    assert (64, "") == (done.returncode, done.stdout)
    assert "letters, digits and _" in done.stderr


def test_no_password_stands_in_what_the_server_gets() -> None:
    """Passwords are handed over as hashes."""
    lines = run(
        "sh",
        DEPLOY / "valkey-start.sh",
        env={"PATH": "/usr/bin:/bin", "VALKEY_SERVER": "cat", "TASKCACHE_PASSWORD": "p-taskcache"},
    ).stdout

    assert ("p-taskcache" in lines, " #" in lines) == (False, True)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_every_command_of_every_script_is_allowed(server: GuardedValkey, script: object) -> None:
    """A script runs with the rights of its caller, so each command in it must be in the list."""
    text = script.read_text()  # type: ignore[attr-defined] # a Path
    commands = set(re.findall(r"redis\.p?call\(\s*['\"](\w+)['\"]", text))

    assert commands
    assert [] == [
        command for command in sorted(commands) if not server.allows("taskcache", command, *ARGUMENTS[command])
    ]


def test_every_plain_command_of_the_library_is_allowed(server: GuardedValkey) -> None:
    """Whatever the library sends by name is in the list; a new command wants its arguments in ARGUMENTS above."""
    spoken = re.compile(r"(?:\bCall|execute_command)\(\s*\"([A-Z]+)\"")
    commands = {name for path in (ROOT / "taskcache").rglob("*.py") for name in spoken.findall(path.read_text())}
    # `taskcache ping` shows what INFO tells where it may ask, and does without it (tests/security/test_rights.py).
    commands -= {"INFO"}

    assert commands
    assert [] == [
        command for command in sorted(commands) if not server.allows("taskcache", command, *ARGUMENTS[command])
    ]


@pytest.mark.parametrize("command", sorted(ARGUMENTS))
def test_what_a_cache_sends_is_allowed(server: GuardedValkey, command: str) -> None:
    """The plain commands of hits, stamps, flush, wake-ups and connections."""
    assert server.allows("taskcache", command, *ARGUMENTS[command])


def test_every_script_loads_and_runs_as_the_cache(server: GuardedValkey, taskcache_user: redis.Redis) -> None:
    """Loading and calling by hash is how scripts are run; `forget` shows it on an entry."""
    forget = next(script for script in SCRIPTS if script.stem == "forget").read_text()
    taskcache_user.set(KEY, b"v", px=5_000)
    for script in SCRIPTS:
        taskcache_user.script_load(script.read_text())
    head = "local entry, flight = KEYS[1], KEYS[2]\nlocal envelope, ttl_ms = ARGV[1], tonumber(ARGV[2])\n"
    sha = taskcache_user.script_load(head + forget)

    assert 1 == taskcache_user.evalsha(str(sha), 2, KEY, FLIGHT, "", "0")
    assert taskcache_user.get(KEY) is None


@pytest.mark.parametrize(
    "command",
    [
        ("KEYS", "*"),
        ("FLUSHALL",),
        ("FLUSHDB",),
        ("CONFIG", "GET", "*"),
        ("CONFIG", "SET", "maxmemory", "0"),
        ("DEBUG", "SLEEP", "0"),
        ("EVAL", "return 1", "0"),
        ("FUNCTION", "FLUSH"),
        ("SCRIPT", "FLUSH"),
        ("SHUTDOWN", "NOSAVE"),
        ("MONITOR",),
        ("SAVE",),
        ("REPLICAOF", "NO", "ONE"),
        ("ACL", "LIST"),
        ("CLIENT", "KILL", "ID", "1"),
        ("CLIENT", "LIST"),
        ("MIGRATE", "h", "1", KEY, "0", "1"),
        ("RESTORE", KEY, "0", "x"),
        ("PSUBSCRIBE", "*"),
        ("SELECT", "1"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("user", ["taskcache", "celery", "operator"])
def test_dangerous_commands_are_refused(server: GuardedValkey, user: str, command: tuple[str, ...]) -> None:
    """Nobody can empty, stop, reconfigure or spy on a server; each may do only what its work needs."""
    needed = {("celery", "PSUBSCRIBE"), ("celery", "SELECT"), ("operator", "SELECT"), ("operator", "CLIENT LIST")}
    expected = not needed.isdisjoint({(user, command[0]), (user, " ".join(command))})

    assert expected == server.allows(user, *command)


@pytest.mark.parametrize(
    "key", ["session:1", "cached:1", "cache", "{other:1}:flight", "{cache~fn:f}:flight", "celery", "unacked"]
)
def test_foreign_keys_are_refused_to_the_cache(taskcache_user: redis.Redis, key: str) -> None:
    """A cache reads and writes below its own name and nowhere else."""
    with pytest.raises(NoPermissionError):
        taskcache_user.get(key)
    with pytest.raises(NoPermissionError):
        taskcache_user.set(key, b"v", px=1)


def test_a_script_does_not_reach_foreign_keys(taskcache_user: redis.Redis) -> None:
    """What is forbidden outside a script is forbidden inside."""
    sha = taskcache_user.script_load("return redis.call('GET', 'session:1')")

    with pytest.raises(redis.ResponseError, match="permission"):
        taskcache_user.evalsha(str(sha), 0)


def test_foreign_channels_are_refused_to_the_cache(taskcache_user: redis.Redis) -> None:
    """A cache publishes and listens to inboxes only."""
    with pytest.raises(NoPermissionError):
        taskcache_user.publish("/0.celery.pidbox", b"shutdown")


def test_the_operator_looks_and_changes_nothing(server: GuardedValkey, taskcache_user: redis.Redis) -> None:
    """Reading, INFO and the slow log are there; every write is refused."""
    taskcache_user.set(KEY, b"v", px=5_000)
    with server.login("operator") as operator:
        seen = operator.get(KEY), "used_memory" in operator.info(), operator.slowlog_len() >= 0, operator.dbsize() > 0

        for write in (operator.delete, operator.incr, operator.persist, operator.unlink):
            with pytest.raises(NoPermissionError):
                write(KEY)
        with pytest.raises(NoPermissionError):
            operator.publish("taskcache:inbox:7f", b"m")

    assert (b"v", True, True, True) == seen
