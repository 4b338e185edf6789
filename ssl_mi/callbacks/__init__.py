"""Callbacks of a run: when an encoder is evaluated, and what is recorded of each epoch. They never change the loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ssl_mi import _lazy

if TYPE_CHECKING:
    from ssl_mi.callbacks.evaluate import Evaluate
    from ssl_mi.callbacks.health import Health
    from ssl_mi.callbacks.history import History
    from ssl_mi.callbacks.loggers import Hyperparameters
    from ssl_mi.callbacks.measure import MeasureEncoder
    from ssl_mi.callbacks.progress import progress_bar
    from ssl_mi.callbacks.provenance import Provenance
    from ssl_mi.callbacks.schedule import Freeze, Milestones, Schedule, Scheduled

__all__ = [
    "Evaluate",
    "Freeze",
    "Health",
    "History",
    "Hyperparameters",
    "MeasureEncoder",
    "Milestones",
    "Provenance",
    "Schedule",
    "Scheduled",
    "progress_bar",
]

__getattr__, __dir__ = _lazy.attach(
    __name__,
    {
        "evaluate": ("Evaluate",),
        "health": ("Health",),
        "history": ("History",),
        "loggers": ("Hyperparameters",),
        "measure": ("MeasureEncoder",),
        "progress": ("progress_bar",),
        "provenance": ("Provenance",),
        "schedule": ("Freeze", "Milestones", "Schedule", "Scheduled"),
    },
)
