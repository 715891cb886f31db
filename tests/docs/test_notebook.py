"""This is where the session of the specification runs in a notebook kernel, cell by cell."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import KernelManager

# A cell and what it must show. The function belongs to `__main__`, which no worker can import: it travels by value.
CELLS = [
    ("import time\nfrom taskcache import Cache, NotReady\ncache = Cache(name='notebook')", ""),
    (
        "@cache.cache_async()\n"
        "def get_now(seed=None):\n"
        "    print('About to sleep.')\n"
        "    time.sleep(0.5)\n"
        "    return time.time()",
        "",
    ),
    ("result = get_now()\ncallable(result)", "True"),
    ("try:\n    result(block=False)\nexcept NotReady:\n    print('not ready')", "not ready"),
    ("first = result(block=True)\nisinstance(first, float)", "True"),
    ("get_now()() == first == result()", "True"),
    ("get_now('foo')(timeout=30) != first", "True"),
    # An edited cell computes anew: the code is part of the key.
    ("@cache.cache_async()\ndef get_now(seed=None):\n    return 'edited'", ""),
    ("get_now()()", "'edited'"),
    ("await get_now.aio('awaited')", "<Result"),
    ("await get_now('awaited')", "'edited'"),
]


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A running Python kernel with a private server of its own."""
    for name in ("TASKCACHE_URL", "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    for name in ("XDG_RUNTIME_DIR", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    manager: Any = KernelManager(kernel_name="python3")
    manager.start_kernel()
    client = manager.blocking_client()
    client.start_channels()
    client.wait_for_ready(timeout=60)
    yield client
    client.stop_channels()
    manager.shutdown_kernel(now=True)
    manager.cleanup_resources()


def run(client: Any, cell: str) -> str:
    """Execute a cell; everything that a reader of the notebook would see below it."""
    shown: list[str] = []

    def show(message: dict[str, Any]) -> None:
        content = message["content"]
        if message["msg_type"] == "stream":
            shown.append(content["text"])
        elif message["msg_type"] == "execute_result":
            shown.append(content["data"]["text/plain"])
        elif message["msg_type"] == "error":
            shown.append("\n".join(content["traceback"]))

    client.execute_interactive(cell, timeout=60, output_hook=show)
    return "".join(shown)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_the_session_works_cell_by_cell(kernel: Any) -> None:
    """Results, prints of the worker, edited cells and top-level await work in a notebook."""
    shown = [run(kernel, cell) for cell, _ in CELLS]

    for (cell, expected), output in zip(CELLS, shown, strict=True):
        assert expected in output, f"{cell}\n{output}"
    assert any("About to sleep." in output for output in shown), "the worker's prints are shown in the notebook"
