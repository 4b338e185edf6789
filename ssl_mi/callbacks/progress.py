"""How a run shows its progress."""

from __future__ import annotations

import sys

from pytorch_lightning.callbacks import ProgressBar, RichProgressBar, TQDMProgressBar
from rich.console import Console


def progress_bar(style: str) -> ProgressBar | None:
    """A live bar, or None where lines (callbacks/history.py) or nothing are printed.

    Args:
        style: "bar", "lines", "none", or "auto": a bar on a terminal and in a notebook, lines in a log file.
    """
    notebook = Console(markup=False, emoji=False).is_jupyter
    if style == "bar" or (style == "auto" and (notebook or sys.stdout.isatty())):
        # In a notebook rich's live display needs a widget that may not be installed; tqdm's bar does not.
        return TQDMProgressBar(leave=False) if notebook else RichProgressBar(leave=False)
    return None
