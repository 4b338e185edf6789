"""The base of the LightningModules: a method is a choice of parts, which are towers, perhaps a teacher, an objective.

A module is a subclass with a `gives` and a `loss` of its own: joint_embedding.py has the usual one, and its siblings
(masked.py, masked_distillation.py, masked_siamese.py) those of methods whose training step is another.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Protocol, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ssl_mi.distributed import synchronise_batch_norm, world
from ssl_mi.finite import FiniteLosses, NotFinite
from ssl_mi.optim import CompositeOptimizer, parameter_groups
from ssl_mi.resume import Resumable
from ssl_mi.schedules import run_length

#: The modules of this package by what they give an objective, for the message where the two do not fit.
MODULES = {
    "embeddings": "joint_embedding",
    "masked patches": "masked_autoencoder",
    "masked tokens": "masked_distillation",
    "masked views": "masked_siamese",
}

#: Where a batch lacks what an objective requires and other data are not all that helps.
REMEDIES = {"boxes": "views are to be cut from images in memory, by an `Augmentation`; choose such data"}


class Towers(Protocol):
    """What a module needs of its towers, an `nn.Module`: `networks.towers` has two.

    Attributes:
        out_dim: Width of an embedding z.
        forward_passes: In words, which views a batch norm sees together.
        returns_feature_maps: Whether `maps` has local embeddings.
    """

    @property
    def out_dim(self) -> int: ...

    @property
    def forward_passes(self) -> str: ...

    @property
    def returns_feature_maps(self) -> bool: ...

    def __call__(self, views: Sequence[Tensor]) -> Any:
        """Views, one [n, ...] each -> `h`, `z` and `maps`, lists with one entry for each view."""

    def tower_of(self, view: int) -> Any:
        """The tower that sees a view: a module with an `encoder` and a `projector`."""


class Teacher(Protocol):
    """What a module needs of its teacher, an `nn.Module`: `networks.teacher.EMA` is one.

    Attributes:
        needs_end: Whether it changes with the part of the run that is done, so that the run must have an end.
    """

    @property
    def needs_end(self) -> bool: ...

    def copy_from(self, towers: Any) -> None:
        """Start as a frozen copy of the towers."""

    def update(self, towers: Any, progress: float) -> None:
        """Follow the towers, after each optimizer step; progress in [0, 1] is the part of the run that is done."""

    def momentum_at(self, progress: float) -> float:
        """The share of its past that it keeps in a step."""

    def describe(self) -> str:
        """How its momentum moves, in a few words, for the first lines of a run."""

    def __call__(self, views: Sequence[Tensor]) -> Any:
        """As `Towers`, without gradients, and perhaps for the first views only."""


class SelfSupervised(Resumable):
    """What the training modules share: optimizers, rate schedule, logging, checks, random state, batch norms.

    A subclass has a `gives`, in the words of `Objective.learns_from`, and a `loss(batch)`.

    Args:
        towers: Views to embeddings, see networks/towers.py.
        objective: What makes the objective from `dim`, the width of z; or the objective. See objectives/objective.py.
        optimizer: What makes the optimizer from parameter groups: a partial, a class or a function. Its `lr` is the
            rate that is used: nothing scales it.
        schedule: What makes the rate's scheduler from (optimizer, total_steps, steps_per_epoch); None for a constant
            rate.
        objective_optimizer: As `optimizer`, for the objective's own parameters (MINE's critic); None to train them with
            the towers'.
        objective_schedule: False keeps the rate of objective_optimizer constant.
        channels_last: Memory format of the towers' weights; the numbers are the same up to rounding.
        sync_batchnorm: With several processes, batch norms see the batch of all of them, as in one process.
        seed: Of dropout and the like; views have their own.

    Raises:
        ValueError: If the parts are incompatible; the message has the key to set.
    """

    gives: ClassVar[str]

    towers: Towers
    objective: Any

    def __init__(
        self,
        towers: Towers,
        objective: nn.Module | Callable[..., nn.Module],
        optimizer: Callable[[list[dict[str, Any]]], Optimizer],
        schedule: Callable[..., object] | None = None,
        objective_optimizer: Callable[[list[dict[str, Any]]], Optimizer] | None = None,
        objective_schedule: bool = True,
        channels_last: bool = False,
        sync_batchnorm: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        # A convolution runs channels-last when its weights are: the views need no copy.
        self.towers = towers
        if channels_last:
            self._towers().to(memory_format=torch.channels_last)
        self.objective = self._built(objective)
        self.make_optimizer = optimizer
        self.make_objective_optimizer = objective_optimizer
        self.make_schedule = schedule
        self.objective_schedule = objective_schedule
        self.sync_batchnorm = sync_batchnorm
        self.seed = seed
        self._losses = FiniteLosses()
        self._scale: float | None = None  # of float16 gradients, after the last step
        self._check_objective_optimizer()

    # What a subclass gives

    def loss(self, batch: Any) -> Any:
        """The objective's Loss (terms, metrics, total) on the rows of all processes."""
        raise NotImplementedError

    def objective_arguments(self) -> dict[str, Any]:
        """What the objective is made from besides `dim`."""
        return {}

    def check_views(self, views: Sequence[Tensor]) -> None:
        """Raise ValueError, with the key to set, unless the module can train on views like these.

        Args:
            views: A few rows of every view.
        """
        if len(views) < self.objective.min_views:
            raise ValueError(
                f"'{self.objective.name}' compares {self.objective.min_views} views or more and the data give "
                f"{len(views)}: choose another augmentation" + self.objective.fewer_views
            )
        with _in_evaluation(self._towers()), torch.no_grad():
            self.towers(views)  # towers that cannot take the views raise here, before anything is lost

    def on_step_taken(self) -> None:
        """Called after each optimizer step that was taken; one that a gradient scaler skipped is not."""

    # Before training

    def setup(self, stage: str) -> None:
        self._losses, self._scale = FiniteLosses(), None  # an earlier fit's are not this one's
        data = getattr(self.trainer, "datamodule", None)
        if stage == "fit" and hasattr(data, "batches"):
            self._check_data(data)

    def configure_model(self) -> None:
        if self.sync_batchnorm and world()[1] > 1:
            # The networks see a share of the batch; the objective sees the rows of all processes as it is.
            for name, part in self.named_children():
                if name != "objective":
                    synchronise_batch_norm(part, self.trainer.strategy.root_device)

    def configure_optimizers(self) -> Any:
        if self.make_objective_optimizer is None:
            optimizer = self.make_optimizer(parameter_groups(nn.ModuleList([self._towers(), self.objective])))
        else:
            own = [{**group, "scheduled": self.objective_schedule} for group in parameter_groups(self.objective)]
            towers = self.make_optimizer(parameter_groups(self._towers()))
            optimizer = CompositeOptimizer([towers, self.make_objective_optimizer(own)])
        if self.make_schedule is None:
            return optimizer
        total, per_epoch = run_length(self.trainer)
        if math.isinf(total):
            raise ValueError("a schedule needs an end: set trainer.max_epochs or trainer.max_steps")
        scheduler = self.make_schedule(optimizer, total_steps=int(total), steps_per_epoch=per_epoch)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def optimizer_groups(self) -> dict[str, list[dict[str, Any]]]:
        """The parameter groups as they are now, by the optimizer's name in the configuration. For schedules."""
        (optimizer,) = self.trainer.optimizers
        if not isinstance(optimizer, CompositeOptimizer):
            return {"optimizer": optimizer.param_groups}
        towers, own = optimizer.optimizers
        return {"optimizer": towers.param_groups, "objective_optimizer": own.param_groups}

    def describe_optimizer(self) -> str:
        """The optimizer's name and learning rate, whatever makes it: a partial, a class or a function."""
        optimizer = self.make_optimizer([{"params": [nn.Parameter(torch.zeros(1))]}])
        return f"{type(optimizer).__name__}, learning rate {optimizer.param_groups[0]['lr']:g}"

    def describe_schedules(self) -> list[str]:
        """What moves with the step inside the parts, beside the learning rate, for the first lines of a run."""
        return []

    # Training

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if not hasattr(batch, "views"):
            raise TypeError(
                f"a training batch is a `Batch(views, index, labels)`, but the loader gave a {type(batch).__name__}: "
                "make it in the loader's collate_fn, or train with a data module of ssl_mi.data"
            )
        try:
            loss = self.loss(batch)
        except torch.linalg.LinAlgError as error:
            raise NotFinite(
                f"the loss cannot be computed at step {self.trainer.global_step} (epoch {self.trainer.current_epoch}): "
                f"{error} The embeddings have collapsed or are not finite: lower the learning rate, or train in "
                "float32 (trainer.precision=32-true)."
            ) from error
        total = loss.total
        self._losses.watch(loss.terms, total, self.trainer.global_step, self.trainer.current_epoch)
        # Every process holds the loss of the whole batch: there is nothing to average.
        values = {f"train/{k}": v.detach() for k, v in {**loss.terms, **loss.metrics}.items()}
        rows = len(batch.views[0]) * world()[1]
        self.log("train/loss", total.detach(), prog_bar=True, on_step=True, on_epoch=True, batch_size=rows)
        self.log_dict(values, on_step=False, on_epoch=True, batch_size=rows)
        return total

    def on_train_epoch_start(self) -> None:
        # Randomness inside the networks (dropout) comes from (seed, epoch, rank), so that a run resumed
        # at an epoch continues exactly as if it had not stopped. Views draw from counters of their own.
        torch.manual_seed((self.seed * 1_000_003 + self.trainer.current_epoch) * 65_537 + world()[0])

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        steps = self.trainer.max_steps
        if self.trainer.is_last_batch or 0 <= steps <= self.trainer.global_step:  # before anything is measured
            self._losses.look()

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        # In float16 a step whose scaled gradients overflowed is left out, and the scale lowered. To ask for the scale
        # is to wait for the device: once a step, after the scaler itself had to.
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        before = scaler.get_scale() if scaler is not None and self._scale is None else self._scale
        super().optimizer_step(*args, **kwargs)
        self._scale = None if scaler is None else scaler.get_scale()
        # Lightning calls this once per optimizer step, so accumulated batches count once.
        if self._scale is None or before is None or self._scale >= before:
            self.on_step_taken()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._losses.look()
        # The last step of an epoch may have ruined the weights after its loss was still finite.
        named = dict(self.named_parameters())
        # Looked at once: to ask for each would be to wait for the device as many times.
        finite = torch.stack([torch.isfinite(p).all() for p in named.values()]).tolist() if named else []
        ruined = [name for name, good in zip(named, finite, strict=True) if not good]
        if ruined:
            raise NotFinite(
                f"weights are not finite after step {self.trainer.global_step}: {', '.join(ruined[:4])}; "
                "the last good checkpoint is kept. Lower the learning rate, or train in float32."
            )
        super().on_save_checkpoint(checkpoint)

    # Helpers

    def _towers(self) -> nn.Module:
        return cast(nn.Module, self.towers)

    def _built(self, objective: nn.Module | Callable[..., nn.Module]) -> nn.Module:
        """The objective for these towers, checked against what this module gives."""
        # Before it is made: what another kind is made from, this module does not have.
        self._check_kind(getattr(objective, "func", objective))
        arguments = {"dim": self.towers.out_dim, **self.objective_arguments()}
        made = objective if isinstance(objective, nn.Module) else objective(**arguments)
        self._check_kind(made)
        if hasattr(made, "checks_finite"):
            cast(Any, made).checks_finite = False  # `training_step` looks at the loss
        build = getattr(made, "build", None)
        if callable(build):  # what depends on the width of an embedding, unless it was made before
            build(self.towers.out_dim)
        return made

    def _check_kind(self, objective: Any) -> None:
        wanted = getattr(objective, "learns_from", self.gives)
        if wanted == self.gives:
            return
        name = getattr(objective, "name", objective)
        remedy = f"set module={MODULES[wanted]}" if wanted in MODULES else f"it needs a module whose gives = {wanted!r}"
        raise ValueError(f"'{name}' learns from {wanted} and {type(self).__name__} gives {self.gives}: {remedy}")

    def _check_objective_optimizer(self) -> None:
        if self.make_objective_optimizer is None and not self.objective_schedule:
            raise ValueError(
                "objective_schedule=false keeps the rate of objective_optimizer, and there is none: set one"
            )
        if self.make_objective_optimizer is not None and not list(self.objective.parameters()):
            raise ValueError(
                f"objective_optimizer is set, but the objective '{self.objective.name}' has no parameters: "
                "set objective_optimizer=null"
            )

    def _check_data(self, data: Any) -> None:
        """Refuse data that the parts cannot train on, before the first evaluation."""
        self.objective.check(len(data.train))
        if "index" in self.objective.requires and not getattr(data, "numbered", True):
            raise ValueError(
                f"{self.objective.name} remembers every image by its row, and a stream has no rows: choose another "
                "objective, or data that are read by row"
            )
        if hasattr(data, "asked"):
            data.asked = tuple(self.objective.requires)
        batch = data.views(next(iter(data.batches("train", batch_size=2))), 0)
        for name in self.objective.requires:
            if getattr(batch, name, ...) is None:
                raise ValueError(
                    f"'{self.objective.name}' needs {name} and the training images have no {name}: "
                    f"{REMEDIES.get(name, f'choose data with {name}')}, or another objective"
                )
        self.check_views(batch.views)


class Taught(SelfSupervised):
    """What the modules share whose targets a teacher may make: it follows the towers after each step.

    Args:
        towers: See `SelfSupervised`, as all arguments but `teacher`.
        objective: See `SelfSupervised`.
        optimizer: What makes the optimizer from parameter groups.
        schedule: What makes the rate's scheduler; None for a constant rate.
        teacher: Makes the targets, usually an average of the towers' past; None where the towers make them.
        objective_optimizer: An optimizer for the objective's own parameters.
        objective_schedule: False keeps the rate of objective_optimizer constant.
        channels_last: Memory format of the towers' weights.
        sync_batchnorm: Batch norms see the batch of all processes.
        seed: Of dropout and the like.

    Raises:
        ValueError: If the parts are incompatible; the message has the key to set.
    """

    teacher: Any

    def __init__(
        self,
        towers: Towers,
        objective: nn.Module | Callable[..., nn.Module],
        optimizer: Callable[[list[dict[str, Any]]], Optimizer],
        schedule: Callable[..., object] | None = None,
        teacher: Teacher | None = None,
        objective_optimizer: Callable[[list[dict[str, Any]]], Optimizer] | None = None,
        objective_schedule: bool = True,
        channels_last: bool = False,
        sync_batchnorm: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__(
            towers,
            objective,
            optimizer,
            schedule=schedule,
            objective_optimizer=objective_optimizer,
            objective_schedule=objective_schedule,
            channels_last=channels_last,
            sync_batchnorm=sync_batchnorm,
            seed=seed,
        )
        self._check_teacher(teacher)
        self.check_parts()
        self.teacher = teacher
        if teacher is not None:
            teacher.copy_from(self.towers)

    def check_parts(self) -> None:
        """Raise ValueError, with the key to set, unless the towers give what the objective needs."""

    def setup(self, stage: str) -> None:
        if stage == "fit" and self.trainer.max_epochs == -1 and self.trainer.max_steps == -1:
            self._check_end(math.inf)
        super().setup(stage)

    def describe_schedules(self) -> list[str]:
        return [f"teacher.{self.teacher.describe()}"] if self.teacher is not None and self.teacher.needs_end else []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if self.teacher is not None and self.teacher.needs_end:
            momentum = self.teacher.momentum_at(self._progress())
            self.log("train/teacher.momentum", momentum, on_step=False, on_epoch=True, batch_size=1)
        return super().training_step(batch, batch_idx)

    def on_step_taken(self) -> None:
        if self.teacher is not None:
            self.teacher.update(self.towers, self._progress())

    def _progress(self) -> float:
        """The part of the run that is done after the current step, in [0, 1]."""
        done, total = self.trainer.global_step + 1, self.trainer.estimated_stepping_batches
        self._check_end(total)
        return min(1.0, done / total)

    def _check_teacher(self, teacher: Teacher | None) -> None:
        name, use = self.objective.name, self.objective.teacher
        if use == "required" and teacher is None:
            raise ValueError(f"'{name}' learns from a teacher and there is none: set teacher=ema")
        if use == "unused" and teacher is not None:
            raise ValueError(f"'{name}' has no use for a teacher: set teacher=none")

    def _check_end(self, steps: float) -> None:
        if self.teacher is not None and self.teacher.needs_end and math.isinf(steps):
            raise ValueError(
                "the teacher's momentum moves over the whole run, which has no end: set trainer.max_epochs or "
                "trainer.max_steps, or teacher.final_momentum=null"
            )


@contextmanager
def _in_evaluation(module: nn.Module) -> Iterator[None]:
    """Evaluation mode, and afterwards the mode that each part had."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training
