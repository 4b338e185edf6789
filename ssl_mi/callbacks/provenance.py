"""What makes a checkpoint complete by itself: how its networks are built and fed, and where it is from.

Lightning's checkpoint holds weights and counters. Under the key `KEY` this adds a mapping of plain values, which
`torch.load(..., weights_only=True)` reads without executing code:

    format          version of this mapping, `checkpoint_format.FORMAT`
    config          the resolved configuration, nested mappings of plain values
    towers          name of the tower that sees view 0, 1, ... in the state dict; one name where all views share it
    evaluated       "online" or "teacher": which weights the method's paper evaluates
    teacher         whether there is a teacher
    preprocessing   size, mean, std and what each view shows (`ImageModule.preprocessing`); None for other data
    class_names     one per class
    data            what the report records of the data
    commit, python, versions, machine, command, name, seed, objective
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from ssl_mi.checkpoint_format import FORMAT, KEY
from ssl_mi.report.environment import environment


class Provenance(pl.Callback):
    """Completes every checkpoint of a run (see the module).

    Args:
        config: The resolved configuration, nested mappings of plain values. None: a module that was built in Python,
            whose encoder `ssl_mi.load` has to be given.
        command: What started the run.
    """

    def __init__(self, config: Mapping[str, Any] | None = None, command: str = "") -> None:
        self.config = None if config is None else dict(config)
        self.command = command

    @cached_property
    def _environment(self) -> dict[str, Any]:
        return environment(Path(__file__).parent)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the description to the checkpoint."""
        module: Any = pl_module
        data: Any = getattr(trainer, "datamodule", None)
        preprocessing = getattr(data, "preprocessing", None)
        config = self.config or {}
        checkpoint[KEY] = {
            "format": FORMAT,
            "config": self.config,
            "towers": tower_names(module),
            "teacher": getattr(module, "teacher", None) is not None,
            "evaluated": getattr(module.objective, "evaluated", "online"),
            "objective": str(getattr(module.objective, "name", type(module.objective).__name__)),
            "preprocessing": None if preprocessing is None else preprocessing(),
            "class_names": [str(name) for name in getattr(data, "class_names", ())],
            "data": plain(data.report()) if hasattr(data, "report") else {},
            "name": config.get("name"),
            "seed": config.get("seed"),
            "command": self.command,
            **self._environment,
        }


def tower_names(module: Any) -> list[str]:
    """The name, in the module, of the tower of view 0, 1, ...; one name where the first two are one tower."""
    names = {id(part): name for name, part in module.named_modules()}
    found: list[str] = []
    while True:
        try:
            name = names[id(module.towers.tower_of(len(found)))]
        except (IndexError, KeyError):  # of a tower per view, the last was named
            return found
        if name in found:
            return found
        found.append(name)


def plain(value: Any) -> Any:
    """The value in plain containers, which a checkpoint can hold: what is no number, text or container becomes text."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value if isinstance(value, str | int | float | None) else str(value)
