"""What the callbacks of a run hold, brought back from processes that were forked for its training.

`trainer.strategy=ddp_notebook` trains in forked processes and returns the weights alone. The measurements, the history
and the warnings would stay there, and with them the report.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies.launchers.multiprocessing import _MultiProcessingLauncher

from ssl_mi import atomic

FILE = ".handed_back.pt"


class HandedBack(pl.Callback):
    """Keeps the states of the callbacks in a file as training ends, for the process that started it.

    Args:
        folder: Of the run.
    """

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder) / FILE

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Write the states, in the first of the processes that were started."""
        if trainer.is_global_zero and in_other_processes(trainer):
            content = io.BytesIO()
            torch.save({callback.state_key: callback.state_dict() for callback in _callbacks(trainer)}, content)
            atomic.write(self.path, content.getbuffer())

    def take(self, trainer: pl.Trainer) -> None:
        """Load the states into the callbacks of this process, and remove the file.

        Args:
            trainer: Of the run, whose `fit` has returned.
        """
        states = torch.load(self.path, weights_only=True)
        for callback in _callbacks(trainer):
            if states.get(callback.state_key):
                callback.load_state_dict(states[callback.state_key])
        self.path.unlink()


def in_other_processes(trainer: pl.Trainer) -> bool:
    """Whether `trainer.fit` trains in processes that it makes and that are gone when it returns.

    Args:
        trainer: Of the run.
    """
    return isinstance(trainer.strategy.launcher, _MultiProcessingLauncher)


def _callbacks(trainer: pl.Trainer) -> list[Any]:
    """Those whose states are plain; Lightning keeps those of its checkpoints itself."""
    own: list[Any] = cast(Any, trainer).callbacks
    return [callback for callback in own if callback not in trainer.checkpoint_callbacks]
