"""Checkpoints that are replaced whole or not at all, on any filesystem."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.cloud_io import _is_local_file_protocol
from pytorch_lightning.plugins.io import TorchCheckpointIO

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
