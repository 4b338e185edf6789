"""The evaluations of a run in other people's training: for any LightningModule."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch import Tensor

from ssl_mi.callbacks.loggers import log_numbers
from ssl_mi.evaluation.anywhere import FEWEST, Unpack, measure, views_and_labels
from ssl_mi.evaluation.context import Evaluation
from ssl_mi.evaluation.embed import untouched
from ssl_mi.evaluation.measurement import Measurement, write_csv


class MeasureEncoder(pl.Callback):
    """Measures an encoder before training and every n epochs: nats shared by views and with labels, probes, geometry.

        measured = MeasureEncoder(loader, encode=lambda module, x: module.backbone(x).flatten(1))
        pl.Trainer(callbacks=[measured]).fit(model, train_loader)

    Training is not changed: modes and random states are afterwards what they were. The numbers go to the logger under
    `name`, and to `rows`. With several processes the first one measures.

    Args:
        loader: Of held-out samples, at least 64, better 2,000 or more: images, or pairs of views, with labels where
            there are any; see `evaluation.anywhere.views_and_labels`.
        encode: The module and images `[n, ...]` to h `[n, d]`.
        every_n_epochs: Cadence; also before the first epoch.
        limit: Samples of the loader; half of them are fitted on, the other half is measured.
        name: Before the names of the numbers.
        unpack: A batch to ([view] or [view, view], labels or None), for other batches.
        evaluations: What is measured; None: all that these batches allow.
        folder: Keeps `NAME.csv`; None keeps no file.
        seed: Of the halves, and of what the loader draws.

    Attributes:
        rows: All measurements so far.

    Raises:
        ValueError: A cadence below 1, or too few samples; at the start of training, a loader or an encoding that does
            not fit.
    """

    def __init__(
        self,
        loader: Iterable[Any],
        encode: Callable[[Any, Tensor], Tensor],
        every_n_epochs: int = 1,
        limit: int = 4000,
        name: str = "ssl_mi",
        unpack: Unpack = views_and_labels,
        evaluations: Sequence[Evaluation] | None = None,
        folder: str | Path | None = None,
        seed: int = 0,
    ) -> None:
        if every_n_epochs < 1:
            raise ValueError(f"every_n_epochs={every_n_epochs}: measure every epoch, 1, or less often")
        if limit < FEWEST:
            raise ValueError(f"limit={limit}: at least {FEWEST} samples are needed, better 2,000")
        self.loader, self.encode, self.every_n_epochs, self.limit = loader, encode, every_n_epochs, limit
        self.name, self.unpack, self.evaluations, self.seed = name, unpack, evaluations, seed
        self.folder = None if folder is None else Path(folder)
        self.rows: list[Measurement] = []

    @property
    def state_key(self) -> str:
        """Two of them in one Trainer keep their own measurements."""
        return f"{type(self).__name__}({self.name})"

    def state_dict(self) -> dict[str, Any]:
        """The measurements so far."""
        return {"rows": [row.as_dict() for row in self.rows]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the measurements of a checkpoint."""
        self.rows = [Measurement(**row) for row in state["rows"]]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Epoch 0."""
        if trainer.global_step == 0:
            self._measure(trainer, pl_module, 0)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Every n epochs."""
        epoch = trainer.current_epoch + 1
        if epoch % self.every_n_epochs == 0:
            self._measure(trainer, pl_module, epoch)

    def _measure(self, trainer: pl.Trainer, module: pl.LightningModule, epoch: int) -> None:
        if trainer.is_global_zero:
            with untouched(module):
                found = measure(
                    lambda x: self.encode(module, x),
                    self.loader,
                    limit=self.limit,
                    device=module.device,
                    unpack=self.unpack,
                    evaluations=self.evaluations,
                    seed=self.seed,
                    epoch=epoch,
                )
            self.rows = [row for row in self.rows if row.epoch < epoch] + found
            numbers = {f"{self.name}/{row.metric}": row.value for row in found}
            log_numbers(trainer, numbers, trainer.global_step)
            if self.folder is not None:
                self.folder.mkdir(parents=True, exist_ok=True)
                write_csv(self.folder / f"{self.name}.csv", self.rows)
        trainer.strategy.barrier()
