"""When evaluations run: before training, every n epochs on the validation split, at the end on the test split."""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytorch_lightning as pl
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from ssl_mi import atomic
from ssl_mi.callbacks.loggers import log_measurements, log_pictures, log_table, takes_pictures
from ssl_mi.distributed import gather_objects, world
from ssl_mi.evaluation.context import Evaluation, EvaluationContext, Plot
from ssl_mi.evaluation.contracts import EvaluationData
from ssl_mi.evaluation.measurement import Measurement, write_csv, write_table
from ssl_mi.evaluation.wide import reduced_pixels
from ssl_mi.report.tables import short_table

log = logging.getLogger(__name__)

FINAL = "final_evaluation.json"  # what the evaluation at the end has measured, until it is over


class Evaluate(pl.Callback):
    """Runs evaluations and keeps their measurements, in memory, in checkpoints and as `<name>.csv` in `folder`.

    At the end everything is measured once on the test split, for the trained encoder, for the same encoder as it was
    initialised, and, by the evaluations that want them, for raw pixels.

    Args:
        evaluations: name -> evaluation; None leaves one out.
        every_n_epochs: Cadence on the validation split; 0 for the end only.
        folder: Where files go.

    Raises:
        ValueError: A negative cadence.
        TypeError: An entry that is no `Evaluation`.
    """

    def __init__(
        self, evaluations: Mapping[str, Evaluation | None], every_n_epochs: int = 5, folder: str | Path = "."
    ) -> None:
        if every_n_epochs < 0:
            raise ValueError(f"every_n_epochs must not be negative, got {every_n_epochs}; 0 evaluates at the end only")
        for name, evaluation in evaluations.items():
            if not isinstance(evaluation, Evaluation | None):
                raise TypeError(
                    f"evaluation.evaluations.{name} is a {type(evaluation).__name__}: make it a subclass of "
                    "ssl_mi.evaluation.context.Evaluation"
                )
        for name, evaluation in evaluations.items():
            _check_counts(f"evaluation.evaluations.{name}", evaluation)
        self.evaluations = [e for e in evaluations.values() if e is not None]
        self.every_n_epochs = every_n_epochs
        self.folder = Path(folder)
        self.rows: list[Measurement] = []
        self.seconds: dict[str, float] = {}
        self.initial: nn.Module | None = None
        #: The folder of the run that this one goes on with: what it had measured at the end is not measured again.
        self.earlier_folder: Path | None = None
        self._final = FinalMeasurements()

    # What survives a stop

    def state_dict(self) -> dict[str, Any]:
        """The measurements so far."""
        return {"rows": [row.as_dict() for row in self.rows], "seconds": dict(self.seconds)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the measurements of a checkpoint."""
        self.rows = [Measurement(**row) for row in state["rows"]]
        self.seconds = dict(state["seconds"])

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Let every evaluation check the data, and keep the encoder as it was initialised."""
        if self.evaluations and _data(trainer).val is None:
            raise ValueError(
                "evaluations need validation samples, which are measured during training and which projections are "
                "fitted on: set data.val_fraction above 0"
            )
        for evaluation in self.evaluations:
            evaluation.check(_data(trainer))
        # Lightning restores a checkpoint after this: in a resumed run too these are the weights that
        # the seed gives, which is what "randomly initialised" is measured on.
        if self.initial is None:
            towers: Any = pl_module.towers
            self.initial = copy.deepcopy(towers).cpu()

    # When

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Epoch 0."""
        # A resumed run does not start at epoch 0, and what it has learned is no measurement of epoch 0.
        if self.every_n_epochs and trainer.global_step == 0:
            self._evaluate(trainer, pl_module, "val", 0)
            self._log_pictures(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Every n epochs."""
        epoch = trainer.current_epoch + 1
        self.rows = [row for row in self.rows if row.epoch < epoch]  # of an evaluation that was stopped in the middle
        if self.every_n_epochs and epoch % self.every_n_epochs == 0:
            self._evaluate(trainer, pl_module, "val", epoch)
            self._log_pictures(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The test split, or the validation split where there is none."""
        split = "val" if _data(trainer).test is None else "test"
        epoch = trainer.current_epoch
        # Replace measurements of the same split and epoch left by an earlier (resumed) run or by the last epoch.
        self.rows = [row for row in self.rows if row.split != "test" and (row.split, row.epoch) != (split, epoch)]
        self._final = FinalMeasurements.begun(self.earlier_folder, trainer.global_step)
        self.rows += self._final.rows
        # The random encoder first: what was learned is the difference to it.
        if self.initial is not None:
            with _towers(pl_module, self.initial):
                self._evaluate(trainer, pl_module, split, epoch, encoder="random")
        self._evaluate(trainer, pl_module, split, epoch)
        pixels = _Pixels(pl_module.device)
        wanted = [e for e in self.evaluations if e.wants_pixels]
        first = len(self.rows)
        self._evaluate(trainer, pixels, split, epoch, encoder="pixels", evaluations=wanted)
        self._final.end(self.folder)
        if pixels.note:
            noted = [replace(row, note=f"{row.note}; {pixels.note}") for row in self.rows[first:]]
            self.rows = self.rows[:first] + noted
            if world()[0] == 0:
                self._write()
        self._log_pictures(trainer)
        if world()[0] == 0:
            log_table(trainer, "results", *short_table([row.as_dict() for row in self.rows], self.explained()))

    # How

    def _evaluate(
        self,
        trainer: pl.Trainer,
        module: Any,
        split: str,
        epoch: int,
        encoder: str = "trained",
        evaluations: Sequence[Evaluation] | None = None,
    ) -> None:
        context = EvaluationContext(module, _data(trainer), split, epoch, encoder, earlier=tuple(self.rows))
        first = len(self.rows)
        for evaluation in self.evaluations if evaluations is None else evaluations:
            part = f"{encoder} {self.evaluations.index(evaluation)} {evaluation.name}"
            if context.final and part in self._final.done:
                continue  # measured before the run was stopped
            started = time.perf_counter()
            evaluation.embed(context)
            if world()[0] == 0:
                # Small decompositions are fastest on one BLAS thread, and on a busy machine by far.
                with threadpool_limits(1, user_api="blas"):
                    found = list(evaluation.compute(context))
                self.rows += found
                if encoder == "trained":
                    self._write_tables(evaluation)
                self._write()  # an evaluation that fails loses nothing of those before it
                if context.final and encoder != "pixels":  # whose rows get their note later
                    self._final.add(part, found, trainer.global_step, self.folder)
            key = f"{evaluation.name} ({'final' if context.final else 'during training'})"
            self.seconds[key] = self.seconds.get(key, 0.0) + time.perf_counter() - started
        trainer.strategy.barrier()
        if world()[0] == 0 and encoder == "trained":
            followed = {row.metric for row in self.rows if row.split == "val"}
            log_measurements(trainer, split, self.rows[first:], followed)

    def _write(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in {row.evaluation for row in self.rows}:
            write_csv(self.folder / f"{name}.csv", [row for row in self.rows if row.evaluation == name])

    def _write_tables(self, evaluation: Evaluation) -> None:
        """What the evaluation lists beside its measurements, as NAME.csv."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, lines in evaluation.tables().items():
            if lines:
                write_table(self.folder / f"{name}.csv", lines)

    def explained(self) -> dict[str, dict[str, str]]:
        """metric -> what its evaluation says of it: "short", "better", "meaning"."""
        found: dict[str, dict[str, str]] = {}
        for metric in dict.fromkeys(row.metric for row in self.rows):
            told = [about for evaluation in self.evaluations if (about := evaluation.explain(metric)) is not None]
            if told:
                found[metric] = told[0]._asdict()
        return found

    # Pictures

    def plots(self) -> list[Plot]:
        """Draw what the evaluations have to show so far, into `folder`. A plot that fails is named and left out."""
        self.folder.mkdir(parents=True, exist_ok=True)
        rows = [row.as_dict() for row in self.rows]
        found: dict[Path, Plot] = {}
        for evaluation in self.evaluations:
            try:
                found |= {plot.path: plot for plot in evaluation.plots(rows, self.folder)}
            except Exception as error:  # the numbers must reach the report
                log.warning("evaluation '%s' could not draw: %s: %s", evaluation.name, type(error).__name__, error)
        return list(found.values())

    def _log_pictures(self, trainer: pl.Trainer) -> None:
        if world()[0] == 0 and takes_pictures(trainer):
            log_pictures(trainer, self.plots(), trainer.global_step)


@dataclass
class FinalMeasurements:
    """What the evaluation at the end has measured so far, kept in a file until all of it is done.

    Attributes:
        done: The evaluations that are, each of one encoder. One that only draws is done again.
        rows: Their measurements.
    """

    done: list[str] = field(default_factory=list)
    rows: list[Measurement] = field(default_factory=list)

    @classmethod
    def begun(cls, folder: Path | None, step: int) -> FinalMeasurements:
        """Those of a run that was stopped in the middle of them, the same in every process; none where it was not."""
        found: dict[str, Any] = {}
        if folder is not None and world()[0] == 0:
            with contextlib.suppress(OSError, ValueError):
                found = json.loads((folder / FINAL).read_text())
        (found, *_) = gather_objects(found)
        if found.get("step") != step:
            return cls()
        rows = [Measurement(**{**row, "parts": tuple(map(tuple, row["parts"]))}) for row in found["rows"]]
        return cls(list(found["done"]), rows)

    def add(self, part: str, rows: Sequence[Measurement], step: int, folder: Path) -> None:
        """Keep the measurements of one more part."""
        if not rows:
            return
        self.done.append(part)
        self.rows += rows
        content = {"step": step, "done": self.done, "rows": [row.as_dict() for row in self.rows]}
        atomic.write(folder / FINAL, json.dumps(content, default=float))

    def end(self, folder: Path) -> None:
        """All is measured, and in the report."""
        if world()[0] == 0:
            (folder / FINAL).unlink(missing_ok=True)


def _check_counts(key: str, evaluation: Evaluation | None) -> None:
    """Raise ValueError for samples or neighbours that are fewer than one."""
    for name in ("limit", "probe_limit", "k"):
        count = getattr(evaluation, name, None)
        if isinstance(count, int) and count < 1:
            raise ValueError(f"{key}.{name}={count}: use 1 or more")


def _data(trainer: pl.Trainer) -> EvaluationData:
    data = getattr(trainer, "datamodule", None)
    if data is None:
        raise ValueError("evaluations need a data module: pass it as trainer.fit(module, datamodule=data)")
    return data


class _towers:
    """The module with other towers, for the length of a `with`."""

    def __init__(self, module: Any, towers: nn.Module) -> None:
        self.module, self.other = module, towers

    def __enter__(self) -> None:
        self.own = self.module.towers
        self.module.towers = self.other.to(self.module.device)

    def __exit__(self, *error: object) -> None:
        self.module.towers = self.own
        self.other.cpu()


class _Pixels(nn.Module):
    """A module whose representation is the sample itself, an image reduced to 32 x 32 pixels where it is larger.

    `note` says so where larger ones were reduced.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device
        self.towers = SimpleNamespace(encode=self.flat)
        self.note = ""

    def flat(self, views: Sequence[Tensor]) -> Tensor:
        """All that the views show of a sample, `[n, d]`: views of one kind are one picture, of two kinds are two."""
        kinds = [x for v, x in enumerate(views) if not any(torch.equal(x, earlier) for earlier in views[:v])]
        reduced = [reduced_pixels(x) for x in kinds]
        self.note = next((note for _, note in reduced if note), "")
        return torch.cat([x.flatten(1) for x, _ in reduced], 1)
