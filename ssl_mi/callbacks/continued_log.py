"""A resumed run's metrics.csv holds the whole run: what was logged before the stop stands before what follows it."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import CSVLogger

from ssl_mi.resume import inside_epoch, last_step_done

METRICS = "metrics.csv"


class ContinuedLog(pl.Callback):
    """Keeps the rows that Lightning's CSV loggers write in step with the checkpoints.

    Lightning holds rows in memory, and deletes the file of an earlier run in the same folder. Here every checkpoint
    finds the rows before it on disk, and a run that goes on from a checkpoint begins with the rows up to it.

    Args:
        run: The folder of this run.
        earlier: The folder of the run that it goes on with; None for a run from the start.
        checkpoint: What the run goes on from.
    """

    def __init__(self, run: Path, earlier: Path | None = None, checkpoint: Mapping[str, Any] | None = None) -> None:
        self.run, self.earlier = run.absolute(), earlier
        self._keep = None if checkpoint is None else _Kept(checkpoint)
        self._rows: dict[int, list[dict[str, str]]] = {}

    def read(self, trainer: pl.Trainer) -> None:
        """Read the earlier rows of each logger; before training, which deletes the files in the run's own folder."""
        for place, logger in enumerate(trainer.loggers):
            if self.earlier is None or self._keep is None or not isinstance(logger, CSVLogger):
                continue
            folder = Path(logger.log_dir).absolute()
            inside = folder.relative_to(self.run) if folder.is_relative_to(self.run) else None
            path = (folder if inside is None else self.earlier / inside) / METRICS
            if path.is_file():
                with path.open(newline="") as file:
                    rows = [row for row in csv.DictReader(file) if self._keep.keeps(row)]
                self._rows[place] = [{k: v for k, v in row.items() if k and v} for row in rows]

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Write them where this run's rows will follow."""
        if trainer.is_global_zero:
            for place, rows in self._rows.items():
                logger: Any = trainer.loggers[place]
                logger.experiment.metrics[:0] = rows
                logger.save()
        self._rows = {}

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """What was logged before a checkpoint is on disk when the checkpoint is."""
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                if isinstance(logger, CSVLogger):
                    logger.save()


class _Kept:
    """Which rows a run logged before a checkpoint and does not log again.

    A step's own values are logged under the number of steps before it, an epoch's means under that of its last step,
    and evaluations under the number of steps done.
    """

    def __init__(self, checkpoint: Mapping[str, Any]) -> None:
        self.step = int(checkpoint["global_step"])
        inside = inside_epoch(checkpoint)
        self.evaluated = not (inside and last_step_done(checkpoint))
        self.means_come_again = not inside or last_step_done(checkpoint)
        self.step_comes_again = inside

    def keeps(self, row: Mapping[str, str]) -> bool:
        try:
            step = int(float(row["step"]))
        except (KeyError, TypeError, ValueError):
            return False
        names = {name for name, value in row.items() if value}
        if self.means_come_again and step == self.step - 1 and "train/loss_epoch" in names:
            return False
        of_a_step = any(name.endswith("_step") for name in names)
        if self.step_comes_again and step == self.step - 1 and of_a_step:
            return False
        if step == self.step:
            return self.evaluated and not of_a_step
        return step < self.step
