"""The module of masked Siamese networks: anchors without some of their patches, and a target that is seen whole.

kept   = objective.kept(rows of all processes)                   which patches of the anchors are shown
online = projector(encoder.visible(view, kept)'s class token)    of every view but the first
target = teacher(first view).z
loss   = objective(online, target), on the rows of all processes
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ssl_mi.distributed import gather, world
from ssl_mi.module import Taught


class MaskedSiamese(Taught):
    """Towers whose encoder can be shown some patches of an image only (`visible`: ViT), and their teacher.

    The first view is the target, which the teacher sees whole; the others are anchors. The arguments are those of
    `Taught`.

    Raises:
        ValueError: If the objective learns from something else, there is no teacher, or the encoder has no `visible` or
            gives no class token.
    """

    gives = "masked views"

    def objective_arguments(self) -> dict[str, Any]:
        encoder = self.towers.tower_of(0).encoder
        if not hasattr(encoder, "visible"):
            raise ValueError(f"{type(encoder).__name__} cannot be shown a part of an image: use encoder=vit_tiny")
        if getattr(encoder, "pool", "class") != "class":
            raise ValueError(f"the class token is compared and encoder.pool={encoder.pool}: set encoder.pool=class")
        return {}

    def loss(self, batch: Any) -> Any:
        rank, size = world()
        first, *anchors = batch.views
        encoder = self.towers.tower_of(0).encoder
        whole = (encoder.image_size // encoder.patch_size) ** 2
        kept = self.objective.kept(len(first) * size, [self._patches(x) for x in anchors], whole)
        rows = slice(rank * len(first), (rank + 1) * len(first))
        online = [
            self._seen(v, x, None if places is None else places[rows])
            for v, (x, places) in enumerate(zip(anchors, kept, strict=True), 1)
        ]
        with torch.no_grad():
            target = self.teacher([first]).z[0]
        with torch.autocast(self.device.type, enabled=False):
            return self.objective([gather(z.float()) for z in online], gather(target.float()))

    def check_views(self, views: Sequence[Tensor]) -> None:
        super().check_views(views)
        encoder = self.towers.tower_of(0).encoder
        sides = {x.shape[2:] for x in views[1:]}
        if (encoder.image_size, encoder.image_size) not in sides and self.objective.dropped:
            raise ValueError(
                f"'{self.objective.name}' hides patches of anchors of {encoder.image_size} pixels, and there are none: "
                "choose an augmentation of that size, or set objective.dropped=0"
            )

    def _patches(self, x: Tensor) -> int:
        return x.shape[2] * x.shape[3] // self.towers.tower_of(0).encoder.patch_size ** 2

    def _seen(self, view: int, x: Tensor, kept: Tensor | None) -> Tensor:
        """Embeddings [n, d] of a view of which the encoder is shown the patches `kept`, or all."""
        tower = self.towers.tower_of(view)
        return tower.projector(tower.encoder(x) if kept is None else tower.encoder.visible(x, kept)[:, 0])
