"""Callbacks that move a number while training, or keep parameters still for a while.

    schedules:
      temperature:
        _target_: ssl_mi.callbacks.Schedule
        target: objective.critic.temperature
        start: 0.5
        end: 0.1

A value is a function of the optimizer step alone (schedules.py): it is the same in every process, for all batches that
are accumulated into a step, and in a run that was resumed anywhere. It is set before the step's first batch and holds
for the whole step: for the loss, for the optimizer, and for a teacher's update after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ssl_mi import _nearest as nearest
from ssl_mi.optim import groups_to_schedule
from ssl_mi.schedules import SHAPES, milestones, run_length

Shape = Callable[[float, float, float, float], float]


class Scheduled(pl.Callback):
    """Sets `target` to `value(step)` before each optimizer step. Subclasses give the values.

    Args:
        target: What is moved, by its path in the module: a number ("objective.target_temperature", "teacher.momentum"),
            a property, a scalar buffer, or a field of the parameter groups ("optimizer.weight_decay",
            "objective_optimizer.weight_decay"; weight decay stays 0 for biases and norms).

    Raises:
        ValueError: When training starts, if there is no such target (with the nearest one), if it is no number, if it
            is learned or moves already, or if the part refuses a value.
    """

    def __init__(self, target: str) -> None:
        self.target = target

    def ends(self) -> tuple[float, float]:
        """The values at the first step and in the end."""
        raise NotImplementedError

    def value(self, step: int, total_steps: float, steps_per_epoch: int) -> float:
        """The value at an optimizer step.

        Args:
            step: From 0.
            total_steps: Of the run; infinity where it has no end.
            steps_per_epoch: Optimizer steps per epoch.
        """
        raise NotImplementedError

    def describe(self, max_epochs: int | None = None) -> str:
        """The target and its values in a few words, for the first lines of a run of `max_epochs`."""
        raise NotImplementedError

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        same = [c for c in trainer.callbacks if isinstance(c, Scheduled) and c.target == self.target]  # type: ignore[attr-defined]
        if len(same) > 1:
            raise ValueError(f"{len(same)} schedules move {self.target}: keep one of them")
        # The part's own checks see both ends before anything is computed; the first is where the run starts.
        for value in reversed(self.ends()):
            set_number(pl_module, self.target, value)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._set(trainer, pl_module)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._set(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # The value of the epoch's last step.
        value = self.value(max(trainer.global_step - 1, 0), *run_length(trainer))
        pl_module.log(f"train/{self.target}", value, on_step=False, on_epoch=True)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # What the final evaluation sees is the value of the last step, also where only that evaluation was left.
        set_number(pl_module, self.target, self.value(max(trainer.global_step - 1, 0), *run_length(trainer)))

    def _set(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        set_number(pl_module, self.target, self.value(trainer.global_step, *run_length(trainer)))


class Schedule(Scheduled):
    """Moves a number from `start` to `end`, where it stays.

    Args:
        target: See `Scheduled`.
        start: Value at step 0.
        end: Value in the end.
        over_steps: Optimizer steps that it takes; None for all of the run.
        over_epochs: The same in epochs; may be a fraction. Not both.
        shape: "cosine", "linear" or "jump", or a function of (step, start, end, steps).

    Raises:
        ValueError: On both lengths, a length that is not positive, an unknown shape; and see `Scheduled`.

    Example:
        >>> schedule = Schedule("objective.critic.temperature", start=0.5, end=0.1, over_steps=100, shape="linear")
        >>> round(schedule.value(50, total_steps=100, steps_per_epoch=10), 4)
        0.3
    """

    def __init__(
        self,
        target: str,
        start: float,
        end: float,
        over_steps: int | None = None,
        over_epochs: float | None = None,
        shape: str | Shape = "cosine",
    ) -> None:
        super().__init__(target)
        if isinstance(shape, str) and shape not in SHAPES:
            raise ValueError(f"schedule of {target}: there is no shape={shape}; choose {', '.join(SHAPES)}")
        _check_length(f"schedule of {target}", "over", over_steps, over_epochs)
        self.start, self.end = float(start), float(end)
        self.over_steps, self.over_epochs = over_steps, over_epochs
        self.shape = shape

    def ends(self) -> tuple[float, float]:
        return self.start, self.end

    def value(self, step: int, total_steps: float, steps_per_epoch: int) -> float:
        steps = _in_steps(self.over_steps, self.over_epochs, steps_per_epoch)
        steps = total_steps if steps is None else steps
        if steps == float("inf"):
            raise ValueError(
                f"the schedule of {self.target} goes over the whole run, which has no end: set over_steps, or "
                "trainer.max_epochs"
            )
        shape = SHAPES[self.shape] if isinstance(self.shape, str) else self.shape
        return shape(step, self.start, self.end, steps)

    def describe(self, max_epochs: int | None = None) -> str:
        shape = self.shape if isinstance(self.shape, str) else getattr(self.shape, "__name__", "own shape")
        length = _described(self.over_steps, self.over_epochs) or "the run"
        return (
            f"{self.target} {self.start:g} -> {self.end:g}, {shape} over {length}{_cut(self.over_epochs, max_epochs)}"
        )

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_fit_start(trainer, pl_module)
        if self.over_steps is None and self.over_epochs is None and trainer.max_epochs == trainer.max_steps == -1:
            self.value(0, float("inf"), 1)  # raises, where there is no end, before an evaluation is made


class Milestones(Scheduled):
    """Gives a number new values at certain epochs or steps.

    Args:
        target: See `Scheduled`.
        values: {first epoch or step: value}; one of them at 0.
        unit: "epochs" or "steps", what `values` counts in.

    Raises:
        ValueError: If no value starts at 0, or on another unit; and see `Scheduled`.
    """

    def __init__(self, target: str, values: Mapping[float, float], unit: str = "epochs") -> None:
        super().__init__(target)
        if unit not in ("epochs", "steps"):
            raise ValueError(f"schedule of {target}: unit={unit}; choose epochs or steps")
        self.values = {float(first): float(values[first]) for first in sorted(values)}
        self.unit = unit
        milestones(0, self.values)

    def ends(self) -> tuple[float, float]:
        numbers = list(self.values.values())
        return numbers[0], numbers[-1]

    def value(self, step: int, total_steps: float, steps_per_epoch: int) -> float:
        return milestones(step / steps_per_epoch if self.unit == "epochs" else step, self.values)

    def describe(self, max_epochs: int | None = None) -> str:
        steps = ", ".join(f"{value:g} from {first:g}" for first, value in self.values.items())
        cut = _cut(max(self.values), max_epochs) if self.unit == "epochs" else ""
        return f"{self.target} {steps} ({self.unit}){cut}"


class Freeze(pl.Callback):
    """Keeps parameters still for the first steps: their gradient is cancelled before the optimizer sees it.

    They take no part in the step: no weight decay, no momentum, no share of a clipped norm.

    Args:
        target: A parameter, or a module whose parameters are meant, by its path in the module
            ("towers.tower.projector.prototypes").
        for_steps: Optimizer steps from the start.
        for_epochs: The same in epochs; may be a fraction. One of the two.

    Raises:
        ValueError: On no length, on both or on one that is not positive; when training starts, if there is no such
            target (with the nearest one) or it has no trainable parameter.

    References:
        Caron et al. 2021, arXiv:2104.14294, appendix A: DINO's last layer, during the first epoch.
    """

    def __init__(self, target: str, for_steps: int | None = None, for_epochs: float | None = None) -> None:
        _check_length(f"freeze of {target}", "for", for_steps, for_epochs)
        if for_steps is None and for_epochs is None:
            raise ValueError(f"freeze of {target}: set for_epochs or for_steps")
        self.target, self.for_steps, self.for_epochs = target, for_steps, for_epochs

    def describe(self, max_epochs: int | None = None) -> str:
        """The target and the length in a few words, for the first lines of a run of `max_epochs`."""
        length = _described(self.for_steps, self.for_epochs)
        return f"{self.target} frozen for {length}{_cut(self.for_epochs, max_epochs)}"

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._parameters(pl_module)

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        steps = _in_steps(self.for_steps, self.for_epochs, run_length(trainer)[1])
        if steps is not None and trainer.global_step < steps:
            for parameter in self._parameters(pl_module):
                parameter.grad = None

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        steps = _in_steps(self.for_steps, self.for_epochs, run_length(trainer)[1])
        frozen = steps is not None and trainer.global_step <= steps
        pl_module.log(f"train/{self.target}.frozen", float(frozen), on_step=False, on_epoch=True)

    def _parameters(self, module: nn.Module) -> list[nn.Parameter]:
        parts = {**dict(module.named_modules()), **dict(module.named_parameters())}
        part = parts.get(self.target)
        if part is None:
            raise ValueError(f"there is no part {self.target} to freeze{nearest.hint(self.target, list(parts))}")
        found = [part] if isinstance(part, nn.Parameter) else list(part.parameters())
        trainable = [parameter for parameter in found if parameter.requires_grad]
        if not trainable:
            raise ValueError(f"{self.target} has no trainable parameter to freeze")
        return trainable


def set_number(module: pl.LightningModule, target: str, value: float) -> None:
    """Set a number of a module, by its path.

    Args:
        module: A module; one that trains, where the target is a field of the parameter groups.
        target: See `Scheduled`.
        value: The new value.

    Raises:
        ValueError: See `Scheduled`.
    """
    *path, name = target.split(".")
    groups = _optimizer_groups(module)
    if len(path) == 1 and path[0] in groups:
        _set_field(groups[path[0]], target, name, value)
        return
    owner: Any = module
    for part in path:
        owner = getattr(owner, part, None)
    if not path or not isinstance(owner, nn.Module) or not hasattr(owner, name):
        raise ValueError(f"there is no {target} to schedule{nearest.hint(target, _targets(module, groups))}")
    try:
        _set_attribute(owner, name, value)
        check = getattr(owner, "check_settings", None)
        if check is not None:
            check()
    except ValueError as error:
        raise ValueError(f"{target} cannot be scheduled to {value:g}: {error}") from error


def _set_field(groups: list[dict[str, Any]], target: str, name: str, value: float) -> None:
    """One field of the parameter groups, where it may move."""
    if name == "lr":
        raise ValueError(f"{target} has a schedule of its own: choose it with schedule=")
    found = groups_to_schedule(groups, name)
    if not found:
        known = [f"{target.split('.')[0]}.{key}" for key in groups[0] if _is_number(groups[0][key])]
        raise ValueError(f"there is no {target} to schedule{nearest.hint(target, known)}")
    for group in found:
        if not _is_number(group[name]):
            raise ValueError(f"{target} cannot be scheduled: it is {group[name]!r}, not a number")
        group[name] = value


def _set_attribute(owner: nn.Module, name: str, value: float) -> None:
    """A number, a property or a scalar buffer of one part."""
    old = getattr(owner, name)
    if isinstance(old, nn.Parameter):
        raise ValueError("it is a parameter, which is learned")
    if isinstance(old, Tensor):
        if old.dim() or not old.is_floating_point():
            raise ValueError(f"it is a {old.dtype} tensor of shape {list(old.shape)}, not a number")
        with torch.no_grad():
            old.fill_(value)
        return
    if not _is_number(old):
        raise ValueError(f"it is a {type(old).__name__}, not a number")
    own = getattr(type(owner), name, None)
    if isinstance(own, property) and own.fset is None:
        raise ValueError("it follows from other numbers: schedule those")
    setattr(owner, name, value)


def _optimizer_groups(module: pl.LightningModule) -> dict[str, list[dict[str, Any]]]:
    """The parameter groups by the name of their optimizer."""
    own = getattr(module, "optimizer_groups", None)
    return own() if own is not None else {"optimizer": [g for o in module.trainer.optimizers for g in o.param_groups]}


def _targets(module: nn.Module, groups: dict[str, list[dict[str, Any]]]) -> list[str]:
    """What can be scheduled, by path: for the nearest name where one is unknown."""
    found = [f"{optimizer}.{key}" for optimizer, own in groups.items() for key in own[0] if _is_number(own[0][key])]
    for prefix, part in module.named_modules():
        if prefix:
            found += [f"{prefix}.{name}" for name in _numbers(part)]
    return [target for target in found if not target.endswith(".lr")]


def _numbers(part: nn.Module) -> Iterator[str]:
    """The names of a part's own numbers, of its scalar buffers and of the properties that can be set."""
    for name, value in vars(part).items():
        if not name.startswith("_") and _is_number(value):
            yield name
    for name, buffer in part.named_buffers(recurse=False):
        if not buffer.dim() and buffer.is_floating_point():
            yield name
    for kind in type(part).__mro__:
        for name, value in vars(kind).items():
            if isinstance(value, property) and value.fset is not None:
                yield name


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_length(what: str, prefix: str, steps: float | None, epochs: float | None) -> None:
    if steps is not None and epochs is not None:
        raise ValueError(f"{what}: {prefix}_steps={steps} and {prefix}_epochs={epochs}: set one of them")
    for unit, length in {"steps": steps, "epochs": epochs}.items():
        if length is not None and not length > 0:
            raise ValueError(f"{what}: {prefix}_{unit}={length} must be positive")


def _in_steps(steps: float | None, epochs: float | None, steps_per_epoch: int) -> float | None:
    return steps if epochs is None else epochs * steps_per_epoch


def _described(steps: float | None, epochs: float | None) -> str:
    if epochs is not None:
        return f"{epochs:g} epoch" + ("s" if epochs != 1 else "")
    return "" if steps is None else f"{steps:g} steps"


def _cut(epochs: float | None, max_epochs: int | None) -> str:
    """A note where the run is shorter than what is planned for it."""
    shorter = epochs is not None and max_epochs is not None and 0 < max_epochs < epochs
    return f" (the run ends after {max_epochs:g})" if shorter else ""
