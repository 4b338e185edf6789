"""Objectives between the summary of an image and the locations of its feature maps: Deep InfoMax and AMDIM.

They take maps beside embeddings: maps[v][s] [n, L_s, d] holds L_s locations of view v at scale s, the coarsest first,
of the same width as the summaries z. The towers must hand them out: `towers=siamese_local`.

What they have to do with mutual information: each raises a lower bound on what a *location of a map* shares with a
summary, not on I(Z_X; Z_Y). Held-out pairs of summaries can not be read by it, so `read` refuses; the bound on the
training batch is logged as `local_nats`. In Deep InfoMax's own form summary and map are functions of one view, and what
they share has no limit but what the network loses; in AMDIM's they are of two views.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ssl_mi.information.variational.bounds import Bound
from ssl_mi.objectives.objective import Loss, Objective, need_views
from ssl_mi.objectives.stepped import SteppedObjective


class LocalInfomax(Objective):
    """Deep InfoMax's local objective: Hjelm et al. 2019 (arXiv:1808.06670), section 3.

        1/L sum_l I^(C_l(X); E(X))        C_l: location l of a map, E: the summary, I^: the bound

    For every location a bound whose false pairs are the same location of the other images: k = n - 1 of them. All
    locations share the critic. The mean over l of lower bounds is one on the mean of what the locations share.

    critic: a factory that takes dim_x and dim_y: scores of summaries and locations. The paper's encode-and-dot-product
    is `Bilinear` behind projector and local heads. bound: JS, InfoNCE or DV, the three of the paper. across: False
    pairs a summary with the map of its own view, as in the paper; True with those of the other views (Bachman et al.
    2019, arXiv:1906.00910, section 3, before they add scales). Every scale that the towers hand out counts alike.
    """

    requires = ("maps",)
    teacher = "unused"
    information = "not bounded between the views: the loss bounds what a summary and the locations of a map share"

    def __init__(
        self,
        dim: int,
        critic: Callable[..., nn.Module],
        bound: Bound,
        across: bool = False,
        name: str = "deep_infomax_local",
    ) -> None:
        super().__init__()
        self.name = name
        self.critic, self.bound = critic(dim_x=dim, dim_y=dim), bound
        self.across = across

    def forward(self, online: list[Tensor], target: list[Tensor], maps: list[list[Tensor]]) -> Loss:
        _check(self.name, online, target, maps)
        n = range(len(online))
        met = [(online[v], m) for v in n for w in n if (v != w) == self.across for m in maps[w]]
        value = sum(self.bound(*self._scores(z, locations)) for z, locations in met) / len(met)
        loss = self.bound.loss(value, online[0].shape[0] - 1)
        return Loss({self.name: loss}, {"local_nats": value.detach()})

    def _scores(self, z: Tensor, locations: Tensor) -> tuple[Tensor, Tensor]:
        """joint [L n], marginal [L n, n - 1]."""
        n, count, _ = locations.shape
        scores = self.critic(z, locations.flatten(0, 1)).view(n, n, count).permute(2, 0, 1)  # location, summary, image
        joint = scores.diagonal(dim1=1, dim2=2)
        # As `bounds.off_diagonal`, for each location.
        others = scores.flatten(1)[:, 1:].view(count, n - 1, n + 1)[..., :-1]
        return joint.flatten(), others.reshape(count * n, n - 1)

    def facts(self, rows: int) -> dict[str, str]:
        return {"negatives": f"{rows - 1} at each location", **super().facts(rows)}


class AMDIM(SteppedObjective):
    """Augmented multiscale Deep InfoMax: Bachman et al. 2019 (arXiv:1906.00910), section 3.

        loss = mean over ordered pairs of views v != w of  nce(z_v -> C_w) + nce(z_v -> F_w) + nce(C_v,r -> C_w)
               + penalty (mean square of each of the three sets of raw scores, added)
        nce(a -> B) = mean over images i and locations l of - log e^s(a_i, B_il) / (e^s(a_i, B_il) + sum over the
                      locations m of all other images j of e^s(a_i, B_jm)),     s(a, b) = c tanh(<a, b> / (sqrt(d) c))

    C: the coarsest map (5 x 5 in the paper), F: the next finer one (7 x 7). r is one location a step, the same for all
    images, drawn from the step alone so that several processes and a resumed run draw alike; the paper's code draws one
    for each image, with the same expectation. clip: c. penalty: lambda; both are those of the authors' code.

    Mutual information: locations of one image depend on each other, so the (n - 1) L of them are not as many
    independent negatives, and log(1 + (n - 1) L) - nce may read above the truth. With their *mean* over m in place of
    the sum it is log(n) less the loss that bounds: n - 1 false pairs of less variance beside the true one, at most
    InfoNCE's with a location of each drawn at random (Jensen, 1 / (a + b) being convex in b). That is `local_nats`, the
    mean over the three.
    """

    name = "amdim"
    requires = ("maps",)
    teacher = "unused"
    information = "not bounded between the views: the loss bounds what a summary and locations of maps share"

    def __init__(self, dim: int, clip: float = 20.0, penalty: float = 4e-2) -> None:
        super().__init__()
        if clip <= 0 or penalty < 0:
            raise ValueError(f"AMDIM: clip must be positive and penalty not negative, got {clip} and {penalty}")
        self.clip, self.penalty = clip, penalty

    def forward(self, online: list[Tensor], target: list[Tensor], maps: list[list[Tensor]]) -> Loss:
        _check(self.name, online, target, maps, scales=2)
        n = range(len(online))
        draw = torch.Generator().manual_seed(self.step)
        place = int(torch.randint(maps[0][0].shape[1], (), generator=draw))
        both = []
        for v in n:
            for w in n:
                if v != w:
                    summary, part, (coarse, fine) = online[v], maps[v][0][:, place], maps[w]
                    both += [self._nce(a, b) for a, b in ((summary, coarse), (summary, fine), (part, coarse))]
        pairs = len(both) // 3
        nce, square, nats = (sum(terms) / pairs for terms in zip(*both, strict=True))
        if self.training:
            self.count_step()
        return Loss({self.name: nce, "penalty": self.penalty * square}, {"local_nats": nats / 3})

    def _nce(self, a: Tensor, locations: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """a: [n, d], locations: [n, L, d] -> cross-entropy, mean square of the raw scores, the bound in nats."""
        n, count, d = locations.shape
        raw = (a @ locations.flatten(0, 1).T / math.sqrt(d)).view(n, n, count)
        scores = self.clip * torch.tanh(raw / self.clip)
        itself = torch.eye(n, dtype=torch.bool, device=a.device)
        true = scores[itself]  # [n, L]
        false = scores.masked_fill(itself[:, :, None], -math.inf).flatten(1).logsumexp(1, keepdim=True)
        with torch.no_grad():
            nats = math.log(n) - (torch.logaddexp(true, false - math.log(count)) - true).mean()
        return (torch.logaddexp(true, false) - true).mean(), raw.square().mean(), nats

    def facts(self, rows: int) -> dict[str, str]:
        ceiling = f"log of {rows} images = {math.log(rows):.2f} nats, of each scale"
        return {
            "negatives": f"every location of {rows - 1} images",
            "local_nats at most": ceiling,
            **super().facts(rows),
        }


def _check(name: str, online: list[Tensor], target: list[Tensor], maps: list[list[Tensor]], scales: int = 0) -> None:
    need_views(online)
    if target is not online:
        raise ValueError(f"{name} has no use for a teacher: set teacher=none")
    have = len(maps[0]) if maps else 0
    if not have or (scales and have != scales):
        raise ValueError(
            f"{name} reads {scales or 'the'} maps of a view and the towers hand out {have}: set towers.local.scales"
        )
