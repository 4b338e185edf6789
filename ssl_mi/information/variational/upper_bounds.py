"""Estimators that learn a density q(y|x): upper bounds, and a difference of entropies.

    CLUB        E[log q(y|x)] - E[log q(y|x')]                        x' of another row
    L1Out       E[log q(y|x) - log mean over the other rows q(y|x')]
    DoE         E[log q(y|x)] - E[log q(y)]                           = (H(Y) - H(Y|X)) as q sees them

With q(y|x) = p(y|x) exactly, CLUB (Cheng et al. 2020, arXiv 2006.12013, theorem 3.1) and L1Out (Poole et al.
2019, arXiv 1905.06922, section 2.5) lie above I(X; Y) in expectation. With a q that was learned they need not: a
bad q(y|x) pulls them down, and neither certifies anything. CLUB is loose: for Gaussian pairs with correlation
rho it is rho^2 / (1 - rho^2) where I = -log(1 - rho^2) / 2.

DoE (McAllester & Stratos 2020, arXiv 1811.04251, section 4) subtracts two cross-entropies, each above its
entropy. It bounds nothing, but has no ceiling and little variance: it continues where the bounds of bounds.py end,
at the price of trusting the family of q. To cancel part of the error, q(y) and q(y|x) are of one family.

The family is that of densities.py: y's coordinates one after another, each a mixture of Gaussians whose parameters a
masked network computes from x and from the coordinates before it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ssl_mi.information.core.caution import Caution, distinct
from ssl_mi.information.core.estimate import Estimate, Kind
from ssl_mi.information.core.inputs import read
from ssl_mi.information.variational.bounds import Bound
from ssl_mi.information.variational.critics import Critic
from ssl_mi.information.variational.densities import AutoregressiveMixture, Mixture
from ssl_mi.information.variational.held_out import (
    BoundEstimate,
    check_level,
    combine,
    estimate_bound,
    estimate_log_ratio,
    merged,
    one_or_all,
)
from ssl_mi.information.variational.splits import Split, SplitData
from ssl_mi.information.variational.training import (
    BestWeights,
    Fit,
    Training,
    maximise,
    minibatches,
    value_without_gradient,
)

BATCH_SIZE = 256  # rows of a step, where none is asked for
SPLIT, TRAINING, MIXTURE = Split(), Training(), Mixture()  # of these estimators by default


class DensityBound(Bound):
    """A bound whose scores are log q(y|x) of a learned density, in nats.

    Attributes:
        by_y: whether a row of scores belongs to one y and all x, instead of one x and all y.
    """

    kind = "upper bound"
    by_y: bool = False


class CLUB(DensityBound):
    """E[log q(y|x)] - E[log q(y|x')]: Cheng et al. 2020 (arXiv 2006.12013)."""

    name = "club"
    estimates = "upper bound if its learned q(y|x) is right; loose; certifies nothing when q is poor"
    use_when = "an idea of how much at most, beside a lower bound"

    def forward(self, joint: Tensor, marginal: Tensor) -> Tensor:
        self._check(joint, marginal)
        return joint.mean() - marginal.mean()


class LeaveOneOut(DensityBound):
    """E[log q(y|x) - log mean_k q(y|x_k)], x_k the other rows: Poole et al. 2019 (arXiv 1905.06922), section 2.5."""

    name = "leave_one_out"
    by_y = True
    estimates = "as club, less loose"
    use_when = "as club"

    def forward(self, joint: Tensor, marginal: Tensor) -> Tensor:
        self._check(joint, marginal)
        return (joint - marginal.logsumexp(1)).mean() + math.log(marginal.shape[1])


def club(
    x: ArrayLike,
    y: ArrayLike,
    *,
    density: Mixture = MIXTURE,
    split: Split = SPLIT,
    training: Training = TRAINING,
    level: float = 0.95,
    seed: int = 0,
    groups: ArrayLike | None = None,
    blocks: int | None = None,
) -> Estimate:
    """CLUB of paired rows with a learned q(y|x), in nats: an upper bound if q is right.

    Args:
        x: [n] or [n, dx], of any kind.
        y: [n] or [n, dy], continuous.
        density: size of q(y|x).
        split: how rows are divided, grouped and transformed.
        training: steps, batches, rates, patience and device.
        level: of the confidence interval.
        seed: of the split, the weights and the batches.
        groups: [n], the source of each row, where rows share sources; as in `neural_mi`.
        blocks: rows are in the order of time, and independent when that many places apart; as in `neural_mi`.

    Raises:
        ValueError: where y repeats values, for rows that are not paired or finite, and settings that cannot be met.

    References:
        Cheng et al. 2020 (arXiv 2006.12013), theorem 3.1.
    """
    settings = _Settings(density, split.of_rows(groups, blocks), training, level, seed)
    return _estimate("club", x, y, settings, partial(_of_bound, CLUB()))


def leave_one_out(
    x: ArrayLike,
    y: ArrayLike,
    *,
    density: Mixture = MIXTURE,
    split: Split = SPLIT,
    training: Training = TRAINING,
    level: float = 0.95,
    seed: int = 0,
    groups: ArrayLike | None = None,
    blocks: int | None = None,
) -> Estimate:
    """L1Out of paired rows with a learned q(y|x), in nats: an upper bound if q is right.

    Args:
        x: [n] or [n, dx], of any kind.
        y: [n] or [n, dy], continuous.
        density, split, training, level, seed, groups, blocks: as in `club`.

    Raises:
        ValueError: as `club`.

    References:
        Poole et al. 2019 (arXiv 1905.06922), section 2.5.

    Example:
        >>> import numpy as np
        >>> from ssl_mi.information import Training
        >>> rng = np.random.default_rng(0)
        >>> x = rng.standard_normal(400)
        >>> y = x + rng.standard_normal(400)  # I = log(2) / 2 = 0.347 nats
        >>> estimate = leave_one_out(x, y, training=Training(max_steps=50))  # 2,000 and more by default
        >>> bool(abs(estimate.value - np.log(2) / 2) < 0.3)
        True
    """
    settings = _Settings(density, split.of_rows(groups, blocks), training, level, seed)
    return _estimate("leave_one_out", x, y, settings, partial(_of_bound, LeaveOneOut()))


def difference_of_entropies(
    x: ArrayLike,
    y: ArrayLike,
    *,
    density: Mixture = MIXTURE,
    split: Split = SPLIT,
    training: Training = TRAINING,
    level: float = 0.95,
    seed: int = 0,
    groups: ArrayLike | None = None,
    blocks: int | None = None,
) -> Estimate:
    """H(Y) - H(Y|X) of paired rows by two learned densities, in nats: a point estimate.

    q(y|x) starts as the q(y) that was fitted, so it departs from it only where the validation rows approve: the
    estimate for independent pairs is near 0. `se`, `ci` and `p_value` are of the evaluation, at these densities
    (held_out.py). `flow_mi` is the same difference from a start that is right for Gaussians.

    Args:
        x: [n] or [n, dx], of any kind.
        y: [n] or [n, dy], continuous.
        density: size of q(y|x) and q(y).
        split, training, level, seed, groups, blocks: as in `club`.

    Raises:
        ValueError: where y repeats values (a density of a discrete variable does not exist: swap the sides, or use
            `neural_mi`), for rows that are not paired or finite, and settings that cannot be met.

    References:
        McAllester & Stratos 2020 (arXiv 1811.04251), section 4.

    Example:
        >>> import numpy as np
        >>> from ssl_mi.information import Training
        >>> rng = np.random.default_rng(0)
        >>> x = rng.standard_normal(400)
        >>> y = x + rng.standard_normal(400)  # I = log(2) / 2 = 0.347 nats
        >>> estimate = difference_of_entropies(x, y, training=Training(max_steps=50))  # 2,000 and more by default
        >>> bool(abs(estimate.value - np.log(2) / 2) < 0.3)
        True
    """
    return _estimate(
        "difference_of_entropies",
        x,
        y,
        _Settings(density, split.of_rows(groups, blocks), training, level, seed),
        _of_entropies,
    )


# ------------------------------------------------------------------------------------- one split after the other


class _Settings(NamedTuple):
    """What the three estimators are called with."""

    size: Mixture
    split: Split
    training: Training
    level: float
    seed: int


class _Result(NamedTuple):
    """What one split gives: how q(y|x) was fitted, and the estimate on the test rows."""

    fit: Fit
    warnings: tuple[Caution, ...]
    estimate: BoundEstimate
    kind: Kind


def _estimate(
    name: str,
    x: ArrayLike,
    y: ArrayLike,
    settings: _Settings,
    evaluate: Callable[[SplitData, _Settings], _Result],
) -> Estimate:
    started = time.perf_counter()
    check_level(settings.level)
    check_continuous(y)
    folds = settings.split.apply(x, y, settings.seed, settings.training.device)
    results = [evaluate(data, settings) for data in folds]
    return combine([r.estimate for r in results]).as_estimate(
        name,
        results[0].kind,
        folds[0].dims,
        {
            "margins": settings.split.margins,
            "hidden": settings.size.hidden,
            "components": settings.size.components,
            **folds[0].sizes,
            "fits": len(folds),
            "steps": one_or_all([r.fit.steps for r in results]),
            "best_step": one_or_all([r.fit.best_step for r in results]),
            "seed": settings.seed,
            **folds[0].dependence,
        },
        (
            *settings.split.cautions(x, y),
            *merged([data.warnings for data in folds]),
            *merged([r.warnings for r in results]),
        ),
        level=settings.level,
        started=started,
    )


def _of_bound(bound: DensityBound, data: SplitData, settings: _Settings) -> _Result:
    density, fit = _fit_density(data, settings, conditional=True)
    critic = LogDensity(density, bound.by_y)
    sides = data.test[::-1] if bound.by_y else data.test
    eval_batch_size = settings.training.eval_batch_size or critic.eval_batch_size
    estimate = estimate_bound(critic, bound, *sides, eval_batch_size, rows=data.test_rows, seed=settings.seed)
    return _Result(fit, fit.warnings, estimate, bound.kind)


def _of_entropies(data: SplitData, settings: _Settings) -> _Result:
    marginal, of_marginal = _fit_density(data, settings, conditional=False)
    conditional, fit = _fit_density(data, settings, conditional=True, start=marginal)
    estimate = estimate_log_ratio(
        lambda x, y: conditional(y, x), marginal, *data.test, rows=data.test_rows, seed=settings.seed
    )
    warnings = [*fit.warnings, *of_marginal.warnings]
    if fit.best_step == 0:
        said = "on the validation rows no step of the fit beat q(y) itself: 0 by choice, its error unknown"
        warnings.append(Caution("zero-by-choice", said))
    return _Result(fit, distinct(warnings), estimate, "point estimate")


def _fit_density(
    data: SplitData, settings: _Settings, conditional: bool, start: AutoregressiveMixture | None = None
) -> tuple[AutoregressiveMixture, Fit]:
    """q(y|x), or q(y), at its largest likelihood on the validation rows."""
    dim_x, dim_y = data.dims
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        density = settings.size.density(dim_y, dim_x if conditional else 0)
    if start is not None:
        density.load_state_dict(density.state_dict() | start.state_dict())
    density.to(settings.training.device)

    def log_likelihood(x: Tensor, y: Tensor) -> Tensor:
        return density(y, x if conditional else None).mean()

    batches = minibatches(*data.fit, settings.training.batch_size or BATCH_SIZE, settings.seed)
    keeper = BestWeights([density], lambda: value_without_gradient(log_likelihood, *data.validation))
    fit = maximise(keeper, log_likelihood, batches, settings.training)
    return density.eval(), fit


def check_continuous(y: ArrayLike, name: str = "y") -> None:
    """ValueError where half of a column's values are repeats: a discrete variable has no density."""
    side = read(y, name)
    fewest = min(len(np.unique(column)) for column in side.values.T)
    if fewest < 0.5 * side.n:
        raise ValueError(
            f"a column of {name} has {fewest} distinct values in {side.n} rows: a discrete variable has no density; "
            "swap x and y if the other is continuous, or use neural_mi()"
        )


class LogDensity(Critic):
    """The log density as a critic, nats: (x [n, dx], y [m, dy]) -> [n, m], log q(y_j | x_i).

    Args:
        density: (y, x) -> log q(y|x), row by row.
        by_y: take (y [n, dy], x [m, dx]) -> [n, m], log q(y_i | x_j), instead: a row of scores for each y.
    """

    eval_batch_size = 256

    def __init__(self, density: AutoregressiveMixture, by_y: bool = False) -> None:
        super().__init__()
        self.density, self.by_y = density, by_y

    def forward(self, rows: Tensor, columns: Tensor) -> Tensor:
        row, column = rows[:, None].expand(-1, len(columns), -1), columns[None].expand(len(rows), -1, -1)
        return self.density(row, column) if self.by_y else self.density(column, row)
