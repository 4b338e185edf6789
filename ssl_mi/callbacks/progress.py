"""How a run shows its progress: one line, a bar of a notebook, or nothing."""

from __future__ import annotations

import math
import sys
import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar, TQDMProgressBar
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from ssl_mi.callbacks.evaluate import Evaluate

WIDE = 105  # columns, from which on there is room for a bar


class ProgressLine(ProgressBar):
    """One line that changes: epoch from 1, step, images/s, loss, bound and its ceiling, last information and probe.

    Args:
        console: Where it is shown. None: standard output.
    """

    def __init__(self, console: Console | None = None) -> None:
        super().__init__()
        self.console = Console(markup=False, emoji=False, highlight=False) if console is None else console
        self.shown: Progress | None = None
        self._began = 0.0

    def disable(self) -> None:
        """Show nothing, as in all processes but the first."""
        self.close()
        self.console.quiet = True

    def enable(self) -> None:
        """Show the line again."""
        self.console.quiet = False

    def close(self) -> None:
        """Remove the line."""
        if self.shown is not None:
            self.shown.stop()
            self.shown = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the line."""
        columns = [BarColumn(20)] if self.console.width >= WIDE else []
        text = TextColumn("{task.fields[text]}", markup=False)
        self.shown = Progress(*columns, text, console=self.console, transient=True)
        self.shown.add_task("", text="", total=1)
        self.shown.start()

    def on_train_epoch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Count from here."""
        self._began = time.perf_counter()
        self._show(trainer, 0)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """A step further."""
        self._show(trainer, batch_idx + 1)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The line has done its work."""
        self.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """What ended the run is printed below, not beside it."""
        self.close()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """The same, however the run ended."""
        self.close()

    def _show(self, trainer: pl.Trainer, done: int) -> None:
        if self.shown is None:
            return
        text = line_of(trainer, done, time.perf_counter() - self._began)
        task = self.shown.tasks[0].id
        total = trainer.num_training_batches
        self.shown.update(task, text=_cut(text, self.console.width), completed=done, total=total)


def line_of(trainer: pl.Trainer, done: int, seconds: float) -> str:
    """What the line says.

    Args:
        trainer: Of the run.
        done: Steps of this epoch.
        seconds: That they took.
    """
    total, epochs = trainer.num_training_batches, trainer.max_epochs
    parts = [f"epoch {trainer.current_epoch + 1}" + (f"/{epochs}" if epochs and epochs > 0 else "")]
    parts.append(f"{done}/{total}")
    batch_size = getattr(getattr(trainer, "datamodule", None), "batch_size", None)
    if done and batch_size and seconds > 0:
        parts.append(f"{done * batch_size / seconds:.0f} im/s")
    metrics = trainer.callback_metrics
    loss = metrics.get("train/loss_step", metrics.get("train/loss"))
    if loss is not None:
        parts.append(f"loss {float(loss):.3f}")
    latest = _latest(trainer)
    bound, ceiling = metrics.get("train/bound_nats"), latest.get("ceiling", math.nan)
    if bound is not None:
        parts.append(f"bound {float(bound):.2f}" + ("" if math.isnan(ceiling) else f"/{ceiling:.2f}"))
    for name, key, shape in (("MI", "information", "{:.2f}"), ("probe", "linear_probe", "{:.0%}")):
        if key in latest:
            parts.append(f"{name} {shape.format(latest[key])}")
    return "  ".join(parts)


def _latest(trainer: pl.Trainer) -> dict[str, float]:
    """The last headline figures of the trained encoder, and the ceiling of the bound."""
    found: dict[str, float] = {}
    for callback in getattr(trainer, "callbacks", ()):
        for row in callback.rows if isinstance(callback, Evaluate) else ():
            if row.encoder != "trained" or not row.headline:
                continue
            found[row.headline] = row.value
            if row.headline == "bound_nats":
                found["ceiling"] = row.ceiling
    information = [found[head] for head in ("captured_nats", "ksg_nats") if head in found]
    return found | ({"information": information[0]} if information else {})


def _cut(text: str, width: int) -> str:
    """One line, whatever the width."""
    return text if len(text) < width else text[: max(1, width - 2)] + "\u2026"


def progress_bar(style: str) -> ProgressBar | None:
    """A live line, or None where lines (callbacks/history.py) or nothing are printed.

    Args:
        style: "bar", "lines", "none", or "auto": a bar on a terminal and in a notebook, lines in a log file.
    """
    notebook = Console(markup=False, emoji=False).is_jupyter
    if style == "bar" or (style == "auto" and (notebook or sys.stdout.isatty())):
        # In a notebook rich's live display needs a widget that may not be installed; tqdm's bar does not.
        return TQDMProgressBar(leave=False) if notebook else ProgressLine()
    return None
