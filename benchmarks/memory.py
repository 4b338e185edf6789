"""How much memory a process has held."""

from __future__ import annotations

import math
from pathlib import Path


def most() -> float:
    """KiB that this process has held at most; NaN where the system does not say.

    (`ru_maxrss` of a new process starts at that of its parent, and would hide whatever is less.)
    """
    status = Path("/proc/self/status")
    if not status.is_file():
        return math.nan
    return float(next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:")).split()[1])
