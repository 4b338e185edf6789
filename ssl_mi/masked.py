"""The sibling of JointEmbedding for masked images: the encoder sees a part of each view and the loss the rest.

order  = objective.orders(rows of all processes)     which patches are hidden
tokens = encoder.visible(view, objective.seen(order))
loss   = mean over all images and views of objective(tokens, view, order)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ssl_mi.distributed import gather, world
from ssl_mi.module import SelfSupervised
from ssl_mi.objectives.objective import Loss


class MaskedAutoencoder(SelfSupervised):
    """Towers whose encoder can be shown a part of an image (`visible`: ViT), and an objective over masked patches.

    Views are not compared: each is an image of its own. Evaluation embeds whole images, z = h. The arguments are those
    of `SelfSupervised`.

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

    def loss(self, batch: Any) -> Loss:
        rank, size = world()
        rows = len(batch.views[0])
        orders = self.objective.orders(rows * size, len(batch.views))
        losses = []
        for v, (x, order) in enumerate(zip(batch.views, orders, strict=True)):
            mine = order[rank * rows : (rank + 1) * rows]
            tokens = self.towers.tower_of(v).encoder.visible(x, self.objective.seen(mine))
            with torch.autocast(self.device.type, enabled=False):
                losses.append(self.objective(tokens.float(), x.float(), mine))
        if self.training:
            self.objective.count_step()
        return Loss({self.objective.name: gather(torch.cat(losses)).mean()}, {})
