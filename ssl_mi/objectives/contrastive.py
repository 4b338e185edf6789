"""Contrastive objectives that bound no mutual information, though they look like InfoNCE."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ssl_mi.objectives.objective import Loss, Objective, mean_of, need_views, view_pairs
from ssl_mi.objectives.score_tiles import KEPT, exact
from ssl_mi.objectives.share import Share, own_rows, total
from ssl_mi.objectives.tiles import ends, log_sums, log_sums_of_views, row_products


class DCL(Objective):
    """Decoupled contrastive learning: NT-Xent whose denominator leaves out the partner.

        L_i = - w_i <x_i, y_i>/t + log sum over j != i, both views, of exp <x_i, z_j>/t

    on unit vectors, in both directions, averaged over the 2n rows, with w_i = 1 (DCL) or the von Mises-Fisher weight
    w_i = 2 - exp(<x_i, y_i>/sigma) / mean_k exp(<x_k, y_k>/sigma) (DCLW).

    Relation to mutual information: the mean of T(x_i, y_i) - log mean_j e^T(x_i, y_j) without the partner is the
    leave-one-out form (Poole et al. 2019, arXiv:1905.06922). It is an *upper* bound if T = log p(y | x), and no bound
    for any other critic, such as this one.

    Args:
        dim: Width d of an embedding; only checked.
        temperature: t.
        weight_width: sigma of DCLW; None for DCL.

    Raises:
        ValueError: If a number is not positive, or if there are fewer than 2 views.

    References:
        Yeh et al. 2022 (arXiv:2110.06848), section 3.

    Example:
        >>> import torch
        >>> from ssl_mi.objectives import DCL
        >>> z = torch.eye(4)  # four orthogonal embeddings; the two views are equal
        >>> round(float(DCL(temperature=0.5)([z, z]).total), 4)  # log(6) - 2: the positive is not in the sum
        -0.2082
    """

    name = "dcl"
    information = "no estimate: without the partner in the denominator InfoNCE bounds nothing"

    def __init__(self, dim: int | None = None, temperature: float = 0.1, weight_width: float | None = None) -> None:
        super().__init__()
        self.temperature, self.weight_width = temperature, weight_width
        self.check_settings()
        self.build(dim)

    def check_settings(self) -> None:
        if self.temperature <= 0 or (self.weight_width is not None and self.weight_width <= 0):
            raise ValueError(
                f"DCL: temperature and weight_width must be positive, got {self.temperature}, {self.weight_width}"
            )

    def can_shard(self) -> bool:
        return True

    def can_share(self) -> bool:
        return True

    def forward(
        self, online: list[Tensor], target: list[Tensor], rows: slice | None = None, share: Share | None = None
    ) -> Loss:
        met = [(normalize(x, dim=1), normalize(y, dim=1)) for x, y in view_pairs(online, target)]
        return Loss({self.name: mean_of([self._loss(x, y, rows, share) for x, y in met])}, {})

    def _loss(self, x: Tensor, y: Tensor, rows: slice | None, share: Share | None) -> Tensor:
        n = x.shape[0]
        own = (x * y).sum(1)
        if self.weight_width is not None:
            own = (2 - n * torch.softmax(own.detach() / self.weight_width, 0)) * own
        if rows is not None or share is not None or (2 * n) ** 2 > KEPT:
            z = torch.cat([x, y]) / math.sqrt(self.temperature)
            first, last = ends(rows, n)
            logs = log_sums_of_views(z, z, 2, None if rows is None else (first, last), share=share)
            return logs.mean() - own[first:last].mean() / self.temperature
        z = torch.cat([x, y])
        scores = z @ z.T / self.temperature
        row = torch.arange(n, device=x.device).repeat(2)
        # Both views of the row's own image are left out.
        scores = scores.masked_fill(row[:, None] == row, -math.inf)
        return scores.logsumexp(1).mean() - own.mean() / self.temperature


class SupCon(Objective):
    """Supervised contrastive learning: all samples of a class are partners.

        L_i = - 1/|P(i)| sum over p in P(i) of log( exp <z_i, z_p>/t / sum over a != i of exp <z_i, z_a>/t )

    on unit vectors, where i runs over the V n embeddings of all views and P(i) are the others of i's class. This is the
    paper's L_out: the mean over P(i) is outside the logarithm (L_in, with the sum inside, is the worse of the two).
    With one class per image it is NT-Xent.

    Relation to mutual information: none. A row has many partners, and pairs of one class are not pairs of views of one
    image.

    Args:
        dim: Width d of an embedding; only checked.
        temperature: t. The paper's is 0.1.

    Raises:
        ValueError: If `temperature` is not positive, if the images have no labels, if there is a teacher, or if there
            are fewer than 2 views.

    References:
        Khosla et al. 2020 (arXiv:2004.11362).

    Example:
        >>> import torch
        >>> from ssl_mi.objectives import SupCon
        >>> z = torch.eye(4)  # four orthogonal embeddings; the two views are equal
        >>> objective = SupCon(temperature=0.5)
        >>> round(float(objective([z, z], labels=torch.arange(4)).total), 4)  # four classes of one image: NT-Xent
        0.5944
    """

    name = "supcon"
    requires = ("labels",)
    teacher = "unused"
    information = "no estimate: labels choose the partners, which breaks the bound"

    def __init__(self, dim: int | None = None, temperature: float = 0.2) -> None:
        super().__init__()
        self.temperature = temperature
        self.check_settings()
        self.build(dim)

    def check_settings(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"SupCon: temperature must be positive, got {self.temperature}")

    def can_shard(self) -> bool:
        return True

    def can_share(self) -> bool:
        return True

    def forward(
        self,
        online: list[Tensor],
        target: list[Tensor],
        labels: Tensor | None,
        rows: slice | None = None,
        share: Share | None = None,
    ) -> Loss:
        need_views(online)
        if labels is None:
            raise ValueError("SupCon is supervised and the images have no labels: use data with labels, or NT-Xent")
        if target is not online:
            raise ValueError("SupCon has no use for a teacher: set teacher=none")
        z = normalize(torch.cat(online), dim=1)
        if rows is not None or share is not None or len(z) ** 2 > KEPT:
            return Loss({self.name: self._tiled(z, labels, len(online), rows, share)}, {})
        labels = labels.repeat(len(online))
        itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
        scores = (z @ z.T / self.temperature).masked_fill(itself, -math.inf)
        partners = (labels[:, None] == labels) & ~itself
        log_share = scores - scores.logsumexp(1, keepdim=True)
        loss = -log_share.where(partners, 0).sum(1) / partners.sum(1)
        return Loss({self.name: loss.mean()}, {})

    def _tiled(self, z: Tensor, labels: Tensor, views: int, rows: slice | None, share: Share | None) -> Tensor:
        """The same without a matrix of scores: those of a row's partners sum up to one with the sum of its class."""
        z, n = z / math.sqrt(self.temperature), len(z) // views
        first, last = ends(rows, n)
        logs = log_sums_of_views(z, z, views, None if rows is None else (first, last), of_image=False, share=share)
        group = _groups(labels.repeat(views))
        size = torch.zeros_like(group).scatter_add_(0, group, torch.ones_like(group))
        sums = torch.zeros_like(z, dtype=exact(z)).index_add(0, group, z.to(exact(z))).to(z.dtype)
        mine = torch.cat([torch.arange(n * v + first, n * v + last, device=z.device) for v in range(views)])
        own, partners = z[mine], size[group[mine]] - 1
        return (logs - row_products(own, sums[group[mine]] - own) / partners).mean()


def _groups(labels: Tensor) -> Tensor:
    """Numbers from 0, one for each label that occurs, [n]; without a result whose size the host would wait for."""
    order = labels.argsort()
    new = labels[order].diff() != 0
    number = torch.cat([new.new_zeros(1), new]).cumsum(0)
    return torch.empty_like(number).scatter_(0, order, number)


class SpectralContrastive(Objective):
    """Spectral contrastive loss.

        loss = -2 E[<x, y>] + E[<x, y'>^2]

    over true pairs and over the n (n - 1) pairs of different images. Embeddings longer than sqrt(radius) are shortened
    to that length, as in the authors' code (its mu).

    Relation to mutual information: the optimal <x, y> is the density ratio r = p(x, y) / (p(x) p(y)), and -loss - 1 is
    then the chi-squared divergence E[r] - 1, with I <= log(1 + chi^2). A finite loss bounds chi^2 from below, and so it
    bounds I from neither side.

    Args:
        dim: Width d of an embedding; only checked.
        radius: Largest squared length of an embedding, the mu of the authors' code, which also divides the loss by mu:
            another radius than 1 multiplies value and gradient by it here.

    Raises:
        ValueError: If `radius` is not positive, or if there are fewer than 2 views.

    References:
        HaoChen et al. 2021 (arXiv:2106.04156).

    Example:
        >>> import torch
        >>> from ssl_mi.objectives import SpectralContrastive
        >>> z = torch.eye(4)  # four orthogonal embeddings; the two views are equal
        >>> round(float(SpectralContrastive()([z, z]).total), 4)  # -2 x 1 + 0
        -2.0
    """

    name = "spectral"
    information = "no estimate: minus the loss is below the chi-squared divergence, which lies above I"

    def __init__(self, dim: int | None = None, radius: float = 1.0) -> None:
        super().__init__()
        if radius <= 0:
            raise ValueError(f"SpectralContrastive: radius must be positive, got {radius}")
        self.radius = radius
        self.build(dim)

    def can_share(self) -> bool:
        return True

    def forward(self, online: list[Tensor], target: list[Tensor], share: Share | None = None) -> Loss:
        both = [self._terms(self._cut(x), self._cut(y), share) for x, y in view_pairs(online, target)]
        attract, repel = (mean_of(term) for term in zip(*both, strict=True))
        return Loss({"attraction": attract, "repulsion": repel}, {})

    @staticmethod
    def _terms(x: Tensor, y: Tensor, share: Share | None) -> tuple[Tensor, Tensor]:
        n, d = x.shape
        if n * n > KEPT and d < n:
            own = row_products(x, y)
            some = slice(None) if share is None else own_rows(share, n)
            moments = total(torch.stack([z[some].T @ z[some] for z in (x, y)]), share)
            # The sum of all <x_i, y_j>^2 is the inner product of the two matrices of second moments.
            squares = (moments[0] * moments[1]).sum() - own.square().sum()
            return -2 * own.mean(), squares / (n * (n - 1))
        products = x @ y.T
        squares = products.square()
        return -2 * products.diagonal().mean(), (squares.sum() - squares.diagonal().sum()) / (n * (n - 1))

    def _cut(self, x: Tensor) -> Tensor:
        longest = math.sqrt(self.radius)
        return torch.where(x.norm(dim=1, keepdim=True) > longest, longest * normalize(x, dim=1), x)


class AlignmentUniformity(Objective):
    """Alignment and uniformity: two terms on the unit sphere.

        align   = E |x - y|^power
        uniform = log E exp(-t |x_i - x_j|^2) over pairs of different images, the mean of the two views
        loss    = alignment align + uniformity uniform

    Relation to mutual information: the two terms are the limits of those of InfoNCE with many negatives (their
    theorem 1). `uniform` is a kernel estimate of minus the Renyi entropy of order 2, up to a constant: a proxy of H(Z),
    not of I.

    Args:
        dim: Width d of an embedding; only checked.
        alignment: Weight of the first term.
        uniformity: Weight of the second term.
        power: Exponent of the distance in the first term.
        t: Width of the kernel in the second term.

    Raises:
        ValueError: If there are fewer than 2 views.

    References:
        Wang & Isola 2020 (arXiv:2005.10242), section 4.

    Example:
        >>> import torch
        >>> from ssl_mi.objectives import AlignmentUniformity
        >>> z = torch.eye(4)  # four orthogonal embeddings; the two views are equal
        >>> round(float(AlignmentUniformity()([z, z]).total), 4)  # 0 + log e^(-2 |z - z'|^2), |z - z'|^2 = 2
        -4.0
    """

    name = "alignment_uniformity"
    information = "no estimate: InfoNCE's two limits, one of which follows the entropy of the embeddings"

    def __init__(
        self,
        dim: int | None = None,
        alignment: float = 1.0,
        uniformity: float = 1.0,
        power: float = 2.0,
        t: float = 2.0,
    ) -> None:
        super().__init__()
        self.alignment, self.uniformity, self.power, self.t = alignment, uniformity, power, t
        self.build(dim)

    def can_share(self) -> bool:
        return self.t > 0

    def forward(self, online: list[Tensor], target: list[Tensor], share: Share | None = None) -> Loss:
        met = [(normalize(x, dim=1), normalize(y, dim=1)) for x, y in view_pairs(online, target)]
        align = mean_of([self._align(x, y) for x, y in met])
        uniform = mean_of([(self._uniform(x, share) + self._uniform(y, share)) / 2 for x, y in met])
        return Loss({"alignment": self.alignment * align, "uniformity": self.uniformity * uniform}, {})

    def _align(self, x: Tensor, y: Tensor) -> Tensor:
        squares = (x - y).square().sum(1)
        # The root has no slope at 0. With power 2, the paper's, no root is taken.
        return (squares if self.power == 2 else squares.clamp(min=1e-24).pow(self.power / 2)).mean()

    def _uniform(self, x: Tensor, share: Share | None) -> Tensor:
        n = x.shape[0]
        if (share is not None or n * n > KEPT) and self.t > 0:
            # -t |x - x'|^2 = <u, u'> - 2t, each unordered pair twice
            u = math.sqrt(2 * self.t) * x
            return log_sums(u, u, (0,), share).logsumexp(0) - 2 * self.t - math.log(n * (n - 1))
        i, j = torch.triu_indices(n, n, 1, device=x.device)
        squares = 2 - 2 * (x @ x.T)[i, j]
        return (-self.t * squares).logsumexp(0) - math.log(len(i))
