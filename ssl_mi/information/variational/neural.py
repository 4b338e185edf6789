"""Variational estimators: any critic with any bound, fitted on some rows, chosen on others, evaluated on the rest.

A bound (bounds.py) holds for every critic that does not know the rows it is evaluated on. So the rows are split in
three (splits.py); the critic is fitted on the first part and chosen on the second (training.py); the third gives the
estimate, once, at that critic (held_out.py). The largest of many evaluations, on whatever rows, lies above their mean
and is never reported.

What the number means: `kind` of the bound, for the test rows, at this critic. A weak critic, too few rows or a
ceiling make a lower bound low; the warnings name the cause. McAllester & Stratos 2020 (arXiv 1811.04251,
theorem 3.1): no distribution-free lower bound from n rows can be confident above O(log n).

Protocol after Poole et al. 2019 (arXiv 1905.06922), Song & Ermon 2020 (arXiv 1910.06222).
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch
from numpy.typing import ArrayLike
from torch import nn

from ssl_mi.information.core.estimate import Estimate
from ssl_mi.information.variational.bounds import Bound
from ssl_mi.information.variational.critics import Critic
from ssl_mi.information.variational.doubts import doubts
from ssl_mi.information.variational.held_out import (
    BoundEstimate,
    check_level,
    combine,
    estimate_bound,
    merged,
    one_or_all,
)
from ssl_mi.information.variational.lookup import find_bound, find_critic
from ssl_mi.information.variational.splits import Split, SplitData
from ssl_mi.information.variational.training import Fit, Training, fit_critic, minibatches

SPLIT, TRAINING = Split(), Training()  # of `neural_mi` by default


def neural_mi(
    x: ArrayLike,
    y: ArrayLike,
    bound: str | Bound | type[Bound] = "infonce",
    critic: str | type[Critic] | Callable[[int, int], nn.Module] = "gaussian_start",
    *,
    split: Split = SPLIT,
    training: Training = TRAINING,
    level: float = 0.95,
    seed: int = 0,
    groups: ArrayLike | None = None,
    blocks: int | None = None,
) -> Estimate:
    """I(X; Y) of paired rows by a variational bound with a learned critic, in nats.

    `se`, `ci` and `p_value` are those of held_out.py: of the evaluation at this critic, not of the fit. A lower
    bound's interval covers what this critic attains, at or below I(X; Y). `null` is not given: at a fixed critic
    re-paired rows score far below 0, and the null of the whole procedure takes a fit for each re-pairing.

    Args:
        x: [n] or [n, dx], n >= 40.
        y: [n] or [n, dy], row i paired with row i of x.
        bound: the name of a built-in bound, package.module:Class, or a `Bound`, as a class or an object (copied:
            a MINE passed in keeps its moving average).
        critic: the name of a built-in critic, package.module:Class, a `Critic` class, or a function
            (dim_x, dim_y) -> module with forward(x, y) -> [n, m] scores. "gaussian_start": the closed-form log ratio of
            a Gaussian plus a separable critic that learns the rest, so that correlation is right before the first step;
            "separable", "concat", "bilinear" and "cosine" learn all. One without parameters is not fitted, only
            evaluated.
        split: how rows are divided, grouped and transformed.
        training: steps, batches, rates, patience and device.
        level: of the confidence interval.
        seed: of the split, the weights and the batches.
        groups: [n], the source of each row, where rows share sources: the parts, the standard error and the
            permutation test keep sources whole. Short for `Split(groups=...)`.
        blocks: rows are in the order of time, and independent when that many places apart. Short for
            `Split(blocks=...)`.

    Returns:
        An estimate of the bound's kind.

    Raises:
        ValueError: for unpaired, empty or non-finite rows, and settings that cannot be met.

    References:
        Belghazi et al. 2018 (arXiv 1801.04062); van den Oord et al. 2018 (arXiv 1807.03748).
    """
    started = time.perf_counter()
    check_level(level)
    own, name = find_bound(bound)
    make = find_critic(critic)
    split = split.of_rows(groups, blocks)
    folds = split.apply(x, y, seed, training.device)
    fitted = [_fit_and_evaluate(data, own, make, training, seed) for data in folds]
    first = fitted[0]
    return combine([f.estimate for f in fitted]).as_estimate(
        "neural_mi",
        own.kind,
        folds[0].dims,
        {
            "bound": name,
            "critic": critic if isinstance(critic, str) else first.critic,
            "margins": split.margins,
            **folds[0].sizes,
            "fits": len(folds),
            "batch_size": first.batch_size,
            "negatives": training.negatives or "batch",
            "learning_rate": training.learning_rate,
            "steps": one_or_all([f.fit.steps for f in fitted]),
            "best_step": one_or_all([f.fit.best_step for f in fitted]),
            "seed": seed,
            **folds[0].dependence,
        },
        (*split.cautions(x, y), *merged([data.warnings for data in folds]), *merged([f.fit.warnings for f in fitted])),
        level=level,
        started=started,
    )


class _Fitted(NamedTuple):
    """One fit and its estimate on the rows that it did not see."""

    critic: str
    batch_size: int
    fit: Fit
    estimate: BoundEstimate


class FittedCritic(NamedTuple):
    """A critic and a bound after fitting, in batches of `batch_size` rows."""

    critic: Critic
    bound: Bound
    batch_size: int
    fit: Fit


def fitted_critic(
    data: SplitData, bound: Bound, make: Callable[[int, int], Critic], training: Training, seed: int
) -> FittedCritic:
    """A new critic, fitted on the fit rows and chosen on the validation rows.

    Args:
        data: the rows.
        bound: copied, so that its state stays.
        make: (dim_x, dim_y) -> critic.
        training: steps, batches, rates and patience.
        seed: of the weights and the batches.
    """
    with torch.random.fork_rng(devices=[]):  # weights from `seed`; the caller's random state stays
        torch.manual_seed(seed)
        critic = make(*data.dims)
    critic, bound = critic.to(training.device), copy.deepcopy(bound).to(training.device)
    critic.begin(data.fit, data.validation, bound.offset)
    batch_size = training.batch_size or critic.batch_size
    batches = minibatches(*data.fit, batch_size, seed)
    return FittedCritic(critic, bound, batch_size, fit_critic(critic, bound, batches, data.validation, training, seed))


def _fit_and_evaluate(
    data: SplitData, bound: Bound, make: Callable[[int, int], Critic], training: Training, seed: int
) -> _Fitted:
    critic, bound, batch_size, fit = fitted_critic(data, bound, make, training, seed)
    eval_batch_size = training.eval_batch_size or critic.eval_batch_size
    estimate = estimate_bound(critic, bound, *data.test, eval_batch_size, rows=data.test_rows, seed=seed)
    low = doubts(estimate, critic, bound, data, eval_batch_size)
    estimate = replace(estimate, warnings=(*estimate.warnings, *low))
    return _Fitted(critic.title, min(batch_size, len(data.fit[0])), fit, estimate)
