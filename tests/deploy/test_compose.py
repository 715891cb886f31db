"""This is where we check the Compose file, without an engine: its schema, its promises, its servers run for real."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.deploy.files import DEPLOY, compose, option, run, with_defaults
from tests.deploy.servers import ScriptedValkey

SERVICES: dict[str, dict[str, Any]] = compose()["services"]
SERVERS = sorted(name for name, service in SERVICES.items() if "valkey" in service["image"])
WORKERS = sorted(SERVICES.keys() - set(SERVERS))


def test_the_file_follows_the_compose_specification() -> None:
    """The published schema knows every word in the file."""
    done = run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml")

    assert 0 == done.returncode, done.stdout + done.stderr


def test_cache_and_broker_are_two_servers() -> None:
    """One forgets under pressure and the other must not, so they cannot be one."""
    assert (["broker", "cache"], ["worker", "worker-io"]) == (SERVERS, WORKERS)


@pytest.mark.parametrize(
    ("service", "user", "policy", "is_kept"),
    [("cache", "taskcache", "allkeys-lru", 0), ("broker", "celery", "noeviction", 1)],
)
def test_a_server_started_as_the_file_says(service: str, user: str, policy: str, is_kept: int) -> None:
    """The very command of the file, run here: its eviction policy, memory and persistence."""
    options = with_defaults(SERVICES[service]["command"])
    with ScriptedValkey(options, user, "operator") as node, node.client() as operator:
        memory, persistence = operator.info("memory"), operator.info("persistence")

        assert policy == memory["maxmemory_policy"]
        assert memory["maxmemory"] > 0
        assert is_kept == persistence["aof_enabled"]


@pytest.mark.parametrize("service", SERVERS)
def test_a_server_stands_in_its_container_with_room_to_spare(service: str) -> None:
    """The container's limit is above maxmemory, and for the server that forks to save, above twice of it."""
    command = with_defaults(SERVICES[service]["command"])
    maxmemory = int(command[command.index("--maxmemory") + 1].removesuffix("mb"))
    limit = int(with_defaults([SERVICES[service]["deploy"]["resources"]["limits"]["memory"]])[0].removesuffix("m"))

    assert limit > maxmemory * (2 if service == "broker" else 1)


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_no_password_stands_in_the_file(service: str) -> None:
    """Every secret is a variable that must be set, in an address too."""
    for name, value in SERVICES[service].get("environment", {}).items():
        if name.endswith(("_PASSWORD", "_SECRET")):
            assert re.fullmatch(r"\$\{\w+:\?.+\}", value), name
        else:
            assert re.match(r"redis://\w+:\$\{\w+:\?[^}]+\}@", value), name


def test_every_variable_of_the_file_is_in_the_example() -> None:
    """What must be set stands empty in .env.example; what may be set stands there with its default."""
    text = (DEPLOY / "compose.yaml").read_text()
    example = (DEPLOY / ".env.example").read_text()
    needed = set(re.findall(r"\$\{(\w+):\?", text))
    free = set(re.findall(r"\$\{(\w+):-([^}]*)\}", text))

    assert needed == set(re.findall(r"^(\w+)=$", example, re.MULTILINE))
    assert free == set(re.findall(r"^#(\w+)=(.+)$", example, re.MULTILINE))


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_every_service_is_fenced_in(service: str) -> None:
    """Limits, restarts, no rights to gain, nothing published to the network of the machine."""
    said = SERVICES[service]

    assert "memory" in said["deploy"]["resources"]["limits"]
    assert ("unless-stopped", ["ALL"], True) == (said["restart"], said["cap_drop"], said["read_only"])
    assert ["no-new-privileges:true"] == said["security_opt"]
    assert "ports" not in said


@pytest.mark.parametrize("service", WORKERS)
def test_a_worker_waits_for_its_servers_and_goes_gently(service: str) -> None:
    """It starts when both servers answer, takes one message at a time and gets SIGTERM through an init."""
    said = SERVICES[service]

    assert {"cache", "broker"} == said["depends_on"].keys()
    assert said["init"] is True
    assert "1" == option(said["command"], "prefetch-multiplier")


def test_a_stopping_worker_has_longer_than_its_longest_task() -> None:
    """SIGKILL comes after the hard limit, so no body is cut by a deploy."""
    worker = SERVICES["worker"]
    grace = int(worker["stop_grace_period"].removesuffix("s"))
    soft, hard = (int(option(worker["command"], name)) for name in ("soft-time-limit", "time-limit"))

    assert soft < hard < grace


def test_each_queue_has_one_kind_of_worker() -> None:
    """Two pools on one queue would make it chance which limits a task gets."""
    queues = [option(SERVICES[service]["command"], "queues") for service in WORKERS]

    assert len(set(queues)) == len(queues)


def test_the_health_check_of_a_server_logs_in() -> None:
    """The default user is off; a check without login would call every server ill."""
    for service in SERVERS:
        test = SERVICES[service]["healthcheck"]["test"][1]
        assert "$$OPERATOR_PASSWORD" in test
        assert "OPERATOR_PASSWORD" in SERVICES[service]["environment"]
