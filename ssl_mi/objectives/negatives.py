"""Which pairs count as independent: whose scores a bound takes for those of the product of the marginals.

`candidates` is what a subclass defines: whole rows of scores [m, c], -inf where a column is no candidate of the row,
and partner [m], the column of the true pair. `count(n)` is k, the number of negatives of a row. `forward` gives the
same scores apart: joint [m], marginal [m, k]. `log_sums` gives joint [m] and the logarithms of the summed exponentials
of the negatives [m] without a matrix of scores, where the critic is a product of two factors, and `factored` the two.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ssl_mi.information.variational.bounds import split_candidates
from ssl_mi.information.variational.critics import score_factors
from ssl_mi.objectives.queue import Queue
from ssl_mi.objectives.tiles import ends, log_sums, log_sums_of_views, of_views, row_products, scores_and_log_sums


class Pairs(NamedTuple):
    """All scores of a loss as one product of two matrices: the arguments of `tiles.scores_and_log_sums`.

    Attributes:
        left: [m, d].
        right: [c, d]; `left` itself where scores are symmetric.
        left_out: Diagonals that hold no negatives.
        partners: Diagonals that hold true pairs: as many scores as there are rows, and columns where they count.
        both: Whether columns look for their partners too.
    """

    left: Tensor
    right: Tensor
    left_out: tuple[int, ...]
    partners: tuple[int, ...]
    both: bool = False


class Negatives(nn.Module):
    """Base class: which pairs count as independent.

    Attributes:
        directed: Whether a row of x looks for its partner among the y only. The two sides then play different parts, so
            a teacher makes y.
        not_a_bound: Why a bound over these negatives bounds nothing; None if it holds.
    """

    directed = False
    not_a_bound: str | None = None
    shards = False  # whether there is a `shard`
    halves = False  # whether a pair serves two rows, so that processes should share pairs out, and not rows

    def count(self, n: int) -> int:
        """Negatives of a row, in a batch of n pairs."""
        raise NotImplementedError

    def candidates(self, critic: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """x [n, d], y [n, d] -> scores [m, c], -inf where a column is no candidate, and partner int64 [m]."""
        raise NotImplementedError

    def forward(self, critic: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """x [n, d], y [n, d] -> joint [m], marginal [m, k]."""
        return split_candidates(*self.candidates(critic, x, y), self.count(x.shape[0]))

    def shard(self, critic: nn.Module, x: Tensor, y: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        """The rows of `candidates` that belong to some of the pairs, at their share of the cost.

        Args:
            critic: Scores all pairs of its two arguments.
            x: Embeddings of all pairs, [n, d].
            y: Embeddings of all pairs, [n, d].
            rows: Which pairs. Shards of equal length that cover all pairs have together the rows of `candidates`.

        Returns:
            scores and partner, as `candidates`.
        """
        raise NotImplementedError

    def factored(self, critic: nn.Module, x: Tensor, y: Tensor) -> Pairs | None:
        """All pairs of `candidates` as one product; None where there is none, as by default.

        Args:
            critic: Scores all pairs of its two arguments.
            x: Embeddings of all pairs, [n, d].
            y: Embeddings of all pairs, [n, d].
        """
        return None

    def log_sums(
        self, critic: nn.Module, x: Tensor, y: Tensor, rows: slice | None = None
    ) -> tuple[Tensor, Tensor] | None:
        """What many bounds need of the scores, in memory O(n); see `ssl_mi.objectives.tiles`.

        Args:
            critic: Scores all pairs of its two arguments.
            x: Embeddings of all pairs, [n, d].
            y: Embeddings of all pairs, [n, d].
            rows: Which pairs, as for `shard`; None for all.

        Returns:
            The scores of the true pairs [m] and log sum e^score over the negatives of each, [m], in the rows' order of
            `candidates` or `shard`; None where the critic has no factors.
        """
        return None

    def remember(self, target: list[Tensor]) -> None:
        """Called once a training step, after every pair was scored."""


class OtherSamples(Negatives):
    """The other samples of the other view, in both directions: m = 2n, k = n - 1.

    Row i of x must find y_i among all y, and row i of y must find x_i among all x. Scores are computed once.

    References:
        Radford et al. 2021 (arXiv:2103.00020).

    Example:
        >>> import torch
        >>> from ssl_mi.information import critics
        >>> positive, negative = OtherSamples()(critics.Cosine(temperature=0.5), torch.eye(4), torch.eye(4))
        >>> positive.shape, negative.shape
        (torch.Size([8]), torch.Size([8, 3]))
    """

    shards = True
    halves = True

    def count(self, n: int) -> int:
        return n - 1

    def candidates(self, critic: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        scores = critic(x, y)
        return torch.cat([scores, scores.T]), torch.arange(x.shape[0], device=x.device).repeat(2)

    def shard(self, critic: nn.Module, x: Tensor, y: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        scores = torch.cat([critic(x[rows], y), critic(x, y[rows]).T])
        return scores, _places(x)[rows].repeat(2)

    def factored(self, critic: nn.Module, x: Tensor, y: Tensor) -> Pairs | None:
        factors = score_factors(critic, x, y)
        return None if factors is None else Pairs(*factors, (0,), (0, 0), both=True)

    def log_sums(
        self, critic: nn.Module, x: Tensor, y: Tensor, rows: slice | None = None
    ) -> tuple[Tensor, Tensor] | None:
        pairs = self.factored(critic, x, y)
        if pairs is None or rows is None:
            return None if pairs is None else scores_and_log_sums(*pairs)
        left, right = pairs.left, pairs.right
        first, last = ends(rows, len(x))
        mine = slice(first, last)
        sums = [log_sums(left[mine], right, (first,)), log_sums(right[mine], left, (first,))]
        return row_products(left[mine], right[mine]).repeat(2), torch.cat(sums)


class OtherSamplesAndViews(Negatives):
    """The other samples of both views: m = 2n, k = 2n - 2, as in NT-Xent.

    The negatives of row i of x are all y_j and x_j with j != i. This assumes that the two views have the same
    distribution.

    References:
        Chen et al. 2020 (arXiv:2002.05709), section 2.1: "the other 2(N - 1) augmented examples".

    Example:
        >>> import torch
        >>> from ssl_mi.information import critics
        >>> positive, negative = OtherSamplesAndViews()(critics.Cosine(temperature=0.5), torch.eye(4), torch.eye(4))
        >>> positive.shape, negative.shape
        (torch.Size([8]), torch.Size([8, 6]))
    """

    shards = True
    halves = True

    def count(self, n: int) -> int:
        return 2 * n - 2

    def candidates(self, critic: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        n = x.shape[0]
        z = torch.cat([x, y])
        return critic(z, z).fill_diagonal_(-math.inf), torch.arange(2 * n, device=z.device).roll(n)

    def shard(self, critic: nn.Module, x: Tensor, y: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        n, place = x.shape[0], _places(x)[rows]
        itself, partner = torch.cat([place, place + n]), torch.cat([place + n, place])
        scores = critic(torch.cat([x[rows], y[rows]]), torch.cat([x, y]))
        return scores.scatter(1, itself[:, None], -math.inf), partner

    def factored(self, critic: nn.Module, x: Tensor, y: Tensor) -> Pairs | None:
        n, z = len(x), torch.cat([x, y])
        factors = score_factors(critic, z, z)
        return None if factors is None else Pairs(*factors, of_views(n, 2), (n, -n))

    def log_sums(
        self, critic: nn.Module, x: Tensor, y: Tensor, rows: slice | None = None
    ) -> tuple[Tensor, Tensor] | None:
        pairs, n = self.factored(critic, x, y), len(x)
        if pairs is None or rows is None:
            return None if pairs is None else scores_and_log_sums(*pairs)
        left, right = pairs.left, pairs.right
        first, last = ends(rows, n)
        views = slice(first, last), slice(n + first, n + last)
        joint = [row_products(left[a], right[b]) for a, b in ((views,) if left is right else (views, views[::-1]))]
        sums = log_sums_of_views(left, right, 2, (first, last))
        return torch.cat(joint * (2 if left is right else 1)), sums


class OtherTargets(Negatives):
    """The other samples of the other view, in one direction: m = n, k = n - 1.

    Row i of x, a query, must find y_i among all y, the keys.

    References:
        Chen et al. 2021 (arXiv:2104.02057): MoCo v3.

    Example:
        >>> import torch
        >>> from ssl_mi.information import critics
        >>> positive, negative = OtherTargets()(critics.Cosine(temperature=0.5), torch.eye(4), torch.eye(4))
        >>> positive.shape, negative.shape
        (torch.Size([4]), torch.Size([4, 3]))
    """

    directed = True
    shards = True

    def count(self, n: int) -> int:
        return n - 1

    def candidates(self, critic: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return critic(x, y), torch.arange(x.shape[0], device=x.device)

    def shard(self, critic: nn.Module, x: Tensor, y: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        return critic(x[rows], y), _places(x)[rows]

    def factored(self, critic: nn.Module, x: Tensor, y: Tensor) -> Pairs | None:
        factors = score_factors(critic, x, y)
        return None if factors is None else Pairs(*factors, (0,), (0,))

    def log_sums(
        self, critic: nn.Module, x: Tensor, y: Tensor, rows: slice | None = None
    ) -> tuple[Tensor, Tensor] | None:
        pairs = self.factored(critic, x, y)
        if pairs is None or rows is None:
            return None if pairs is None else scores_and_log_sums(*pairs)
        left, right = pairs.left, pairs.right
        first, last = ends(rows, len(x))
        mine = slice(first, last)
        return row_products(left[mine], right[mine]), log_sums(left[mine], right, (first,))


class PastTargets(Negatives):
    """A queue of the targets of past steps: m = n, k = size.

    Row i of x, a query, must find y_i, its key, among y_i and the queue. The keys of this step, of all views, enter
    after all pairs were scored, so that in the symmetric loss no query finds its own key among the negatives. A batch
    of n images takes V n places for V target views.

    The rows of the queue come from older weights than the partner. They are not a sample of p(y), so the loss bounds
    nothing.

    Args:
        dim: Width of an embedding.
        size: Rows of the queue.
        key: Of the configuration, that sets `size`.

    Raises:
        ValueError: If more keys are pushed in a step than the queue holds.

    References:
        He et al. 2020 (arXiv:1911.05722): MoCo.

    Example:
        >>> import torch
        >>> from ssl_mi.information import critics
        >>> negatives = PastTargets(dim=4, size=8)
        >>> positive, negative = negatives(critics.Cosine(temperature=0.5), torch.eye(4), torch.eye(4))
        >>> positive.shape, negative.shape
        (torch.Size([4]), torch.Size([4, 8]))
    """

    directed = True
    shards = True
    not_a_bound = "its negatives come from a queue of keys that older weights made"

    def __init__(self, dim: int, size: int, key: str = "objective.negatives.size") -> None:
        super().__init__()
        self.queue = Queue(size, dim, key)

    def count(self, n: int) -> int:
        return self.queue.size

    def candidates(self, critic: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        scores = torch.cat([critic(x, y).diagonal()[:, None], critic(x, self.queue.past())], 1)
        return scores, torch.zeros(x.shape[0], dtype=torch.int64, device=x.device)

    def shard(self, critic: nn.Module, x: Tensor, y: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        return self.candidates(critic, x[rows], y[rows])

    def log_sums(
        self, critic: nn.Module, x: Tensor, y: Tensor, rows: slice | None = None
    ) -> tuple[Tensor, Tensor] | None:
        if rows is not None:
            x, y = x[rows], y[rows]
        pairs, past = score_factors(critic, x, y), score_factors(critic, x, self.queue.past())
        if pairs is None or past is None:
            return None
        return row_products(*pairs), log_sums(*past)

    def remember(self, target: list[Tensor]) -> None:
        self.queue.push(torch.cat(target))


def _places(x: Tensor) -> Tensor:
    """0, 1, ..., n - 1 for x [n, d]."""
    return torch.arange(x.shape[0], device=x.device)
