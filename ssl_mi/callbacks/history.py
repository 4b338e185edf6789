"""What happened in each epoch: loss, bound, learning rate, images per second. Survives a stop."""

from __future__ import annotations

import time

import pytorch_lightning as pl
from rich.console import Console

from ssl_mi.callbacks.loggers import log_numbers


class History(pl.Callback):
    """One dict per epoch in `epochs`; all loggers get its rate and speed.

    Args:
        lines: Print each epoch as a line, where there is no live bar.
    """

    def __init__(self, lines: bool = False) -> None:
        self.epochs: list[dict[str, float]] = []
        self.lines = lines
        self._started = self._spent = 0.0

    def state_dict(self) -> dict:
        return {"epochs": self.epochs, "seconds": time.perf_counter() - self._started if self._started else 0.0}

    def load_state_dict(self, state: dict) -> None:
        self.epochs = list(state["epochs"])
        self._spent = state.get("seconds", 0.0)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # An epoch that a checkpoint was made in does not start again: it has taken so long already.
        self._started = time.perf_counter() - self._spent

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._started = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        seconds = time.perf_counter() - self._started
        metrics = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("train/")}
        metrics = {k.removesuffix("_epoch"): v for k, v in metrics.items() if not k.endswith("_step")}
        batch_size = getattr(getattr(trainer, "datamodule", None), "batch_size", float("nan"))
        images = trainer.num_training_batches * batch_size
        entry = {
            "epoch": trainer.current_epoch + 1,
            "step": trainer.global_step,
            **metrics,
            "lr": trainer.optimizers[0].param_groups[0]["lr"],
            "seconds": seconds,
            "images_per_second": images / seconds,
        }
        self.epochs = [earlier for earlier in self.epochs if earlier["epoch"] < entry["epoch"]]
        self.epochs.append(entry)
        speed = {f"train/{name}": entry[name] for name in ("lr", "images_per_second")}
        log_numbers(trainer, speed, trainer.global_step)
        if self.lines and trainer.is_global_zero:
            total, kind = trainer.max_epochs, getattr(getattr(trainer, "datamodule", None), "kind", "samples")
            left = (total - entry["epoch"]) * seconds if total and total > 0 else float("nan")
            values = "  ".join(
                f"{k.removeprefix('train/')} {v:.4f}" if abs(v) < 1e5 else f"{k.removeprefix('train/')} {v:.4g}"
                for k, v in metrics.items()
            )
            Console(markup=False, emoji=False, highlight=False).print(
                f"epoch {entry['epoch']}/{total}  {values}  {entry['images_per_second']:.0f} {kind}/s  "
                f"{left:.0f} s left",
                soft_wrap=True,
            )
