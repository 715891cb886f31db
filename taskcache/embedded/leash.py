"""This is where a local worker is tied to its owner: a pipe whose other end only the owner holds.

The kernel closes that end when the owner ends, by exit, by SIGKILL or by a crash; so end of file is the order to stop.
Runs inside the worker.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from typing import Final

# For running computations to finish and be shared; whoever exits waits as long, so it is not more.
GRACE_SECONDS: Final = 2.5
_POLL_SECONDS: Final = 0.02


def tie(pipe: int) -> None:
    """Watch the pipe in a thread, and end this process and its group within GRACE_SECONDS of its end of file."""
    threading.Thread(target=_watch, args=(pipe,), name="taskcache-leash", daemon=True).start()


def _watch(pipe: int) -> None:
    while os.read(pipe, 4096):
        pass  # nothing is ever said after the greeting (worker_main)
    deadline = time.monotonic() + GRACE_SECONDS
    while _is_computing() and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    # What was printed without a newline. In a thread, since a stuck task may hold the stream for ever.
    last_words = threading.Thread(target=sys.stdout.flush, daemon=True)
    last_words.start()
    last_words.join(0.2)
    # The whole group: worker.py made us its leader, and it holds what the tasks have started. SIGKILL, since an idle
    # worker has nothing to say any more, and Celery's own way out would keep the prompt waiting for a second.
    os.killpg(os.getpid(), signal.SIGKILL)


def _is_computing() -> bool:
    """Tell the worker to take no more tasks, and say whether one is still running."""
    state = sys.modules.get("celery.worker.state")
    if state is None:
        return False  # still booting
    # What Celery's own handler of SIGTERM sets, without the line that it prints into somebody's notebook.
    state.should_stop = 0  # type: ignore[attr-defined] # a module we must not import
    return bool(state.active_requests)
