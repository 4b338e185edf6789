"""Variational bounds on mutual information: critic scores in, nats out.

A critic T scores pairs. `joint` [n] holds T(x_i, y_i) for n true pairs, `marginal` [n, k] holds
T(x_i, y_j) for k pairs a row whose parts do not belong together. Every bound is a function of these
two tensors alone, so the same object trains an encoder (maximise `bound(joint, marginal)`) and gives
an estimate (`bound(joint, marginal)` on rows that no parameter was fitted on).

                joint term          marginal term                      optimal critic
    InfoNCE     E[T - log mean e^T over the k + 1 candidates]          log p(y|x) + c(x)
    DV, MINE    E[T]                - log E[e^T]                       log r + c
    NWJ         E[T]                - e^-1 E[e^T]                      log r + 1
    TUBA        E[T - a] + 1        - E[e^(T - a)]                     log r + a
    JS          E[-softplus(-T)]    - E[softplus(T)]                   log r
    SMILE       E[T]                - log E[e^clip(T, -c, c)]          log r

with r = p(x, y) / (p(x) p(y)); I(X; Y) = E[log r]. Properties:

- InfoNCE never exceeds log(k + 1), and with a critic of bounded range R (cosine: R = 2/temperature)
  never log((k + 1) / (1 + k e^-R)). It has little variance and, near its ceiling, none.
- DV, NWJ and TUBA have no ceiling; the variance of their marginal term grows like e^I
  (Song & Ermon 2020, arXiv:1910.06222, section 4), so beyond log(n) nats they are noise.
- On one finite batch DV is neither unbiased nor a bound (Jensen); on held-out rows it is a
  consistent estimate of a lower bound.
- SMILE with a finite clip is *not* a bound: it may lie above the truth.

Where the gradient to follow is not that of the value (MINE, JS, SMILE) the result is
`surrogate + (value - surrogate).detach()`: its value is the estimate, its gradient that of the surrogate.

A new bound is one subclass of `Bound` with a `forward`. What the rest of the package needs to know of it
(`offset`, `heavy_tailed`, `criterion`, ...) are attributes and methods of that class.
"""

from __future__ import annotations

import copy
import math
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn


def off_diagonal(scores: Tensor) -> Tensor:
    """The n (n - 1) scores of pairs that do not belong together: [n, n] -> [n, n - 1], rows kept.

    Args:
        scores: [n, n], n at least 2; the diagonal holds the true pairs.

    Raises:
        ValueError: for scores of another shape.
    """
    n = scores.shape[0]
    if scores.shape != (n, n) or n < 2:
        raise ValueError(f"off_diagonal needs a square matrix of at least 2 rows, got {list(scores.shape)}")
    # Dropping the first entry leaves each diagonal element at the end of a row of n + 1.
    return scores.flatten()[1:].view(n - 1, n + 1)[:, :-1].reshape(n, n - 1)


def pairs(scores: Tensor) -> tuple[Tensor, Tensor]:
    """(joint [n], marginal [n, n - 1]) of a square score matrix whose diagonal holds the true pairs.

    Args:
        scores: [n, n], n at least 2.
    """
    return scores.diagonal(), off_diagonal(scores)


def split_candidates(scores: Tensor, partner: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """(joint [m], marginal [m, k]) of whole rows of scores; the negatives keep the order of their columns.

    Args:
        scores: [m, c], -inf where a column is no candidate of the row.
        partner: int64 [m], the column of the true pair.
        k: the number of finite scores beside it in each row.
    """
    m, c = scores.shape
    joint = scores.gather(1, partner[:, None]).squeeze(1)
    if c == k + 1:
        before = torch.arange(k, device=scores.device) < partner[:, None]
        return joint, torch.where(before, scores[:, :-1], scores[:, 1:])
    # No boolean index, whose result has a size that the host would have to wait for.
    kept = (scores != -math.inf).scatter(1, partner[:, None], False)
    place = torch.where(kept, kept.cumsum(1) - 1, k)  # what is not kept goes to a spare column
    return joint, scores.new_full((m, k + 1), -math.inf).scatter(1, place, scores)[:, :k]


def log_mean_exp(scores: Tensor) -> Tensor:
    """log of the mean of e^scores over all entries, without overflow.

    Args:
        scores: of any shape, at least one entry.
    """
    return scores.flatten().logsumexp(0) - math.log(scores.numel())


def softplus(x: Tensor) -> Tensor:
    """log(1 + e^x), exact in float64 too: torch's default turns linear at 20, an error of 2e-9.

    Args:
        x: of any shape.
    """
    return nn.functional.softplus(x, threshold=40)


def with_gradient_of(surrogate: Tensor, value: Tensor) -> Tensor:
    """A tensor with the value of `value` and the gradient of `surrogate`.

    Args:
        surrogate: gives the gradient.
        value: gives the value, of the same shape.
    """
    return surrogate + (value - surrogate).detach()


class Bound(nn.Module):
    """The contract of a bound: (joint [n], marginal [n, k]) -> nats, a scalar.

    A subclass needs `forward`; every other member has a default. Class attributes:

    Attributes:
        name: what it is called in settings and on the command line; empty for bounds named by import path only.
        kind: what the number is: "lower bound", "upper bound" or "point estimate".
        offset: the bound is tight at the critic log r + offset, r = p(x, y) / (p(x) p(y)). 0 where any constant
            will do. A critic that starts from an estimate of log r starts there.
        heavy_tailed: whether it averages e^T over the marginal scores, so that its variance grows like e^I
            (Song & Ermon 2020, arXiv:1910.06222, theorem 2).
        rowwise: whether the value is a mean over rows of what each row gives by itself, so that rows can be shared out
            over processes.
        estimates: what the number means, in a line, for the table of estimators.
        use_when: when to choose it, in a line.
    """

    name: ClassVar[str] = ""
    kind: Literal["lower bound", "upper bound", "point estimate"] = "lower bound"
    offset: float = 0.0
    heavy_tailed: bool = False
    rowwise: bool = False
    estimates: ClassVar[str] = ""
    use_when: ClassVar[str] = ""

    def forward(self, joint: Tensor, marginal: Tensor) -> Tensor:
        """The bound, in nats.

        Args:
            joint: [n], scores of true pairs.
            marginal: [n, k], scores of pairs that do not belong together.
        """
        raise NotImplementedError

    def from_logits(self, scores: Tensor, partner: Tensor, k: int) -> Tensor:
        """The same from whole rows of scores. Override it where this is cheaper than `forward` on the parts.

        Args:
            scores: [m, c], -inf where a column is no candidate of the row.
            partner: int64 [m], the column of the true pair.
            k: the number of finite scores beside it in each row.
        """
        return self(*split_candidates(scores, partner, k))

    def from_log_sums(self, joint: Tensor, log_sums: Tensor, k: int) -> Tensor:
        """The same from log sum e^T over each row's negatives: for bounds that need no more of them, in memory O(m).

        Args:
            joint: [m], scores of true pairs.
            log_sums: [m].
            k: the number of negatives a row.
        """
        raise NotImplementedError

    def from_cross_entropy(self, value: Tensor, k: int) -> Tensor:
        """The same from mean_i log(1 + sum_j e^(T_ij - T_ii)): for bounds that need no more of the scores.

        Args:
            value: a scalar, nats.
            k: the number of negatives a row.
        """
        raise NotImplementedError

    def criterion(self, joint: Tensor, marginal: Tensor) -> Tensor:
        """What a critic is chosen by on validation rows, largest best; by default the bound itself.

        Override it where the value is not what training maximises, and a larger value no better critic.
        """
        return self(joint, marginal)

    def ceiling(self, k: int, score_range: float = math.inf) -> float:
        """The largest value the bound can take, in nats.

        Args:
            k: negatives a row.
            score_range: the largest difference between two scores that the critic can give.
        """
        return math.inf

    def loss(self, value: Tensor, k: int) -> Tensor:
        """What papers print and optimisers lower: minus the bound, up to a constant."""
        return -value

    @property
    def title(self) -> str:
        """Its name and settings as figures show them, for example "SMILE(clip=5)"."""
        settings = self.extra_repr()
        return f"{type(self).__name__}({settings})" if settings else type(self).__name__

    def _check(self, joint: Tensor, marginal: Tensor) -> None:
        if joint.dim() != 1 or marginal.dim() != 2 or marginal.shape[0] != joint.shape[0]:
            raise ValueError(
                f"{type(self).__name__} takes joint [n] and marginal [n, k], "
                f"got {list(joint.shape)} and {list(marginal.shape)}"
            )
        if marginal.numel() == 0:
            raise ValueError(f"{type(self).__name__} needs a negative in each row: use 2 samples or more")


def described(part: object) -> tuple[str, str] | None:
    """What the table of estimators has of a subclass of `Bound`, (estimates, use_when); None for anything else.

    Args:
        part: anything a user may name as a bound.
    """
    if isinstance(part, type) and issubclass(part, Bound):
        return part.estimates or f"{part.kind} by {part.__name__}", part.use_when or "as its own description has it"
    return None


def own_bound(part: object) -> Bound:
    """A bound to train with: a class is built with its defaults, an object is copied and stays as it is.

    Args:
        part: a subclass of `Bound`, or an object of one.

    Raises:
        ValueError: for anything else.
    """
    if isinstance(part, type) and issubclass(part, Bound):
        return part()
    if isinstance(part, Bound):
        return copy.deepcopy(part)
    raise ValueError(f"bound must be a name, an import path package.module:Class or a Bound, got {part!r}")


class InfoNCE(Bound):
    """log(k + 1) + E[ T(x, y) - log sum of e^T over y and its k negatives ].

    van den Oord et al. 2018 (arXiv:1807.03748), section 2.3; as a bound, Poole et al. 2019
    (arXiv:1905.06922), section 2.3. Written from score differences: the difference of two large log-sums
    would lose the digits that matter.
    """

    name = "infonce"
    rowwise = True
    estimates = "lower bound with little variance, never above log(rows scored together): 7.6 nats at 2048"
    use_when = "many dimensions, where less than about 0.8 log(n) nats are shared"

    def ceiling(self, k: int, score_range: float = math.inf) -> float:
        return math.log(k + 1) - math.log1p(k * math.exp(-score_range))

    def loss(self, value: Tensor, k: int) -> Tensor:
        """The cross-entropy of finding the partner among k + 1 candidates."""
        return math.log(k + 1) - value

    def forward(self, joint: Tensor, marginal: Tensor) -> Tensor:
        self._check(joint, marginal)
        # log(1 + sum_j e^(T_ij - T_ii)) = softplus(logsumexp_j(T_ij - T_ii))
        loss = softplus((marginal - joint[:, None]).logsumexp(1)).mean()
        return math.log(marginal.shape[1] + 1) - loss

    def from_logits(self, scores: Tensor, partner: Tensor, k: int) -> Tensor:
        """The same without a copy of the negatives; see `Bound.from_logits`."""
        return math.log(k + 1) - _CrossEntropy.apply(scores, partner[:, None]).mean()

    def from_log_sums(self, joint: Tensor, log_sums: Tensor, k: int) -> Tensor:
        return math.log(k + 1) - softplus(log_sums - joint).mean()

    def from_cross_entropy(self, value: Tensor, k: int) -> Tensor:
        return math.log(k + 1) - value


class _CrossEntropy(torch.autograd.Function):
    """log(1 + sum over j != partner of e^(T_ij - T_i,partner)) for each row: [m].

    By hand because it keeps one exponential for both directions, and the digits of a small loss.
    """

    @staticmethod
    def forward(ctx: Any, scores: Tensor, partner: Tensor) -> Tensor:
        differences = scores - scores.gather(1, partner)
        top = differences.amax(1, keepdim=True)  # at least 0, the partner's
        others = differences.sub_(top).exp_().scatter_(1, partner, 0.0)
        total, own = others.sum(1, keepdim=True), (-top).exp()
        ctx.save_for_backward(others, total, own, partner)
        # Where the partner is the best candidate, top = 0 and own = 1.
        return torch.where(top > 0, top + (own + total).log(), total.log1p()).squeeze(1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        others, total, own, partner = ctx.saved_tensors
        weight = gradient[:, None] / (own + total)
        return (others * weight).scatter_(1, partner, -weight * total), None


class DV(Bound):
    """E[T] - log E[e^T]: Donsker & Varadhan 1983; Belghazi et al. 2018 (arXiv:1801.04062)."""

    name = "dv"
    heavy_tailed = True
    estimates = "lower bound, consistent on held-out rows; its variance grows like exp(I)"
    use_when = "more than InfoNCE can show, with many rows"

    def forward(self, joint: Tensor, marginal: Tensor) -> Tensor:
        self._check(joint, marginal)
        return joint.mean() - log_mean_exp(marginal)

    def from_log_sums(self, joint: Tensor, log_sums: Tensor, k: int) -> Tensor:
        return self(joint, (log_sums - math.log(k))[:, None])  # a mean of means


class MINE(Bound):
    """DV, maximised along a gradient whose denominator is a moving average.

    The gradient of -log mean e^T over a batch is -mean(e^T dT) / mean(e^T): a ratio of two noisy means,
    biased in a batch. Belghazi et al. 2018 (arXiv:1801.04062, section 3.2) replace the
    denominator by its exponential moving average over the steps, m_t. The value stays DV's, of
    this batch.

    m_t = (1 - decay) sum_s decay^(t - s) mean(e^T)_s / (1 - decay^t), so the first batches weigh alike
    and none starts from an arbitrary value. It is kept as a logarithm, in float64, as buffers: it moves
    and checkpoints with the model. It is updated in training mode only.

    Args:
        decay: of the moving average, per training step; in [0, 1).
    """

    name = "mine"
    heavy_tailed = True
    estimates = "as dv, maximised along a steadier gradient"
    use_when = "as dv, with small batches"

    log_sum: Tensor
    weight: Tensor

    def __init__(self, decay: float = 0.99) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise ValueError(f"decay must lie in [0, 1), got {decay}")
        self.decay = decay
        self.register_buffer("log_sum", torch.tensor(-math.inf, dtype=torch.float64))
        self.register_buffer("weight", torch.tensor(0.0, dtype=torch.float64))

    def log_average(self) -> Tensor:
        """log m_t, a float64 scalar."""
        return self.log_sum - self.weight.log()

    @torch.no_grad()
    def update(self, log_mean: Tensor) -> None:
        """Take one batch's log mean(e^T) into the moving average."""
        old = self.log_sum + math.log(self.decay) if self.decay else torch.full_like(self.log_sum, -math.inf)
        self.log_sum.copy_(torch.logaddexp(old, log_mean.double() + math.log1p(-self.decay)))
        self.weight.mul_(self.decay).add_(1 - self.decay)

    def forward(self, joint: Tensor, marginal: Tensor) -> Tensor:
        self._check(joint, marginal)
        log_mean = log_mean_exp(marginal)
        value = joint.mean() - log_mean
        if not self.training:
            return value
        self.update(log_mean.detach())
        # mean(e^T) / m_t has the gradient mean(e^T dT) / m_t.
        ratio = (log_mean - self.log_average().to(log_mean.dtype)).exp()
        return with_gradient_of(joint.mean() - ratio, value)

    def from_log_sums(self, joint: Tensor, log_sums: Tensor, k: int) -> Tensor:
        return self(joint, (log_sums - math.log(k))[:, None])  # a mean of means


class NWJ(Bound):
    """E[T] - e^-1 E[e^T], unbiased.

    Nguyen, Wainwright & Jordan 2010 (arXiv:0809.0853); Poole et al. 2019 (arXiv:1905.06922), section 2.2.
    """

    name = "nwj"
    offset = 1.0
    heavy_tailed = True
    estimates = "lower bound, unbiased; its variance grows like exp(I)"
    use_when = "up to about 3 nats"

    def forward(self, joint: Tensor, marginal: Tensor) -> Tensor:
        self._check(joint, marginal)
        return joint.mean() - (log_mean_exp(marginal) - 1).exp()

    def from_log_sums(self, joint: Tensor, log_sums: Tensor, k: int) -> Tensor:
        return self(joint, (log_sums - math.log(k))[:, None])  # a mean of means


class TUBA(Bound):
    """E[T - a] + 1 - E[e^(T - a)] with a constant baseline a, learned.

    Poole et al. 2019 (arXiv:1905.06922), section 2.2, with log a(y) = a. a = 1 is NWJ; the best a is
    log E[e^T], where the value is DV's.

    Args:
        baseline: a at the start of the fit.
    """

    name = "tuba"
    heavy_tailed = True
    estimates = "as nwj, with a learned baseline"
    use_when = "as nwj, where nwj's fit is unstable"

    def __init__(self, baseline: float = 1.0) -> None:
        super().__init__()
        self.baseline = nn.Parameter(torch.tensor(float(baseline)))
        self.offset = float(baseline)

    def forward(self, joint: Tensor, marginal: Tensor) -> Tensor:
        self._check(joint, marginal)
        return joint.mean() - self.baseline + 1 - (log_mean_exp(marginal) - self.baseline).exp()


class Interpolated(Bound):
    """Between NWJ (alpha = 0) and InfoNCE (alpha = 1): Poole et al. 2019 (arXiv:1905.06922), section 2.4.

    1 + E[log e^T / m] - E[e^T / m], m = alpha mean(e^T over k candidates) + (1 - alpha) e. For a true
    pair the candidates are its partner and all but the last negative of the row, for a false pair the
    k negatives, none of which belongs to the row: k of them either way, as the bound's proof needs.
    Its ceiling is log(k / alpha).

    Args:
        alpha: weight of InfoNCE's denominator, in (0, 1].
    """

    name = "interpolated"
    offset = 1.0
    estimates = "lower bound between InfoNCE and NWJ; ceiling log(k / alpha)"
    use_when = "InfoNCE is at its ceiling and NWJ too noisy"

    def __init__(self, alpha: float = 0.01) -> None:
        super().__init__()
        if not 0 < alpha <= 1:
            raise ValueError(f"alpha must lie in (0, 1], got {alpha}; alpha = 0 is NWJ")
        self.alpha = alpha

    def ceiling(self, k: int, score_range: float = math.inf) -> float:
        return math.log(k / self.alpha)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha:g}"

    def _log_m(self, candidates: Tensor) -> Tensor:
        log_mean = candidates.logsumexp(1) - math.log(candidates.shape[1])
        if self.alpha == 1:
            return log_mean
        flat = torch.full_like(log_mean, 1 + math.log1p(-self.alpha))
        return torch.logaddexp(log_mean + math.log(self.alpha), flat)

    def forward(self, joint: Tensor, marginal: Tensor) -> Tensor:
        self._check(joint, marginal)
        true = self._log_m(torch.cat([joint[:, None], marginal[:, :-1]], 1))
        false = self._log_m(marginal)
        return 1 + (joint - true).mean() - log_mean_exp(marginal - false[:, None]).exp()


class JS(Bound):
    """Maximises the Jensen-Shannon objective, estimates by NWJ.

    E[-softplus(-T)] - E[softplus(T)] (Hjelm et al. 2019, arXiv:1808.06670) is largest at
    T = log r, but its value is no MI. The value puts T + 1 into NWJ: E[T] + 1 - E[e^T], which is
    I(X; Y) at that critic. Putting T itself there gives I - 1/e: a known mistake.
    """

    name = "js"
    heavy_tailed = True
    estimates = "lower bound (NWJ's) at a critic that a steadier objective found"
    use_when = "nwj's fit diverges or wanders"

    def criterion(self, joint: Tensor, marginal: Tensor) -> Tensor:
        """The objective that is maximised."""
        return jensen_shannon(joint, marginal)

    def forward(self, joint: Tensor, marginal: Tensor) -> Tensor:
        self._check(joint, marginal)
        value = joint.mean() + 1 - log_mean_exp(marginal).exp()
        return with_gradient_of(jensen_shannon(joint, marginal), value)


class SMILE(Bound):
    """DV with the marginal scores clipped to [-clip, clip], maximised along the JS gradient.

    Song & Ermon 2020 (arXiv:1910.06222), section 5. The clip bounds the variance by e^(2 clip) / n and
    biases the value: with a small clip it lies above the truth. Not a bound.

    Args:
        clip: largest absolute score in the marginal term, nats; positive.
    """

    name = "smile"
    kind = "point estimate"
    estimates = "point estimate, no bound: DV with clipped scores, may lie above the truth"
    use_when = "large I, beside a bound"

    def __init__(self, clip: float = 5.0) -> None:
        super().__init__()
        if clip <= 0:
            raise ValueError(f"clip must be positive, got {clip}")
        self.clip = clip

    def criterion(self, joint: Tensor, marginal: Tensor) -> Tensor:
        """The objective that is maximised: SMILE's own value would choose the critic that over-estimates most."""
        return jensen_shannon(joint, marginal)

    def extra_repr(self) -> str:
        return f"clip={self.clip:g}"

    def forward(self, joint: Tensor, marginal: Tensor) -> Tensor:
        self._check(joint, marginal)
        value = joint.mean() - log_mean_exp(marginal.clamp(-self.clip, self.clip))
        return with_gradient_of(jensen_shannon(joint, marginal), value)


def jensen_shannon(joint: Tensor, marginal: Tensor) -> Tensor:
    """E[-softplus(-T)] - E[softplus(T)]: an objective whose best critic is log r, not an estimate.

    Args:
        joint: [n], scores of true pairs.
        marginal: of any shape, scores of false pairs.
    """
    return -softplus(-joint).mean() - softplus(marginal).mean()
