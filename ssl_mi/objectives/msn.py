"""MSN: an image some of whose patches are gone has the prototypes of the whole image."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, normalize

from ssl_mi.objectives.clustering import sinkhorn, warn_of_prototypes
from ssl_mi.objectives.objective import Loss, mean_of
from ssl_mi.objectives.stepped import SteppedObjective


class MSN(SteppedObjective):
    """Masked Siamese networks.

        p+_i   = softmax_k(<z+_i, q_k> / t_target)            of the teacher and the whole target view, the first view
        log p_im = log softmax_k(<z_im, q_k> / t_online)      of the anchor view m, the others
        loss   = mean over images i and anchors m of - <p+_i, log p_im>  -  weight H(mean over i and m of p_im)

    on unit vectors and unit prototypes q_k, which are parameters and learn from the anchors alone. An anchor of the
    encoder's size loses a share `dropped` of its patches, others in each image, drawn from the number of the step
    alone; smaller anchors (the paper's focal views) lose none. The second term, me-max, keeps all prototypes in use.
    With `iterations` of Sinkhorn-Knopp the targets are balanced over the batch of all processes too: an option of the
    paper, and on in the authors' configurations with 3.

    Relation to mutual information: the prototype of an image is a code c. me-max raises H(c) and the first term is
    H(c | anchor) or more, so log K minus the first term bounds I(anchor; c) only where c is balanced. The codes come
    from a network that learns, and the batch that is balanced is the one that is scored: no estimate.

    Args:
        dim: Width d of an embedding; None to build later.
        prototypes: Number K of prototypes.
        online_temperature: t_online, of the anchors.
        target_temperature: t_target; lower than the anchors'.
        dropped: Share of the patches of an anchor that the encoder is not shown, rounded down to whole patches; 0 for
            none. The paper's grows with the network: .15 for ViT-S, .7 for ViT-L.
        entropy: Weight of me-max.
        iterations: Of Sinkhorn-Knopp on the targets; 0 for none.

    Raises:
        ValueError: If a number is out of range.

    References:
        Assran et al. 2022 (arXiv:2204.07141), section 3.

    Example:
        >>> import torch
        >>> from ssl_mi.objectives import MSN
        >>> objective = MSN(dim=4, prototypes=3, dropped=0.5)
        >>> [kept.shape for kept in objective.kept(rows=6, patches=[16, 16], whole=16)]
        [torch.Size([6, 8]), torch.Size([6, 8])]
        >>> sorted(objective([torch.randn(6, 4)], torch.randn(6, 4)).terms)
        ['me_max', 'msn']
    """

    prototypes: nn.Parameter

    name = "msn"
    learns_from = "masked views"
    teacher = "required"
    evaluated = "teacher"
    information = "no estimate: codes of a network that learns, balanced on the batch that is scored"

    def __init__(
        self,
        dim: int | None = None,
        prototypes: int = 1024,
        online_temperature: float = 0.1,
        target_temperature: float = 0.025,
        dropped: float = 0.15,
        entropy: float = 1.0,
        iterations: int = 0,
    ) -> None:
        super().__init__()
        self.online_temperature, self.target_temperature = online_temperature, target_temperature
        self.dropped, self.entropy, self.iterations = dropped, entropy, iterations
        self._count = prototypes
        self.check_settings()
        self.build(dim)

    def check_settings(self) -> None:
        if not 0 < self.target_temperature <= self.online_temperature:
            raise ValueError(
                f"MSN: needs 0 < target_temperature <= online_temperature, got {self.target_temperature} and "
                f"{self.online_temperature}"
            )
        if self._count < 2 or not 0 <= self.dropped < 1 or self.entropy < 0 or self.iterations < 0:
            raise ValueError(
                f"MSN: needs prototypes of 2 or more, dropped in [0, 1), entropy and iterations not negative; got "
                f"{self._count}, {self.dropped}, {self.entropy}, {self.iterations}"
            )

    def _make(self, dim: int) -> None:
        self.prototypes = nn.Parameter(normalize(torch.randn(self._count, dim), dim=1))

    def kept(self, rows: int, patches: list[int], whole: int) -> list[Tensor | None]:
        """The patches of each anchor that the encoder is shown in this step, int64 [rows, kept]; None for all.

        Args:
            rows: Images in the batch of all processes.
            patches: How many patches each anchor view has.
            whole: How many an image of the encoder's size has.
        """
        draw = torch.Generator().manual_seed(self.step)
        seen = whole - int(self.dropped * whole)
        places: list[Tensor | None] = []
        for count in patches:
            some = count == whole and seen < whole
            order = torch.rand(rows, whole, generator=draw).argsort(1)[:, :seen].sort(1).values if some else None
            places.append(None if order is None else order.to(self.steps.device))
        return places

    def forward(self, online: list[Tensor], target: Tensor) -> Loss:
        """The loss of the batch of all processes.

        Args:
            online: Embeddings [n, d] of the anchors, of the student.
            target: Embeddings [n, d] of the whole target view, of the teacher.
        """
        q = normalize(self.prototypes, dim=1)
        with torch.no_grad():
            sharp = log_softmax(normalize(target, dim=1) @ q.T / self.target_temperature, 1)
            p = sinkhorn(sharp, 1.0, self.iterations)  # p+ itself without iterations
        log_p = [log_softmax(normalize(z, dim=1) @ q.T / self.online_temperature, 1) for z in online]
        mean = mean_of([log.exp().mean(0) for log in log_p])
        spread = -torch.xlogy(mean, mean).sum()
        loss = mean_of([-(p * log).sum(1).mean() for log in log_p])
        if self.training:
            self.count_step()
        terms = {self.name: loss, "me_max": -self.entropy * spread}
        return Loss(terms, {"entropy_of_mean_prediction": spread.detach()})

    def check(self, images: int) -> None:
        super().check(images)
        warn_of_prototypes(self.name, len(self.prototypes), images, "objective.prototypes")

    def facts(self, rows: int) -> dict[str, str]:
        return {"dropped": f"{self.dropped:.0%} of the patches of each large anchor", **super().facts(rows)}
