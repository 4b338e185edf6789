"""The sibling of JointEmbedding for masked images: the encoder sees a part of each view and the loss the rest.

order  = objective.orders(rows of all processes)     which patches are hidden
tokens = encoder.visible(view, objective.seen(order))
loss   = mean over all images and views of objective(tokens, view, order)
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from ssl_mi.distributed import gather, world
from ssl_mi.module import JointEmbedding
from ssl_mi.objectives.objective import Loss


class MaskedAutoencoder(JointEmbedding):
    """Towers whose encoder can be shown a part of an image (`visible`: ViT), and an objective over masked patches.

    Optimisers, schedules, checkpoints and evaluations are JointEmbedding's; only the step differs. Views do not meet:
    each is an image of its own. Evaluation embeds whole images, z = h.

    Raises ValueError on an objective over embeddings, an encoder without `visible`, a projector, which nothing would
    train, and a teacher.
    """

    def __init__(self, towers, objective, optimizer, teacher=None, **settings) -> None:
        tower, made = towers.for_view(0), getattr(objective, "func", objective)  # Hydra gives a partial of the class
        if not hasattr(made, "orders"):
            raise ValueError(
                f"{getattr(made, '__name__', made)} is no objective over masked patches: set objective=mae, or "
                "module._target_=ssl_mi.module.JointEmbedding"
            )
        if not hasattr(tower.encoder, "visible"):
            raise ValueError(
                f"{type(tower.encoder).__name__} can not be shown a part of an image: use encoder=vit_tiny"
            )
        if list(tower.projector.parameters()):
            raise ValueError("a masked autoencoder trains no projector: set towers.projector=null")
        if teacher is not None:
            raise ValueError("a masked autoencoder has no use for a teacher: set teacher=none")
        sizes = {"image_size": tower.encoder.image_size, "patch_size": tower.encoder.patch_size}
        super().__init__(towers, partial(objective, **sizes), optimizer, **settings)

    def loss(self, batch) -> Loss:
        rank, size = world()
        rows = len(batch.views[0])
        orders = self.objective.orders(rows * size, len(batch.views))
        losses = []
        for v, (x, order) in enumerate(zip(batch.views, orders, strict=True)):
            mine = order[rank * rows : (rank + 1) * rows]
            tokens = self.towers.for_view(v).encoder.visible(x, self.objective.seen(mine))
            with torch.autocast(self.device.type, enabled=False):
                losses.append(self.objective(tokens.float(), x.float(), mine))
        self.objective.steps += 1
        return Loss({self.objective.name: self._mean(losses)}, {})

    @staticmethod
    def _mean(losses: list[Tensor]) -> Tensor:
        return gather(torch.cat(losses)).mean()
