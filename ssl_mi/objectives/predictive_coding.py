"""Contrastive predictive coding: the next windows of a recording are told apart from those of other recordings.

Views are consecutive windows of one recording (patches of one image, sentences of one text) in their order.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ssl_mi.objectives.objective import HeldOutBound, Loss, Objective, mean_of


class CPC(Objective):
    """Contrastive predictive coding with an autoregressive context.

        c_t = GRU(z_1, ..., z_t)                           what was seen up to window t
        f_k(i, j) = z_(t+k)[j] . W_k c_t[i]                score of candidate j for row i, k steps ahead
        loss = mean over k, t, i of - log e^f_k(i, i) / sum_j e^f_k(i, j)

    View t is window t: z_t is its embedding, in the order of time. The candidates of row i are the windows of all rows
    of the batch at the same time, n - 1 of them negatives. (The paper also draws negatives from other times of the same
    recording.) There is a W_k for each number of steps k = 1 .. steps, and all k have equal weight. One direction only:
    the context predicts the future.

    Relation to mutual information: each term is InfoNCE, so log n - loss is a lower bound on the mean over t and k of
    I(c_t; z_(t+k)), of at most log n (the paper's equation 5 and its appendix A.1); it is logged as `bound_nats`.
    `estimate` gives that of the first step, I(z_1; z_2), on held-out pairs.

    Args:
        dim: Width d of an embedding; None to build later.
        context: Width of the GRU's state c_t.
        steps: How many steps ahead are predicted; fewer than there are views.

    Raises:
        ValueError: If a number is not positive, or there are not more views than `steps`.

    References:
        van den Oord et al. 2018 (arXiv:1807.03748), section 2, equations 2 to 4.

    Example:
        >>> import torch
        >>> from ssl_mi.objectives import CPC
        >>> windows = [torch.randn(6, 8) for _ in range(4)]  # 4 consecutive windows of 6 recordings
        >>> list(CPC(dim=8, context=16, steps=2)(windows).terms)
        ['cpc']
    """

    name = "cpc"
    teacher = "unused"
    fewer_views = ", or lower objective.steps: one view is one step"

    def __init__(self, dim: int | None = None, context: int = 128, steps: int = 3) -> None:
        super().__init__()
        if context < 1 or steps < 1:
            raise ValueError(f"CPC: context={context} and steps={steps} must be positive")
        self.context, self.steps = int(context), int(steps)
        self.min_views = self.steps + 1
        self.build(dim)

    def _make(self, dim: int) -> None:
        self.reader = nn.GRU(dim, self.context, batch_first=True)
        self.ahead = nn.ModuleList([nn.Linear(self.context, dim, bias=False) for _ in range(self.steps)])

    def can_shard(self) -> bool:
        return True

    def forward(self, online: list[Tensor], target: list[Tensor], rows: slice | None = None) -> Loss:
        times = len(online)
        z = torch.stack(online, 1)  # [n, T, d]
        context = self._context(z if rows is None else z[rows])
        losses = [self._cross_entropy(context[:, : times - k], z[:, k:], k, rows) for k in range(1, self.steps + 1)]
        loss = mean_of(losses)
        return Loss({self.name: loss}, {"bound_nats": math.log(len(z)) - loss.detach()})

    def _context(self, z: Tensor) -> Tensor:
        """z: [n, T, d] -> c: [n, T, context]."""
        return self.reader(z)[0]

    def _cross_entropy(self, context: Tensor, future: Tensor, k: int, rows: slice | None = None) -> Tensor:
        """context: [m, T - k, c] of the rows; future: [n, T - k, d] of all -> mean of - log of the shares."""
        predicted = self.ahead[k - 1](context).transpose(0, 1)  # [T - k, m, d]
        scores = predicted @ future.permute(1, 2, 0)  # [T - k, m, n]
        own = torch.arange(len(future), device=scores.device)
        own = own if rows is None else own[rows]
        return cross_entropy(scores.flatten(0, 1), own.repeat(len(scores)))

    @torch.no_grad()
    def estimate(self, x: Tensor, y: Tensor, rows: int) -> HeldOutBound:
        """The bound on I(z_1; z_2) of held-out windows x and the next ones y, by the critic of one step.

        Args:
            x: Embeddings [n, d] of a window.
            y: Embeddings [n, d] of the next window of the same recordings.
            rows: Batch size of training: candidates come from batches of this size.

        Returns:
            The bound in nats. An incomplete last batch is used only if there is no complete one.
        """
        rows = min(rows, len(x))
        losses = []
        for start in range(0, len(x) - rows + 1, rows):
            some = slice(start, start + rows)
            context = self._context(x[some].float()[:, None])
            losses.append(self._cross_entropy(context, y[some].float()[:, None], k=1).item())
        ceiling = math.log(rows)
        return HeldOutBound(ceiling - sum(losses) / len(losses), "lower bound", ceiling, rows - 1)

    def facts(self, rows: int) -> dict[str, str]:
        return {
            "negatives": str(rows - 1),
            "bound's ceiling": f"{math.log(rows):.2f} nats (log of {rows} candidates = {math.log(rows):.2f})",
            "predicted": f"{self.steps} steps ahead, from a GRU context of {self.context}",
        }
