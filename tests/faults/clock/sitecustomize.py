"""This is where the clock of one process goes wrong, as far as Python code can see: by FAULTS_CLOCK seconds."""

from __future__ import annotations

import os
import time

_shift = float(os.environ.get("FAULTS_CLOCK", "0"))
_time, _time_ns = time.time, time.time_ns

if _shift:
    time.time = lambda: _time() + _shift
    time.time_ns = lambda: _time_ns() + int(_shift * 1_000_000_000)
