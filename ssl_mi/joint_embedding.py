"""Joint embeddings: two or more views of one thing, and an objective over what the towers make of them.

online = towers(views)
target = teacher(views) where there is a teacher, else online
loss   = objective(online.z, target.z), on the rows of all processes
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from ssl_mi.chunks import batch_norms, in_chunks
from ssl_mi.distributed import Processes, gather, gather_views, mean_over_processes, world
from ssl_mi.module import Taught, Teacher, Towers


class JointEmbedding(Taught):
    """Two or more views, one or more towers, an objective over their embeddings.

    Args:
        towers: See `SelfSupervised`, as all arguments but `teacher`.
        objective: One that learns from embeddings.
        optimizer: What makes the optimizer from parameter groups.
        schedule: What makes the rate's scheduler; None for a constant rate.
        teacher: Makes the targets, usually an average of the towers' past; None where the towers make them.
        objective_optimizer: An optimizer for the objective's own parameters.
        objective_schedule: False keeps the rate of objective_optimizer constant.
        channels_last: Memory format of the towers' weights.
        sync_batchnorm: Batch norms see the batch of all processes.
        chunk: Images that pass the towers at a time; their activations are made again for the gradient, which is that
            of the whole batch, so that the batch may exceed memory (GradCache). None for all at once. Batch norms see
            a chunk only: a warning names them. See `ssl_mi.chunks`.
        seed: Of dropout and the like.

    Raises:
        ValueError: If the parts are incompatible; the message has the key to set.
    """

    gives = "embeddings"

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
        chunk: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(
            towers,
            objective,
            optimizer,
            schedule=schedule,
            teacher=teacher,
            objective_optimizer=objective_optimizer,
            objective_schedule=objective_schedule,
            channels_last=channels_last,
            sync_batchnorm=sync_batchnorm,
            seed=seed,
        )
        self.chunk = chunk
        self._check_chunk()

    def loss(self, batch: Any) -> Any:
        seen = in_chunks(self.towers, batch.views, self.chunk)
        online, taught, target = seen.z, seen, seen.z
        if self.teacher is not None:
            with torch.no_grad():
                taught = in_chunks(self.teacher, batch.views, self.chunk)
            target = taught.z
        # Scores, logarithms and sums of exponentials are taken in float32 whatever the towers run in.
        with torch.autocast(self.device.type, enabled=False):
            online_all = gather_views([z.float() for z in online])
            target_all = online_all if target is online else gather_views([z.float() for z in target])
            extra = self._extra_inputs(batch, {"maps": seen, "target_maps": taught})
            part = self._part(len(online_all[0]))
            found = self.objective(online_all, target_all, **part, **extra)
            if not part:
                return found
            return found._replace(terms=mean_over_processes(found.terms), metrics=mean_over_processes(found.metrics))

    def _part(self, n: int) -> dict[str, Any]:
        """What of a loss over n images is this process's, as the objective takes it; nothing where it has no parts."""
        rank, size = world()
        if size > 1 and self.objective.can_share():
            return {"share": Processes()}
        if size > 1 and self.objective.can_shard():  # its own rows against all columns
            return {"rows": slice(rank * n // size, (rank + 1) * n // size)}
        return {}

    def _extra_inputs(self, batch: Any, maps_of: dict[str, Any]) -> dict[str, Any]:
        """What the objective requires beside embeddings, of all processes; maps_of: what towers returned, by name."""
        found: dict[str, Any] = {}
        for name in self.objective.requires:
            if name in maps_of:
                found[name] = [[gather(m.float()) for m in scales] for scales in maps_of[name].maps]
            else:
                rows = getattr(batch, name)
                found[name] = None if rows is None else gather(rows)
        return found

    def _check_chunk(self) -> None:
        if self.chunk is None:
            return
        if self.chunk < 1:
            raise ValueError(f"module.chunk is a number of images, at least 1, or null; got {self.chunk}")
        norms = batch_norms(self._towers())
        if norms:
            warnings.warn(
                f"module.chunk={self.chunk}: the {len(norms)} batch norms of the towers ({norms[0]}, ...) see "
                f"{self.chunk} images at a time and not the batch, so that gradients are not those of the whole batch; "
                "networks with layer or group norm have them exactly",
                stacklevel=2,
            )

    def check_parts(self) -> None:
        have, wanted = self.towers.returns_feature_maps, "maps" in self.objective.requires
        if wanted and not have:
            raise ValueError(f"'{self.objective.name}' needs feature maps: set towers={self.objective.towers}")
        if have and not wanted:
            raise ValueError(f"'{self.objective.name}' uses no feature maps: set towers=siamese")
