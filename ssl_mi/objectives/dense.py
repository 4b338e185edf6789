"""DenseCL's contrast of locations: each location of a view finds its partner in the other view's map."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from ssl_mi.objectives.objective import Loss, Objective, mean_of, need_views, renamed
from ssl_mi.objectives.queue import Queue


class DenseContrast(Objective):
    """MoCo at every location: the dense half of DenseCL.

        L_il = - log exp(<q_il, k_im>/t) / (exp(<q_il, k_im>/t) + sum over the queue of exp(<q_il, k>/t))
        m    = the location of the other view whose backbone features are nearest to those of l, by cosine

    on unit vectors, averaged over images i, locations l and ordered pairs of views. q are the local embeddings of the
    online towers, k those of the teacher. The queue holds the mean over locations of the teacher's local embeddings, of
    all views of past steps. DenseCL is (1 - lambda) MoCo + lambda of this, lambda = 0.5: `objective=densecl`, a `Sum`,
    with both directions, where the authors have one.

    The maps come from `networks.DenseHeads`: maps[v] is [local embeddings [n, L, d], backbone features [n, L, c]].

    Relation to mutual information: none. Partners are chosen by the network, and negatives come from older weights.

    Args:
        dim: Width d of local embeddings; None to build later.
        queue: Rows of the queue.
        temperature: t.

    Raises:
        ValueError: If `temperature` is not positive, if there is no teacher, or if a batch is larger than the queue.

    References:
        Wang et al. 2021 (arXiv:2011.09157), sections 3.2 and 3.3.

    Example:
        >>> import torch
        >>> from ssl_mi.objectives import DenseContrast
        >>> def maps():
        ...     return [[torch.randn(6, 9, 4), torch.randn(6, 9, 8)] for _ in range(2)]  # 9 locations
        >>> z, y = [torch.randn(6, 4)] * 2, [torch.randn(6, 4)] * 2
        >>> list(DenseContrast(dim=4, queue=24)(z, y, maps=maps(), target_maps=maps()).terms)
        ['dense']
    """

    name = "dense"
    requires = ("maps", "target_maps")
    towers = "siamese_dense"
    teacher = "required"
    information = "not bounded: partners are chosen by the network, and negatives come from a queue"

    @renamed(size="queue")
    def __init__(self, dim: int | None = None, queue: int = 65536, temperature: float = 0.2) -> None:
        super().__init__()
        self.size, self.temperature = queue, temperature
        self.check_settings()
        self.build(dim)

    def check_settings(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"DenseContrast: temperature must be positive, got {self.temperature}")

    def _make(self, dim: int) -> None:
        self.queue = Queue(self.size, dim)

    def forward(
        self, online: list[Tensor], target: list[Tensor], maps: list[list[Tensor]], target_maps: list[list[Tensor]]
    ) -> Loss:
        need_views(online)
        if target is online:
            raise ValueError("the keys of 'dense' come from a teacher: set teacher=ema")
        if any(len(parts) != 2 or parts[0].shape[:2] != parts[1].shape[:2] for parts in (*maps, *target_maps)):
            raise ValueError("'dense' takes local embeddings and the features beneath them: set towers=siamese_dense")
        queue = self.queue.past()
        pairs = [(v, w) for v in range(len(maps)) for w in range(len(target_maps)) if v != w]
        loss = mean_of([self._contrast(maps[v], target_maps[w], queue) for v, w in pairs])
        if self.training:
            self.queue.push(torch.cat([normalize(local.detach().mean(1), dim=1) for local, _ in target_maps]))
        return Loss({self.name: loss}, {})

    def _contrast(self, query: list[Tensor], key: list[Tensor], queue: Tensor) -> Tensor:
        q, k = normalize(query[0], dim=2), normalize(key[0].detach(), dim=2)
        with torch.no_grad():
            near = (normalize(query[1], dim=2) @ normalize(key[1], dim=2).mT).argmax(2)  # [n, L]
        partners = k.gather(1, near[:, :, None].expand_as(q))
        scores = torch.cat([(q * partners).sum(2, keepdim=True), q @ queue.T], 2).flatten(0, 1) / self.temperature
        return cross_entropy(scores, near.new_zeros(len(scores)))

    def facts(self, rows: int) -> dict[str, str]:
        return {"negatives": f"{self.size} pooled keys at each location", **super().facts(rows)}
