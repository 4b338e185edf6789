"""Which pairs count as independent: (critic, x [n, d], y [n, d]) -> joint [m], marginal [m, k].

`count(n)` is k, the number of negatives a row meets. `candidates` gives the same scores uncut, for InfoNCE:
scores [m, c], -inf where a column is no candidate of the row, and partner [m], the column of the true pair.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ssl_mi.information.bounds import pairs


class OtherSamples:
    """The other samples of the other view, in both directions: m = 2n, k = n - 1.

    Row i of x must find y_i among all y, and row i of y must find x_i among all x (the two directions
    of Radford et al. 2021, arXiv:2103.00020). Scores are computed once.
    """

    def count(self, n: int) -> int:
        return n - 1

    def __call__(self, critic: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        scores = critic(x, y)
        forward, backward = pairs(scores), pairs(scores.T)
        return torch.cat([forward[0], backward[0]]), torch.cat([forward[1], backward[1]])

    def candidates(self, critic: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        scores = critic(x, y)
        return torch.cat([scores, scores.T]), torch.arange(x.shape[0], device=x.device).repeat(2)


class OtherSamplesAndViews:
    """The other samples of both views: m = 2n, k = 2n - 2, as NT-Xent has it.

    Chen et al. 2020 (arXiv:2002.05709), section 2.1: "the other 2(N - 1) augmented examples". Row i of x
    meets all y_j and x_j with j != i. It assumes that the two views have the same distribution.
    """

    def count(self, n: int) -> int:
        return 2 * n - 2

    def __call__(self, critic: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        n = x.shape[0]
        z = torch.cat([x, y])
        scores = critic(z, z)
        row = torch.arange(2 * n, device=z.device)
        partner = row.roll(n)
        # Every column but the row itself and its partner: start behind the later of the two and go round,
        # which leaves two runs of n - 1 columns, one before each of the two skipped.
        offset = torch.arange(1, n, device=z.device)
        others = torch.cat([row[:, None] + offset, partner[:, None] + offset], 1) % (2 * n)
        return scores[row, partner], scores.gather(1, others)

    def candidates(self, critic: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        n = x.shape[0]
        z = torch.cat([x, y])
        return critic(z, z).fill_diagonal_(-math.inf), torch.arange(2 * n, device=z.device).roll(n)
