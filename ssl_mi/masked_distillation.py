"""The module of masked self-distillation: a student sees views with hidden patches, a teacher sees them whole.

hidden  = objective.hidden(rows of all processes)       some patches of the large views
student = head(encoder.masked(view, hidden, token))     logits of the class token and of the hidden patches
teacher = the same of the whole view
loss    = objective(student, teacher), on the rows of all processes
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ssl_mi.distributed import gather, world
from ssl_mi.module import Taught


class MaskedDistillation(Taught):
    """Towers whose encoder can see an image with hidden patches (`masked`: ViT) and whose head gives logits.

    The large views are those that the teacher sees (`EMA(views=2)` with multi-crop; all by default). The head is shared
    by the class token and the patches. The arguments are those of `Taught`.

    Raises:
        ValueError: If the objective learns from something else, there is no teacher, or the encoder has no `masked` or
            gives no class token.
    """

    gives = "masked tokens"

    def objective_arguments(self) -> dict[str, Any]:
        encoder = self.towers.tower_of(0).encoder
        if not hasattr(encoder, "masked"):
            raise ValueError(f"{type(encoder).__name__} cannot see an image with hidden patches: use encoder=vit_tiny")
        if getattr(encoder, "pool", "class") != "class":
            raise ValueError(f"the class token is distilled and encoder.pool={encoder.pool}: set encoder.pool=class")
        return {"width": encoder.out_dim, "patches": (encoder.image_size // encoder.patch_size) ** 2}

    def loss(self, batch: Any) -> Any:
        rank, size = world()
        views, large = batch.views, self._large(batch.views)
        rows = slice(rank * len(views[0]), (rank + 1) * len(views[0]))
        drawn = self.objective.hidden(len(views[0]) * size, len(large))
        asked = [at[rows] for at in drawn] + [None] * (len(views) - len(large))
        student = [self._seen(self.towers, v, x, asked[v]) for v, x in enumerate(views)]
        with torch.no_grad():
            teacher = [self._seen(self.teacher, v, x, asked[v], whole=True) for v, x in enumerate(large)]
        with torch.autocast(self.device.type, enabled=False):
            every = [[gather(part.float()) for part in parts] for parts in student]
            targets = [[gather(part.float()) for part in parts[:2]] for parts in teacher]
            return self.objective(every, targets, drawn)

    def _large(self, views: list[Tensor]) -> list[Tensor]:
        return list(views[: getattr(self.teacher, "views", None)])

    def _seen(self, towers: Any, view: int, x: Tensor, drawn: Any, whole: bool = False) -> list[Tensor]:
        """Logits of the class token [n, K], those of the hidden patches [n, m, K], and the class token itself [n, d].

        Without `drawn` nothing is hidden and there are no patches; `whole`: the network sees them all the same.
        """
        tower = towers.tower_of(view)
        patches = x.shape[2] * x.shape[3] // tower.encoder.patch_size**2
        hidden = torch.zeros(len(x), patches, dtype=torch.bool, device=x.device)
        if drawn is not None and not whole:
            hidden = drawn.hides(patches)
        tokens = tower.encoder.masked(x, hidden, self.objective.mask_token)
        logits = tower.projector(tokens[:, 0])
        if drawn is None:
            return [logits, logits[:, None][:, :0], tokens[:, 0]]
        asked = tokens[:, 1:].gather(1, drawn.places[:, :, None].expand(-1, -1, tokens.shape[2]))
        return [logits, tower.projector(asked.flatten(0, 1)).unflatten(0, asked.shape[:2]), tokens[:, 0]]
