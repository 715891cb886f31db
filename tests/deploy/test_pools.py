"""This is where we check that the settings `workers/POOLS.md` recommends exist, and agree with what is deployed."""

from __future__ import annotations

import re
from typing import Any

from celery.app.defaults import NAMESPACES, flatten
from kombu.transport.redis import Channel

from tests.deploy.files import ROOT, compose, option


def recommended() -> dict[str, Any]:
    """Run the page's only Python block and give what it sets."""
    [block] = re.findall(r"```python\n(.+?)```", (ROOT / "workers/POOLS.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(block, {}, names)
    return names


def test_every_recommended_setting_exists() -> None:
    """Celery ignores a setting it does not know, so a misspelt one would be believed for ever."""
    settings = recommended()
    known = {pair[0] for pair in flatten(NAMESPACES)}

    assert set() == settings.keys() - known
    assert set() == settings["broker_transport_options"].keys() - set(Channel.from_transport_options)


def test_the_page_recommends_what_is_deployed() -> None:
    """The limits of the page are those of the Compose file."""
    settings, command = recommended(), compose()["services"]["worker"]["command"]

    assert settings["task_time_limit"] == int(option(command, "time-limit"))
    assert settings["task_soft_time_limit"] == int(option(command, "soft-time-limit"))
    assert settings["worker_prefetch_multiplier"] == int(option(command, "prefetch-multiplier"))
    assert settings["worker_max_tasks_per_child"] == int(option(command, "max-tasks-per-child"))


def test_a_message_is_not_delivered_again_while_its_body_may_run() -> None:
    """Visibility is longer than the hard limit."""
    settings = recommended()

    assert settings["broker_transport_options"]["visibility_timeout"] > settings["task_time_limit"]
