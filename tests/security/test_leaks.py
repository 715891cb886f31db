"""This is where canaries are passwords, secrets, arguments and values, and nobody who looks over our shoulder sees one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from taskcache import Cache, NoServer, UsageError
from tests.nodes.process import is_alive
from tests.nodes.server import ValkeyNode, free_port
from tests.nodes.waiting import wait_until
from tests.nodes.workers import REPOSITORY, WorkerNode
from tests.security.conftest import APP

PASSWORD, BROKER_PASSWORD = "canary-password", "canary-broker-password"
SECRET = "canary-secret-of-the-cache"
ARGUMENT, VALUE = "canary-argument", "canary-value"
CANARY = "canary"

# Everything that can go well or wrong, with all there is to log; what is caught is printed, as a user would see it.
CALLER = """
import asyncio, logging, os, sys, traceback
logging.basicConfig(level=logging.INFO)
from tests.security import app
from tests.security.app import Parcel, cache
ARGUMENT, VALUE = sys.argv[1].replace("_", "-"), sys.argv[2].replace("_", "-")

def shown(do):
    try:
        got = do()
        print(type(got).__name__)
    except Exception:
        traceback.print_exc()

result = app.wraps(ARGUMENT, VALUE)
print(repr(cache), repr(app.wraps), repr(result), repr(cache.settings), repr(cache.codec))
assert result(timeout=60)["answer"] == VALUE
print(repr(result), result.id, result.key, result.state)
assert app.wraps(ARGUMENT, VALUE)(block=False)["answer"] == VALUE
assert app.opens(Parcel(VALUE))(timeout=60).content == VALUE[::-1]
assert app.retried(ARGUMENT)(timeout=60) == ARGUMENT[::-1]
assert app.wraps.delay(VALUE, ARGUMENT) is not None
shown(lambda: app.fails(ARGUMENT)(timeout=60))
shown(lambda: app.unstorable(ARGUMENT)(timeout=60))
shown(lambda: app.too_long(ARGUMENT)(timeout=60))
shown(lambda: app.dies(ARGUMENT)(timeout=60))
shown(lambda: app.held.with_options(queue="nobody")(ARGUMENT)(timeout=0.1))
shown(lambda: app.wraps(object(), VALUE))
shown(lambda: app.wraps({"a key that is named": [VALUE, lambda: 1]}, VALUE))
shown(lambda: app.wraps(ARGUMENT, VALUE, ARGUMENT))
shown(lambda: cache.set(ARGUMENT, [VALUE, (each for each in VALUE)]))
shown(lambda: cache.set(ARGUMENT, VALUE, timeout=-1))
shown(lambda: cache.incr(ARGUMENT))
cache.set("k", VALUE, timeout=60)
shown(lambda: cache.incr("k"))
key = cache.make_key(app.wraps.key_for(ARGUMENT, VALUE))
client = cache.station.server.client
good = client.get(key)
for bad in (good[:-3], good[:60] + b"?" + good[61:], good.replace(VALUE.encode(), b"another-value"), b"nothing"):
    client.set(key, bad, px=60_000)
    shown(lambda: cache.get(app.wraps.key_for(ARGUMENT, VALUE)))
    shown(lambda: app.wraps.peek(ARGUMENT, VALUE))
assert app.wraps(ARGUMENT, VALUE)(timeout=60)["answer"] == VALUE
shown(lambda: asyncio.run(cache.aio.get("k")))
print("done", flush=True)
sys.stdin.read()
"""

# The private server of one user, with a worker of its own.
EMBEDDED = """
import logging, sys
logging.basicConfig(level=logging.INFO)
from taskcache import Cache
cache = Cache(secret=sys.stdin.readline().strip())

@cache.cache_async(timeout=60)
def joined(left, right):
    return {"answer": left + right}

ARGUMENT, VALUE = "canary-argument", "canary-value"
assert joined(ARGUMENT, VALUE)(timeout=60)["answer"] == ARGUMENT + VALUE
print(repr(cache), repr(cache.embedded), repr(joined), repr(joined(ARGUMENT, VALUE)), flush=True)
print("password", cache.embedded.url.split(":")[2].split("@")[0], file=sys.stderr, flush=True)
print("done", flush=True)
sys.stdin.read()
"""


# A function that the worker does not know: a caller with newer code, or a queue that serves somebody else.
UNKNOWN = """
import sys
from tests.security.app import cache

@cache.cache_async(name="attacked.unknown", timeout=60)
def unknown(text):
    return text

print(repr(unknown(sys.argv[1].replace("_", "-"))))
print("done", flush=True)
sys.stdin.read()
"""


def command_lines() -> list[str]:
    """What everybody on this machine can read of every process."""
    lines = []
    for process in psutil.process_iter():
        try:
            lines.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return lines


@pytest.fixture
def servers() -> Iterator[dict[str, str]]:
    """Cache and broker, each with a password that is a canary."""
    config = [f"user canary-user on >{PASSWORD} ~* &* +@all"]
    with (
        ValkeyNode(username="canary-user", password=PASSWORD, config=config) as cache,
        ValkeyNode(password=BROKER_PASSWORD) as broker,
    ):
        yield {
            "ATTACKED_CACHE": cache.url().replace("canary-user", "canary%2Duser"),
            "ATTACKED_BROKER": broker.celery_url(),
            "ATTACKED_LEDGER": broker.url(1),
            "ATTACKED_SECRET": SECRET,
        }


def start(program: str, words: list[str], env: dict[str, str], folder: Path) -> subprocess.Popen[bytes]:
    with (folder / "caller.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-c", program, *words],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), **env},
        )


def wait_done(process: subprocess.Popen[bytes], log: Path) -> None:
    wait_until(lambda: "\ndone\n" in log.read_text() or process.poll() is not None, "the program", 100)
    assert process.poll() is None, log.read_text()[-3000:]


def test_nothing_secret_is_logged_shown_or_listed(servers: dict[str, str], tmp_path: Path) -> None:
    """Hits, misses, errors, retries, deaths, time limits, bad input, damaged entries: by name, never by content."""
    log = tmp_path / "caller.log"
    with WorkerNode(APP, pool="prefork", concurrency=2, env=servers) as worker:
        words = [ARGUMENT.replace("-", "_"), VALUE.replace("-", "_")]
        caller = start(CALLER.replace("canary", CANARY), words, servers, tmp_path)
        try:
            wait_done(caller, log)
            listed = [line for line in command_lines() if "canary-" in line]
        finally:
            caller.communicate()
        said = {"worker": worker.log(), "caller": log.read_text()}

    # It went as it should: the log of the worker has a line for each of these.
    for sign in ("succeeded in", "raised unexpected", "Hard time limit", "retry: Retry"):
        assert sign in said["worker"], sign
    assert [] == listed
    leaks = [f"{who}: {line}" for who, text in said.items() for line in text.splitlines() if CANARY in line]
    reversed_leaks = [line for text in said.values() for line in text.splitlines() if CANARY[::-1] in line]
    assert ([], []) == (leaks, reversed_leaks)


def test_a_worker_that_does_not_know_a_task_shows_its_message_and_no_secret(
    servers: dict[str, str], tmp_path: Path
) -> None:
    """Celery prints the message it throws away, arguments and all, as docs/security.md says; it holds nothing more."""
    log = tmp_path / "caller.log"
    with WorkerNode(APP, pool="threads", concurrency=1, env=servers) as worker:
        caller = start(UNKNOWN, [ARGUMENT.replace("-", "_")], servers, tmp_path)
        try:
            wait_done(caller, log)
            worker.wait_for_log("The delivery info for this task is", 30)
        finally:
            caller.communicate()
        said = worker.log()

    assert f"'argsrepr': \"('{ARGUMENT}',)\"" in said
    assert ARGUMENT in said.partition("The full contents of the message body was:\n")[2].partition("\n")[0]
    assert [] == [line for line in said.replace(ARGUMENT, "").splitlines() if CANARY in line]
    assert CANARY not in log.read_text()


def test_nothing_secret_of_a_private_server_is_logged_or_listed(tmp_path: Path) -> None:
    """Supervisor, guard, server and local worker: the password and the secret are on no command line and in no output."""
    log = tmp_path / "caller.log"
    unset = dict.fromkeys(("TASKCACHE_URL", "REDIS_URL", "TASKCACHE_SECRET"), "")
    process = start(EMBEDDED, [], {"XDG_RUNTIME_DIR": str(tmp_path), **unset}, tmp_path)
    assert process.stdin is not None
    process.stdin.write(SECRET.encode() + b"\n")
    process.stdin.flush()
    children: list[psutil.Process] = []
    try:
        wait_done(process, log)
        children = psutil.Process(process.pid).children(recursive=True)
        lines, output = command_lines(), log.read_text()
    finally:
        process.communicate()
    password = next(line.split()[1] for line in output.splitlines() if line.startswith("password "))
    output = output.replace(f"password {password}", "")

    assert any("taskcache-guard" in line for line in lines)
    assert any("supervisor.py" in line for line in lines)
    assert any("worker_main" in line for line in lines)
    own = [line for line in lines if EMBEDDED not in line]
    assert [] == [line for line in own if password in line or "canary-" in line]
    assert [] == [line for line in output.splitlines() if password in line or CANARY in line]
    wait_until(lambda: not any(is_alive(child) for child in children), "the local worker's end", 20)
    wait_until(lambda: not (tmp_path / "taskcache").exists(), "the private server's end", 20)


@pytest.mark.parametrize(
    "url",
    [
        "redis://canary-user:canary@127.0.0.1:{port}/0",
        "redis://:canary@canary@127.0.0.1:{port}/0",
        "redis://:canary/canary@127.0.0.1:{port}/0",
        "redis://:canary#canary@127.0.0.1:{port}/0",
        "redis://:canary?canary@127.0.0.1:{port}/0",
        "redis://127.0.0.1:{port}/0?password=canary&username=me",
        "unix:///nowhere/{port}?db=0&password=canary",
        "http://me:canary@127.0.0.1:{port}/0",
        ":canary@127.0.0.1:{port}",
        "rediss://:canary@127.0.0.1:{port}/0?ssl_password=canary",
    ],
)
def test_no_address_tells_its_password(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """However it is written, and whatever is wrong with it."""
    cache = Cache(url.format(port=free_port()), name="nowhere")

    @cache.cached()
    def three() -> int:
        return 3

    said = [repr(cache)]
    with pytest.raises((NoServer, UsageError)) as refused:
        cache.get("key")
    try:
        assert 3 == three()
    except UsageError as error:
        said.append(str(error))
    chain: BaseException | None = refused.value
    while chain is not None:
        said.append(f"{chain!r} {chain}")
        chain = chain.__cause__ or (None if chain.__suppress_context__ else chain.__context__)

    assert CANARY not in " ".join([*said, caplog.text])


def test_what_is_read_from_the_environment_is_not_shown() -> None:
    """The record of the environment keeps address and secret to itself."""
    from taskcache.settings import Environment

    shown = repr(Environment("redis://:canary@h", "canary", None, False, None, None, None))
    assert CANARY not in shown
