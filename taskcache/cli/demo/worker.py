"""This is where the demo's workers are: `celery -A taskcache.cli.demo.worker worker`, started by the demo."""

from __future__ import annotations

import os
from typing import Any

from celery.signals import worker_ready

from taskcache.cli.demo.meeting import Place, meet

_node = os.environ["TASKCACHE_DEMO_NODE"]
_meeting = meet(Place.of_worker(), _node)
app = _meeting.app


@worker_ready.connect(weak=False)
def _say_ready(**_: Any) -> None:
    _meeting.tally.add("ready", _node)
