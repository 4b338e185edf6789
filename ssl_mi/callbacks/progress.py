"""How a run shows that it moves."""

from __future__ import annotations

import sys

from pytorch_lightning.callbacks import ProgressBar, RichProgressBar


def progress_bar(style: str) -> ProgressBar | None:
    """A live bar, or None where lines (callbacks/history.py) or nothing are printed.

    style: "bar", "lines", "none", or "auto": a bar on a terminal, lines in a log file.
    """
    if style == "bar" or (style == "auto" and sys.stdout.isatty()):
        return RichProgressBar(leave=False)
    return None
