"""The module of masked images: a part of each view is hidden, and the objective predicts it.

orders = objective.orders(rows of all processes)     which patches are hidden
tokens = objective.encode(encoder, view, order)      what the encoder makes of the others
target = objective.taught(teacher's encoder, view)   where there is a teacher
loss   = mean over all images and views of objective(tokens, view, order, target)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ssl_mi.distributed import gather, world
from ssl_mi.module import Taught
from ssl_mi.objectives.objective import Loss


class MaskedAutoencoder(Taught):
    """Towers whose encoder can be shown a part of an image (`visible`: ViT), and an objective over masked patches.

    Views are not compared: each is an image of its own. Evaluation embeds whole images, z = h. The arguments are those
    of `Taught`; a teacher makes targets for `IJEPA` and `Data2Vec` only.

    Raises:
        ValueError: If the objective learns from something else, the encoder has no `visible`, or there is a projector,
            which nothing would train.
    """

    gives = "masked patches"

    def objective_arguments(self) -> dict[str, Any]:
        tower = self.towers.tower_of(0)
        if not hasattr(tower.encoder, "visible"):
            raise ValueError(f"{type(tower.encoder).__name__} cannot be shown a part of an image: use encoder=vit_tiny")
        if list(tower.projector.parameters()):
            raise ValueError("a masked autoencoder trains no projector: set towers.projector=null")
        return {"image_size": tower.encoder.image_size, "patch_size": tower.encoder.patch_size}

    def check_views(self, views: Sequence[Tensor]) -> None:
        super().check_views(views)
        side = self.towers.tower_of(0).encoder.image_size
        for v, x in enumerate(views):
            if tuple(x.shape[2:]) != (side, side):
                raise ValueError(
                    f"view {v} is {'x'.join(map(str, x.shape[2:]))} pixels but '{self.objective.name}' takes "
                    f"{side}x{side}: choose an augmentation whose views are all of that size"
                )
        if self.teacher is not None:
            self._taught(0, views[0])  # an encoder that cannot make the targets says so here, before anything is lost

    def loss(self, batch: Any) -> Loss:
        rank, size = world()
        rows = len(batch.views[0])
        orders = self.objective.orders(rows * size, len(batch.views))
        losses = []
        for v, (x, order) in enumerate(zip(batch.views, orders, strict=True)):
            mine = order[rank * rows : (rank + 1) * rows]
            tokens = self.objective.encode(self.towers.tower_of(v).encoder, x, mine)
            target = [] if self.teacher is None else [self._taught(v, x).float()]
            with torch.autocast(self.device.type, enabled=False):
                losses.append(self.objective(tokens.float(), x.float(), mine, *target))
        if self.training:
            self.objective.count_step()
        return Loss({self.objective.name: gather(torch.cat(losses)).mean()}, {})

    @torch.no_grad()
    def _taught(self, view: int, x: Tensor) -> Tensor:
        return self.objective.taught(self.teacher.tower_of(view).encoder, x)
