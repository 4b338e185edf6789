"""Objectives between the summary of an image and the locations of its feature maps: Deep InfoMax and AMDIM.

They take maps in addition to embeddings: maps[v][s] [n, L_s, d] holds L_s locations of view v at scale s, the coarsest
first, of the same width as the summaries z. The towers need local heads: `towers=siamese_local`.

Relation to mutual information: each maximises a lower bound on the information that a *location of a map* shares with a
summary, not on I(Z_X; Z_Y). It does not apply to held-out pairs of summaries, so `estimate` returns None; the bound on
the training batch is logged as `local_nats`. In Deep InfoMax summary and map are functions of one view, and the
information that they share is limited only by what the network loses; in AMDIM they are of two views.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ssl_mi.information.variational.bounds import JS, Bound
from ssl_mi.information.variational.critics import Bilinear
from ssl_mi.objectives.objective import Loss, Objective, mean_of, need_views, sum_of
from ssl_mi.objectives.stepped import SteppedObjective


class DeepInfoMaxLocal(Objective):
    """Deep InfoMax, local: locations of a feature map against the summary.

        1/L sum_l I^(C_l(X); E(X))        C_l: location l of a map, E: the summary, I^: the bound

    For each location, a bound whose negative pairs are the same location of the other images: k = n - 1 of them. All
    locations share the critic. The mean over l of lower bounds is a lower bound on the mean of the information that the
    locations share. All scales of the towers have equal weight.

    Args:
        dim: Width d of summaries and locations; None to build later.
        critic: Makes the critic of summaries and locations from `dim_x` and `dim_y`; None for `Bilinear`, which with
            projector and local heads is the paper's encode-and-dot-product.
        bound: JS, InfoNCE or DV, the three of the paper; None for JS. With InfoNCE the authors' code takes every
            location of the other images as a negative, (n - 1) L of them, where these are n - 1 of the same location.
        across: False pairs a summary with the map of its own view, as in the paper; True with those of the other views
            (Bachman et al. 2019, arXiv:1906.00910, section 3, before they add scales).
        name: Heads plots and tables.

    Raises:
        ValueError: If there is a teacher, if the towers give no maps, or if there are fewer than 2 views.

    References:
        Hjelm et al. 2019 (arXiv:1808.06670), section 3.

    Example:
        >>> import torch
        >>> from ssl_mi.objectives import DeepInfoMaxLocal
        >>> z = torch.randn(6, 8)
        >>> maps = [torch.randn(6, 9, 8)]  # one scale, 9 locations, of each view
        >>> list(DeepInfoMaxLocal(dim=8)([z, z], maps=[maps, maps]).terms)
        ['deep_infomax_local']
    """

    requires = ("maps",)
    teacher = "unused"
    information = "not bounded between the views: the loss bounds what a summary and the locations of a map share"

    def __init__(
        self,
        dim: int | None = None,
        critic: Callable[..., nn.Module] | None = None,
        bound: Bound | None = None,
        across: bool = False,
        name: str = "deep_infomax_local",
    ) -> None:
        super().__init__()
        self.name = name
        self.bound, self.across = bound or JS(), across
        self._critic = critic or Bilinear
        self.build(dim)

    def _make(self, dim: int) -> None:
        self.critic = self._critic(dim_x=dim, dim_y=dim)
        del self._critic  # it may be a lambda, which cannot be pickled

    def forward(self, online: list[Tensor], target: list[Tensor], maps: list[list[Tensor]]) -> Loss:
        _check(self.name, online, target, maps)
        n = range(len(online))
        met = [(online[v], m) for v in n for w in n if (v != w) == self.across for m in maps[w]]
        value = mean_of([self.bound(*self._scores(z, locations)) for z, locations in met])
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
    """Augmented multiscale Deep InfoMax.

        loss = mean over ordered pairs of views v != w of  nce(z_v -> C_w) + nce(z_v -> F_w) + nce(C_v,r -> C_w)
               + penalty (mean square of each of the three sets of raw scores, added)
        nce(a -> B) = mean over images i and locations l of - log e^s(a_i, B_il) / (e^s(a_i, B_il) + sum over the
                      locations m of all other images j of e^s(a_i, B_jm)),     s(a, b) = c tanh(<a, b> / (sqrt(d) c))

    C: the coarsest map (5 x 5 in the paper), F: the next finer one (7 x 7). r is one location per step, the same for
    all images, drawn from the number of the step alone, so that several processes and a resumed run draw the same; the
    paper's code draws one per image, with the same expectation.

    Relation to mutual information: locations of one image depend on each other, so the (n - 1) L of them are not as
    many independent negatives, and log(1 + (n - 1) L) - nce may exceed the truth. With the *mean* over m in place of
    the sum, log(n) minus the loss is a bound: n - 1 negatives of lower variance, at most InfoNCE with one location of
    each drawn at random (by Jensen, since 1 / (a + b) is convex in b). This is `local_nats`, the mean over the three.

    Args:
        dim: Width d of summaries and locations; only checked.
        clip: c, the limit of a score; the authors' code has 20.
        penalty: Weight of the mean square of the raw scores; the paper has 0.04, the authors' code 0.05.

    Raises:
        ValueError: If a number is out of range, if there is a teacher, if the towers do not give 2 maps per view, or if
            there are fewer than 2 views.

    References:
        Bachman et al. 2019 (arXiv:1906.00910), section 3.

    Example:
        >>> import torch
        >>> from ssl_mi.objectives import AMDIM
        >>> z = torch.randn(6, 8)
        >>> maps = [torch.randn(6, 4, 8), torch.randn(6, 9, 8)]  # two scales, of 4 and 9 locations
        >>> sorted(AMDIM(dim=8)([z, z], maps=[maps, maps]).terms)
        ['amdim', 'penalty']
    """

    name = "amdim"
    requires = ("maps",)
    teacher = "unused"
    information = "not bounded between the views: the loss bounds what a summary and locations of maps share"

    def __init__(self, dim: int | None = None, clip: float = 20.0, penalty: float = 4e-2) -> None:
        super().__init__()
        if clip <= 0 or penalty < 0:
            raise ValueError(f"AMDIM: clip must be positive and penalty not negative, got {clip} and {penalty}")
        self.clip, self.penalty = clip, penalty
        self.build(dim)

    def forward(self, online: list[Tensor], target: list[Tensor], maps: list[list[Tensor]]) -> Loss:
        _check(self.name, online, target, maps, scales=2)
        n = range(len(online))
        draw = torch.Generator().manual_seed(self.step)
        place = int(torch.randint(maps[0][0].shape[1], (), generator=draw))
        both: list[tuple[Tensor, Tensor, Tensor]] = []
        for v in n:
            for w in n:
                if v != w:
                    summary, part, (coarse, fine) = online[v], maps[v][0][:, place], maps[w]
                    both += [self._nce(a, b) for a, b in ((summary, coarse), (summary, fine), (part, coarse))]
        pairs = len(both) // 3
        nce, square, nats = (sum_of(terms) / pairs for terms in zip(*both, strict=True))
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
            f"{name} takes {scales or 'the'} maps of a view and the towers give {have}: set towers.local.scales"
        )
