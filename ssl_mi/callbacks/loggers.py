"""What a run logs goes to all of its loggers: numbers, hyper-parameters, pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.loggers import Logger

from ssl_mi.evaluation.context import Plot

Take = Callable[[str, Path, int], object]  # (key, file, step)


def as_loggers(built: Logger | Mapping[str, Logger | None] | None) -> list[Logger] | Literal[False]:
    """One logger, several by name, or None -> what `pl.Trainer(logger=...)` takes."""
    if built is None:
        return False
    if not isinstance(built, Mapping):
        return [built]
    return [logger for logger in built.values() if logger is not None] or False


def log_numbers(trainer: pl.Trainer, numbers: Mapping[str, float], step: int) -> None:
    """The numbers, to every logger."""
    for logger in trainer.loggers:
        logger.log_metrics(dict(numbers), step=step)


def takes_pictures(trainer: pl.Trainer) -> bool:
    """Whether any of the loggers shows pictures."""
    return any(_picture_method(logger) is not None for logger in trainer.loggers)


def log_pictures(trainer: pl.Trainer, plots: Iterable[Plot], step: int) -> None:
    """The pictures, to every logger that shows them; others leave them in the run's folder.

    A logger shows pictures if it has Lightning's `log_image(key, images, step)`, as WandbLogger, or if its experiment
    has TensorBoard's `add_image(tag, array, step, dataformats)`.
    """
    methods = [take for logger in trainer.loggers if (take := _picture_method(logger)) is not None]
    for plot in plots if methods else ():
        for take in methods:
            take(plot.path.stem, plot.path, step)


def _picture_method(logger: Any) -> Take | None:
    if hasattr(logger, "log_image"):
        return lambda key, path, step: logger.log_image(key=key, images=[str(path)], step=step)
    experiment: Any = getattr(logger, "experiment", None)
    if hasattr(experiment, "add_image"):
        return lambda key, path, step: experiment.add_image(key, _pixels(path), step, dataformats="HWC")
    return None


def _pixels(path: Path) -> np.ndarray:
    """A picture file as uint8 `[h, w, 3]`."""
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


class Hyperparameters(pl.Callback):
    """Gives every logger the hyper-parameters when training starts.

    Args:
        config: The resolved configuration, nested mappings of plain values. None: what the module, its data and the
            trainer report of themselves.
    """

    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        self.config = config

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """See the class."""
        values = _facts(trainer, pl_module) if self.config is None else dict(self.config)
        for logger in trainer.loggers:
            logger.log_hyperparams(values)


def _facts(trainer: pl.Trainer, module: Any) -> dict[str, Any]:
    data = getattr(trainer, "datamodule", None)
    optimizer = trainer.optimizers[0] if trainer.optimizers else None
    parts = {name: getattr(module, name, None) for name in ("towers", "teacher", "objective")}
    return {
        "module": type(module).__name__,
        **{name: getattr(part, "name", type(part).__name__) for name, part in parts.items() if part is not None},
        "parameters": sum(p.numel() for p in module.parameters() if p.requires_grad),
        **({} if optimizer is None else {"optimizer": type(optimizer).__name__, "lr": optimizer.param_groups[0]["lr"]}),
        "max_epochs": trainer.max_epochs,
        **({} if data is None else {"data": data.describe(), "views": data.describe_views()}),
        **{name: getattr(data, name) for name in ("batch_size", "seed") if hasattr(data, name)},
    }
