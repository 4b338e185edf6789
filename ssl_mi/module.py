"""The LightningModule: every method is a choice of its parts.

online = towers(views)
target = teacher(views) where there is a teacher, else online
loss   = objective(online.z, target.z), on the rows of all processes
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ssl_mi.distributed import gather, gather_views, synchronise_batch_norm, world
from ssl_mi.optim import Together, parameter_groups
from ssl_mi.resume import Resumable


class NotFinite(RuntimeError):
    """A loss term is NaN or infinite."""


class JointEmbedding(Resumable):
    """Two or more views, one or more towers, an objective over their embeddings.

    towers:    views -> Embeddings(h, z, maps), see networks/towers.py.
    objective: factory that takes `dim`, the width of z; see objectives/objective.py.
    optimizer: factory that takes parameter groups. `lr` is the rate that is used: nothing scales it.
    schedule:  factory that takes (optimizer, total_steps, steps_per_epoch); None for a constant rate.
    teacher:   EMA copy of the towers that makes the targets; None where the towers do.
    objective_optimizer: an optimiser for the objective's own parameters (MINE's critic); None to
               train them with the towers'.
    objective_schedule: False keeps the rate of objective_optimizer constant.
    channels_last: memory format of the towers' weights; the numbers are the same up to rounding.
    sync_batchnorm: with several processes, batch norms see the batch of all of them, as in one process.
    seed:      of dropout and the like; views have their own.
    """

    def __init__(
        self,
        towers: nn.Module,
        objective: Callable[..., nn.Module],
        optimizer: Callable[[list[dict]], Optimizer],
        schedule: Callable[..., object] | None = None,
        teacher: nn.Module | None = None,
        objective_optimizer: Callable[[list[dict]], Optimizer] | None = None,
        objective_schedule: bool = True,
        channels_last: bool = False,
        sync_batchnorm: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        # A convolution runs channels-last when its weights are: the views need no copy.
        self.towers = towers.to(memory_format=torch.channels_last) if channels_last else towers
        self.objective = objective(dim=towers.out_dim)
        self.teacher = teacher
        if teacher is not None:
            teacher.adopt(towers)
        self.make_optimizer = optimizer
        self.make_objective_optimizer = objective_optimizer
        self.make_schedule = schedule
        self.objective_schedule = objective_schedule
        self.sync_batchnorm = sync_batchnorm
        self.seed = seed
        if self.objective.step not in [f"{c.__module__}.{c.__qualname__}" for c in type(self).__mro__]:
            raise ValueError(
                f"'{self.objective.name}' has a step of its own: set module._target_={self.objective.step}"
            )
        local, wanted = getattr(towers, "hands_out_maps", False), "maps" in self.objective.takes
        if wanted and not local:
            raise ValueError(f"'{self.objective.name}' reads feature maps: set towers=siamese_local")
        if local and not wanted:
            raise ValueError(f"'{self.objective.name}' reads no feature maps: set towers=siamese")
        if objective_optimizer is None and not objective_schedule:
            raise ValueError(
                "objective_schedule=false keeps the rate of objective_optimizer, and there is none: set one"
            )
        if objective_optimizer is not None and not list(self.objective.parameters()):
            raise ValueError(
                f"objective_optimizer is set, but the objective '{self.objective.name}' has no parameters: "
                "set objective_optimizer=null"
            )

    def configure_model(self) -> None:
        if self.sync_batchnorm and world()[1] > 1:
            # The towers see a share of the batch; the objective sees the rows of all processes as it is.
            for part in (self.towers, self.teacher):
                if part is not None:
                    synchronise_batch_norm(part, self.trainer.strategy.root_device)

    def on_fit_start(self) -> None:
        images = getattr(getattr(self.trainer, "datamodule", None), "train", None)
        if images is not None:
            self.objective.check(len(images))

    def training_step(self, batch, batch_idx: int) -> Tensor:
        loss = self.loss(batch)
        total = loss.total
        self._stop_if_not_finite(loss.terms, total)
        # Every process holds the loss of the whole batch: there is nothing to average.
        values = {f"train/{k}": v.detach() for k, v in {**loss.terms, **loss.metrics}.items()}
        rows = len(batch.views[0]) * world()[1]
        self.log("train/loss", total.detach(), prog_bar=True, on_step=True, on_epoch=True, batch_size=rows)
        self.log_dict(values, on_step=False, on_epoch=True, batch_size=rows)
        return total

    def loss(self, batch):
        """The objective's Loss on the rows of all processes."""
        seen = self.towers(batch.views)
        online = seen.z
        target = online if self.teacher is None else self.teacher(batch.views).z
        # Scores, logarithms and sums of exponentials are taken in float32 whatever the towers run in.
        with torch.autocast(self.device.type, enabled=False):
            online_all = gather_views([z.float() for z in online])
            target_all = online_all if target is online else gather_views([z.float() for z in target])
            return self.objective(online_all, target_all, **self._beside(batch, seen))

    def _beside(self, batch, seen) -> dict:
        """What this objective takes beside embeddings, of all processes."""
        found: dict = {}
        for name in self.objective.takes:
            if name == "maps":
                found[name] = [[gather(m.float()) for m in scales] for scales in seen.maps]
            else:
                rows = getattr(batch, name)
                found[name] = None if rows is None else gather(rows)
        return found

    def _stop_if_not_finite(self, terms: dict[str, Tensor], total: Tensor) -> None:
        if torch.isfinite(total):
            return
        values = ", ".join(f"{name} = {value.item():g}" for name, value in terms.items())
        raise NotFinite(
            f"the loss is not finite at step {self.trainer.global_step} "
            f"(epoch {self.trainer.current_epoch}): {values}. "
            "Lower the learning rate, raise the temperature, or train in float32 (trainer.precision=32-true)."
        )

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        # The last step of an epoch may have ruined the weights after its loss was still finite.
        ruined = [name for name, p in self.named_parameters() if not torch.isfinite(p).all()]
        if ruined:
            raise NotFinite(
                f"weights are not finite after step {self.trainer.global_step}: {', '.join(ruined[:4])}; "
                "the last good checkpoint is kept. Lower the learning rate, or train in float32."
            )
        super().on_save_checkpoint(checkpoint)

    def on_train_epoch_start(self) -> None:
        # Randomness inside the networks (dropout) comes from (seed, epoch, rank), so that a run resumed
        # at an epoch goes on exactly as if it had not stopped. Views draw from counters of their own.
        torch.manual_seed((self.seed * 1_000_003 + self.trainer.current_epoch) * 65_537 + world()[0])

    def optimizer_step(self, *args, **kwargs) -> None:
        # In float16 a step whose scaled gradients overflowed is left out, and the scale lowered.
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        scale = None if scaler is None else scaler.get_scale()
        super().optimizer_step(*args, **kwargs)
        skipped = scaler is not None and scaler.get_scale() < scale
        # Lightning calls this once per real step, so accumulated batches move the teacher once.
        if self.teacher is not None and not skipped:
            done = self.trainer.global_step + 1  # counted by Lightning after this returns
            self.teacher.update(self.towers, min(1.0, done / self.trainer.estimated_stepping_batches))

    def configure_optimizers(self):
        if self.make_objective_optimizer is None:
            optimizer = self.make_optimizer(parameter_groups(nn.ModuleList([self.towers, self.objective])))
        else:
            own = [{**group, "scheduled": self.objective_schedule} for group in parameter_groups(self.objective)]
            towers = self.make_optimizer(parameter_groups(self.towers))
            optimizer = Together([towers, self.make_objective_optimizer(own)])
        if self.make_schedule is None:
            return optimizer
        total = self.trainer.estimated_stepping_batches
        if not total < float("inf"):
            raise ValueError("a schedule needs an end: set trainer.max_epochs or trainer.max_steps")
        per_epoch = -(-self.trainer.num_training_batches // self.trainer.accumulate_grad_batches)
        scheduler = self.make_schedule(optimizer, total_steps=int(total), steps_per_epoch=per_epoch)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
