"""When evaluations run: before training, every n epochs on validation images, at the end on the test images."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytorch_lightning as pl
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from ssl_mi.distributed import world
from ssl_mi.evaluation.context import Bench, Evaluation
from ssl_mi.evaluation.measurement import Row, write_csv
from ssl_mi.evaluation.probes import _Probe
from ssl_mi.evaluation.wide import reduced_pixels


class Evaluate(pl.Callback):
    """Runs evaluations and keeps their rows, in memory, in checkpoints and as `<name>.csv` in `folder`.

    evaluations: name -> evaluation. every_n_epochs: cadence on the validation split; 0 for the end only.
    At the end everything is read once on the test split, for the trained encoder, for the same encoder as
    it was initialised, and (probes only) for raw pixels.
    """

    def __init__(
        self, evaluations: Mapping[str, Evaluation | None], every_n_epochs: int = 5, folder: str | Path = "."
    ) -> None:
        if every_n_epochs < 0:
            raise ValueError(f"every_n_epochs must not be negative, got {every_n_epochs}; 0 evaluates at the end only")
        self.evaluations = [e for e in evaluations.values() if e is not None]
        self.every_n_epochs = every_n_epochs
        self.folder = Path(folder)
        self.rows: list[Row] = []
        self.seconds: dict[str, float] = {}
        self.initial: nn.Module | None = None

    # What survives a stop

    def state_dict(self) -> dict:
        return {"rows": [row.as_dict() for row in self.rows], "seconds": dict(self.seconds)}

    def load_state_dict(self, state: dict) -> None:
        self.rows = [Row(**row) for row in state["rows"]]
        self.seconds = dict(state["seconds"])

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if self.evaluations and trainer.datamodule.val is None:
            raise ValueError(
                "evaluations need validation images, where they are read during training and projections learn: "
                "set data.val_fraction above 0"
            )
        for evaluation in self.evaluations:
            evaluation.check(trainer.datamodule)
        # Lightning restores a checkpoint after this: in a resumed run too these are the weights that
        # the seed gives, which is what "randomly initialised" is measured on.
        if self.initial is None:
            self.initial = copy.deepcopy(pl_module.towers).cpu()

    # When

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # A resumed run does not start at epoch 0, and what it has learned is no reading of epoch 0.
        if self.every_n_epochs and trainer.global_step == 0:
            self._evaluate(trainer, pl_module, "val", 0)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        if self.every_n_epochs and epoch % self.every_n_epochs == 0:
            self._evaluate(trainer, pl_module, "val", epoch)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        split = "val" if trainer.datamodule.test is None else "test"
        epoch = trainer.current_epoch
        # What is read now replaces what was read of the same moment, by a run that is gone on with or an epoch ago.
        self.rows = [row for row in self.rows if row.split != "test" and (row.split, row.epoch) != (split, epoch)]
        # The random encoder first: what was learned is told beside it.
        with _towers(pl_module, self.initial):
            self._evaluate(trainer, pl_module, split, epoch, encoder="random")
        self._evaluate(trainer, pl_module, split, epoch)
        pixels = _Pixels(pl_module.device)
        probes = [e for e in self.evaluations if isinstance(e, _Probe)]
        first = len(self.rows)
        self._evaluate(trainer, pixels, split, epoch, encoder="pixels", evaluations=probes)
        if pixels.note:
            noted = [replace(row, note=f"{row.note}; {pixels.note}") for row in self.rows[first:]]
            self.rows = self.rows[:first] + noted
            if world()[0] == 0:
                self._write()

    # How

    def _evaluate(self, trainer, module, split: str, epoch: int, encoder: str = "trained", evaluations=None) -> None:
        bench = Bench(module, trainer.datamodule, split, epoch, encoder, earlier=tuple(self.rows))
        first = len(self.rows)
        for evaluation in self.evaluations if evaluations is None else evaluations:
            started = time.perf_counter()
            evaluation.collect(bench)
            if world()[0] == 0:
                # Small decompositions are fastest on one BLAS thread, and on a busy machine by far.
                with threadpool_limits(1, user_api="blas"):
                    self.rows += evaluation.measure(bench)
                self._write()  # an evaluation that fails loses nothing of those before it
            key = f"{evaluation.name} ({'final' if bench.final else 'during training'})"
            self.seconds[key] = self.seconds.get(key, 0.0) + time.perf_counter() - started
        trainer.strategy.barrier()
        if world()[0] == 0:
            fresh = self.rows[first:]
            if encoder == "trained" and trainer.logger is not None:
                numbers = {f"{split}/{name}": x for row in fresh for name, x in row.numbers().items()}
                trainer.logger.log_metrics(numbers, step=trainer.global_step)

    def _write(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in {row.evaluation for row in self.rows}:
            write_csv(self.folder / f"{name}.csv", [row for row in self.rows if row.evaluation == name])


class _towers:
    """The module with other towers, for the length of a `with`."""

    def __init__(self, module: pl.LightningModule, towers: nn.Module) -> None:
        self.module, self.other = module, towers

    def __enter__(self) -> None:
        self.own = self.module.towers
        self.module.towers = self.other.to(self.module.device)

    def __exit__(self, *error) -> None:
        self.module.towers = self.own
        self.other.cpu()


class _Pixels(nn.Module):
    """A module whose representation is the image itself, reduced to 32 x 32 pixels where it is larger.

    `note` says so where larger ones were reduced.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device
        self.towers = SimpleNamespace(represent=self.flat)
        self.note = ""

    def flat(self, views: list[Tensor]) -> Tensor:
        """All that the views show of an image: views of one kind are one picture, of two kinds are two."""
        kinds = [x for v, x in enumerate(views) if not any(torch.equal(x, earlier) for earlier in views[:v])]
        reduced = [reduced_pixels(x) for x in kinds]
        self.note = next((note for _, note in reduced if note), "")
        return torch.cat([x.flatten(1) for x, _ in reduced], 1)
