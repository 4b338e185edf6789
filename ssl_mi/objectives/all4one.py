"""All4One: one neighbour, a summary of several neighbours, and the redundancy of features."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from ssl_mi.objectives.objective import Loss, Objective, mean_of, ordered_pairs
from ssl_mi.objectives.predictor import Predictor, predicted
from ssl_mi.objectives.queue import Queue


class All4One(Objective):
    """Contrast of a nearest neighbour, of what attention makes of several, and of features.

        NN_m(y)  = the m-th nearest row of the support set Q, by cosine
        L_near   = mean over rows i of - log softmax_k(<NN_1(y_i), q(x_k)>/t) at k = i
        c(y)     = psi(NN_1(y), NN_2(y), ..., NN_k(y))         first token of what psi returns
        s(x, y)  = psi(q'(x), NN_1(y), ..., NN_(k-1)(y))
        L_centre = mean over rows i of - log softmax_k(<c(y_i), s(x_k, y'_k)>/t_c) at k = i
        L_feat   = 1/2 sqrt(mean_a (1 - C_aa)^2) + 1/2 sqrt(mean_(a != b) C_ab^2)
        loss     = near L_near + centre L_centre + feature L_feat

    on unit vectors, averaged over both directions, x of the online towers, y of the teacher and y' the teacher's of the
    view of x. psi is a transformer encoder of `depth` layers, with sinusoids for the rank of a neighbour; q and q' are
    two predictors. C_ab = <y_a, x_b> of the columns of a batch, each of length 1, not centred: the projector should end
    in a batch norm. Q is a queue of the teacher's embeddings of the first view of past steps, carries no gradient, and
    receives this step's after all neighbours were found.

    Differences from the authors' code: no dropout in psi, so that any number of processes has the loss of one; the
    sinusoids number the neighbours, where theirs number the columns.

    Relation to mutual information: none. Partners come from a support set, so no pair is one of two views.

    Args:
        dim: Width d of an embedding, a multiple of `heads`; None to build later.
        predictor: Makes q, and q', from d; None for `Predictor(d, hidden=4096)`.
        queue: Rows of the support set.
        neighbours: k.
        temperature: t.
        centre_temperature: t_c.
        depth: Layers of psi.
        heads: Attention heads of a layer; its hidden width is 2 d.
        near: Weight of the nearest neighbour's term.
        centre: Weight of the term of several neighbours.
        feature: Weight of the features' term.

    Raises:
        ValueError: If a temperature is not positive, `neighbours` is not from 2 to the rows of the support set, `heads`
            does not divide d, there is no teacher or it sees one view, or a batch is larger than the support set.

    References:
        Estepa et al. 2023 (arXiv:2303.09417), section 3.

    Example:
        >>> import torch
        >>> from ssl_mi.objectives import All4One
        >>> objective = All4One(dim=4, queue=12, heads=2)
        >>> z, keys = [torch.randn(6, 4), torch.randn(6, 4)], [torch.randn(6, 4), torch.randn(6, 4)]  # of a teacher
        >>> list(objective(z, keys).terms)
        ['nearest', 'centre', 'feature']
    """

    name = "all4one"
    teacher = "required"
    information = "not bounded: partners come from a support set"

    def __init__(
        self,
        dim: int | None = None,
        predictor: Callable[[int], nn.Module] | None = None,
        queue: int = 98304,
        neighbours: int = 5,
        temperature: float = 0.2,
        centre_temperature: float = 0.1,
        depth: int = 3,
        heads: int = 8,
        near: float = 0.5,
        centre: float = 0.5,
        feature: float = 5.0,
    ) -> None:
        super().__init__()
        self._predictor = predictor or partial(Predictor, hidden=4096)
        self.size, self.neighbours, self.depth, self.heads = queue, neighbours, depth, heads
        self.temperature, self.centre_temperature = temperature, centre_temperature
        self.near, self.centre, self.feature = near, centre, feature
        self.check_settings()
        self.build(dim)

    def check_settings(self) -> None:
        if self.temperature <= 0 or self.centre_temperature <= 0:
            raise ValueError(
                f"All4One: temperatures must be positive, got temperature={self.temperature}, "
                f"centre_temperature={self.centre_temperature}"
            )
        if not 2 <= self.neighbours <= self.size:
            raise ValueError(
                f"All4One: neighbours={self.neighbours} must be from 2 to the rows of the support set, {self.size}"
            )

    def _make(self, dim: int) -> None:
        if dim % self.heads:
            raise ValueError(
                f"All4One: heads={self.heads} does not divide embeddings of width {dim}: set objective.heads to a "
                "divisor, or the last of towers.projector.dims to a multiple"
            )
        self.predictor, self.centre_predictor = self._predictor(dim), self._predictor(dim)
        del self._predictor  # it may be a lambda, which cannot be pickled
        layer = nn.TransformerEncoderLayer(dim, self.heads, 2 * dim, dropout=0.0, batch_first=True)
        self.attention = nn.TransformerEncoder(layer, self.depth, enable_nested_tensor=False)
        self.register_buffer("ranks", _sinusoids(self.neighbours, dim), persistent=False)
        self.support = Queue(self.size, dim)

    def forward(self, online: list[Tensor], target: list[Tensor]) -> Loss:
        if target is online:
            raise ValueError("the neighbours of 'all4one' come from a teacher: set teacher=ema")
        if len(target) < 2:
            raise ValueError("'all4one' needs two views of the teacher, got 1: set teacher.views=null")
        keys = [normalize(y.detach(), dim=1) for y in target]
        support = self.support.past()
        near = [support[(key @ support.T).topk(self.neighbours).indices] for key in keys]  # [n, k, d] each
        terms = {
            "nearest": self.near * self._nearest(online, near),
            "centre": self.centre * self._centred(online, near),
            "feature": self.feature * _redundancy(online, target),
        }
        if self.training:
            self.support.push(keys[0])
        return Loss(terms, {})

    def _nearest(self, online: list[Tensor], near: list[Tensor]) -> Tensor:
        queries = predicted(self.predictor, online)
        met = ordered_pairs(queries, [found[:, 0] for found in near])
        return mean_of([_found(key, query, self.temperature) for query, key in met])

    def _centred(self, online: list[Tensor], near: list[Tensor]) -> Tensor:
        """Views that the teacher sees, since the neighbours of both views of a pair take part."""
        queries = predicted(self.centre_predictor, online[: len(near)])
        moved = [torch.cat([query[:, None], found[:, :-1]], 1) for query, found in zip(queries, near, strict=True)]
        summaries, shifted = ([self.attention(tokens + self.ranks)[:, 0] for tokens in each] for each in (near, moved))
        met = ordered_pairs(shifted, summaries)
        return mean_of([_found(key, query, self.centre_temperature) for query, key in met])

    def facts(self, rows: int) -> dict[str, str]:
        return {"neighbours": f"{self.neighbours} of {self.size} past targets", **super().facts(rows)}


def _found(keys: Tensor, queries: Tensor, temperature: float) -> Tensor:
    """- log of the share of row i's own query among all queries of the batch, by cosine; the mean over rows."""
    scores = normalize(keys, dim=1) @ normalize(queries, dim=1).T / temperature
    return cross_entropy(scores, torch.arange(len(keys), device=keys.device))


def _redundancy(online: list[Tensor], target: list[Tensor]) -> Tensor:
    columns = [normalize(z, dim=0) for z in online], [normalize(y.detach(), dim=0) for y in target]
    agree, differ = [], []
    for x, y in ordered_pairs(*columns):
        correlation = y.T @ x
        d = len(correlation)
        same = torch.eye(d, dtype=torch.bool, device=x.device)
        agree.append((1 - correlation.diagonal()).square().mean())
        differ.append(correlation.square().masked_fill(same, 0.0).sum() / (d * (d - 1)))
    # The gradient of a root has no value at 0.
    return sum((mean_of(squares).clamp_min(1e-12).sqrt() / 2 for squares in (agree, differ)), torch.zeros(()).to(x))


def _sinusoids(positions: int, dim: int) -> Tensor:
    """[positions, dim]: sine and cosine of the position, interleaved, at wavelengths 2 pi to 20,000 pi."""
    rate = torch.exp(torch.arange(0, dim, 2, dtype=torch.float64) * (-math.log(10000.0) / dim))
    angle = torch.arange(positions)[:, None] * rate
    return torch.stack([angle.sin(), angle.cos()], 2).flatten(1)[:, :dim].float()
