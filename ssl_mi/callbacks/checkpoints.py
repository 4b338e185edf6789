"""Checkpoints: replaced whole or not at all on any filesystem, and what follows from one when a run resumes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.cloud_io import _is_local_file_protocol
from pytorch_lightning.loops.fit_loop import _FitLoop
from pytorch_lightning.plugins.io import TorchCheckpointIO
from pytorch_lightning.trainer import call

from ssl_mi import atomic


def write_whole(trainer: pl.Trainer) -> None:
    """Have the trainer's checkpoints written so, unless it was given a way of its own."""
    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
        trainer.strategy.checkpoint_io = AtomicCheckpointIO()


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's way to write checkpoints, but beside their target: `Trainer(plugins=[AtomicCheckpointIO()])`.

    Lightning's own writes to the temporary folder and moves the file to its place. From another filesystem that is a
    copy onto the checkpoint that was there: a run that is killed meanwhile, or whose disk is full, loses both.
    Checkpoints in object stores (s3://...) go Lightning's way.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        if storage_options is not None or not _is_local_file_protocol(str(path)):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        atomic.write(str(path).removeprefix("file://"), buffer.getbuffer())


class ResumableFitLoop(_FitLoop):
    """Lightning's loop, except that a run resumed after its last step does what follows that step.

    Lightning's own ends at once there: a run that was killed during the evaluation at its end would never be evaluated.
    """

    def run(self) -> None:
        """Train, or where all steps were done before, only end the epoch and the training."""
        self.setup_data()
        if not (self.skip and self.epoch_loop.global_step > 0):
            super().run()
            return
        progress: Any = self.epoch_progress.current
        if progress.processed < progress.started:  # trainer.max_steps ended the epoch
            self.reset()
            self.on_run_start()
            self.on_advance_start()
            self.advance()
            self.on_advance_end()
            self.on_iteration_done()
        else:
            progress.completed = progress.processed
            call._call_lightning_module_hook(self.trainer, "on_train_start")
        self._restarting = False
        self.on_run_end()


def finish_after_resume(trainer: pl.Trainer) -> None:
    """Give a trainer the loop that evaluates a run whose steps were all done before."""
    given = trainer.fit_loop
    loop = ResumableFitLoop(trainer, min_epochs=given.min_epochs, max_epochs=given.max_epochs)
    loop.epoch_loop = given.epoch_loop
    trainer.fit_loop = loop


class ChangedOptimizer(pl.Callback):
    """Lets a resumed run use settings of the optimizer that are not those of its checkpoint.

    A checkpoint restores the settings with the state: without this, another weight decay would be named in the report
    and not used.

    Args:
        settings: Names in the parameter groups: "lr", "weight_decay", ...
    """

    def __init__(self, settings: Sequence[str]) -> None:
        self.settings = tuple(settings)
        self._wanted: list[dict[str, Any]] = []

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remember the settings before the checkpoint replaces them."""
        groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
        wanted = [{name: group[name] for name in self.settings if name in group} for group in groups]
        for own, group in zip(wanted, groups, strict=True):
            if "lr" in own:
                own["lr"] = group.get("initial_lr", group["lr"])
        self._wanted = wanted

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put them back. A rate that is scheduled keeps its place in the schedule."""
        groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
        for group, wanted in zip(groups, self._wanted, strict=True):
            rate = wanted.get("lr")
            if rate is not None:
                before = group.get("initial_lr", group["lr"])
                wanted = {**wanted, "lr": group["lr"] * rate / before}
                if "initial_lr" in group:
                    group["initial_lr"] = rate
            group.update(wanted)
        for config in trainer.lr_scheduler_configs:
            scheduler: Any = config.scheduler
            if "lr" in self.settings and hasattr(scheduler, "base_lrs"):
                scheduler.base_lrs = [group["initial_lr"] for group in scheduler.optimizer.param_groups]
