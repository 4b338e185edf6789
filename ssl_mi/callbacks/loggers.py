"""What a run logs goes to all of its loggers: numbers, hyper-parameters, pictures, the closing table.

The numbers have three heads, whatever is measured: `train/` of each epoch, `val/` of each evaluation, `test/` once at
the end. A measurement is logged by its value; its interval, ceiling and other columns are in the CSV files and the
report.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.loggers import Logger

from ssl_mi.evaluation.context import Plot
from ssl_mi.evaluation.measurement import Measurement

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


def log_measurements(trainer: pl.Trainer, split: str, rows: Sequence[Measurement], followed: Collection[str]) -> None:
    """The values of an evaluation, as `split/metric`.

    On the test split these are the metrics that were followed during training, whose curves end there, and those of
    headlines; the others are in the closing table.

    Args:
        trainer: Whose loggers get them.
        split: "val" or "test".
        rows: What was measured.
        followed: Metrics that were measured during training.
    """
    shown = [row for row in rows if split != "test" or row.metric in followed or row.headline]
    log_numbers(trainer, {f"{split}/{row.metric}": row.value for row in shown}, trainer.global_step)


def log_table(trainer: pl.Trainer, name: str, header: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """A table, to every logger that shows tables or texts.

    A logger shows it if it has Lightning's `log_table(key, columns, data, step)`, as WandbLogger, or if its experiment
    has TensorBoard's `add_text(tag, text, step)` or MLflow's `log_text(run_id, text, artifact_file)`.

    Args:
        trainer: Whose loggers get it.
        name: Of the table.
        header: Titles of the columns.
        lines: Cells of each line.
    """
    table = [list(header), ["---"] * len(header), *map(list, lines)]
    markdown = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in table)
    for logger in trainer.loggers if lines else ():
        shown: Any = logger
        experiment: Any = getattr(logger, "experiment", None)
        if hasattr(shown, "log_table"):
            columns = [title or "quantity" for title in header]
            shown.log_table(key=name, columns=columns, data=[list(line) for line in lines], step=trainer.global_step)
        elif hasattr(experiment, "add_text"):
            experiment.add_text(name, markdown, trainer.global_step)
        elif hasattr(experiment, "log_text"):
            experiment.log_text(shown.run_id, markdown, f"{name}.md")


def takes_pictures(trainer: pl.Trainer) -> bool:
    """Whether any of the loggers shows pictures."""
    return any(_picture_method(logger) is not None for logger in trainer.loggers)


def log_pictures(trainer: pl.Trainer, plots: Iterable[Plot], step: int) -> None:
    """The pictures, to every logger that shows them; others leave them in the run's folder.

    A logger shows pictures if it has Lightning's `log_image(key, images, step)`, as WandbLogger, or if its experiment
    has TensorBoard's `add_image(tag, array, step, dataformats)` or MLflow's `log_artifact(run_id, path, folder)`.
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
    if hasattr(experiment, "log_artifact") and hasattr(logger, "run_id"):
        return lambda key, path, step: experiment.log_artifact(logger.run_id, str(path), f"pictures/step {step}")
    return None


def _pixels(path: Path) -> np.ndarray:
    """A picture file as uint8 `[h, w, 3]`."""
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


class Hyperparameters(pl.Callback):
    """Gives every logger the hyper-parameters when training starts.

    Its state holds the identities of the logs, so that a resumed run can go on with them.

    Args:
        config: The resolved configuration, nested mappings of plain values. None: what the module, its data and the
            trainer report of themselves.
    """

    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        self.config = config
        self.identities: dict[str, str] = {}

    def state_dict(self) -> dict[str, Any]:
        """The identities of the logs, by the argument of a logger that takes them."""
        return {"identities": dict(self.identities)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Keep which logs are gone on with: they have their hyper-parameters, which some do not let change."""
        self.identities = dict(state.get("identities", {}))

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """See the class."""
        values = _facts(trainer, pl_module) if self.config is None else dict(self.config)
        for logger in trainer.loggers:
            identity = _identity(logger)
            if not identity or not identity.items() <= self.identities.items():
                logger.log_hyperparams(values)
            self.identities |= identity


def _identity(logger: Any) -> dict[str, str]:
    """The argument of the logger that continues its log, where it has one: {"id": ...} or {"run_id": ...}."""
    run_id = getattr(logger, "run_id", None)
    if isinstance(run_id, str):
        return {"run_id": run_id}
    if hasattr(logger, "log_image") and isinstance(logger.version, str):
        return {"id": logger.version}
    return {}


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
