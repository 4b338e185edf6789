"""How much each pair contributes, by a critic that never saw it."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import nn

from ssl_mi.information.core.inputs import read
from ssl_mi.information.variational.bounds import Bound
from ssl_mi.information.variational.critics import Critic
from ssl_mi.information.variational.held_out import score_blocks
from ssl_mi.information.variational.lookup import find_bound, find_critic
from ssl_mi.information.variational.neural import TRAINING, fitted_critic
from ssl_mi.information.variational.splits import Split, split_each
from ssl_mi.information.variational.training import Training

SPLIT = Split(cross_fit=True)  # every row is scored by a critic that was fitted on others


def pointwise_neural_mi(
    x: ArrayLike,
    y: ArrayLike,
    bound: str | Bound | type[Bound] = "infonce",
    critic: str | type[Critic] | Callable[[int, int], nn.Module] = "gaussian_start",
    *,
    split: Split = SPLIT,
    training: Training = TRAINING,
    seed: int = 0,
) -> np.ndarray:
    """i(x_i; y_i) of each pair in nats, by learned critics: for many dimensions, where `pointwise_mi` fails.

        i = T(x_i, y_i) - log < exp T(x_i, y_j) >,   j over the other rows that are scored with row i

    The critics are those of `neural_mi`, one a fold; each row is scored by the one that did not see it. At the best
    critic i is log p(x_i, y_i) / (p(x_i) p(y_i)), whatever function of x the critic adds; the mean is an InfoNCE bound,
    below I(X; Y).

    Args:
        x: [n] or [n, dx], n >= 40.
        y: [n] or [n, dy], row i paired with row i of x.
        bound: that the critics are fitted with; see `neural_mi`.
        critic: see `neural_mi`.
        split: how rows are divided, grouped and transformed; with `cross_fit`, so that every row is scored.
        training: steps, batches, rates, patience and device.
        seed: of the split, the weights and the batches.

    Returns:
        float64 [n]: entry i belongs to row i.

    Raises:
        ValueError: as `neural_mi` does, and a split without `cross_fit`.
    """
    if not split.cross_fit:
        raise ValueError("pointwise values need a split that tests every row once: pass Split(cross_fit=True)")
    own, _ = find_bound(bound)
    make = find_critic(critic)
    folds = split.apply(x, y, seed, training.device)
    found = np.full(read(x, "x").n, math.nan)
    for data, rows in zip(folds, split_each(len(found), split, seed), strict=True):
        fitted = fitted_critic(data, own, make, training, seed)
        size = training.eval_batch_size or fitted.critic.eval_batch_size
        scores = score_blocks(fitted.critic, *data.test, size)
        found[rows["test"]] = np.concatenate([_above_others(block) for block in scores])
    return found


def _above_others(scores: torch.Tensor) -> np.ndarray:
    """scores [m, m] of all pairs -> those of the true pairs less the log mean exp of the others in their row [m]."""
    own = scores.diagonal()
    others = scores.masked_fill(torch.eye(len(scores), dtype=torch.bool, device=scores.device), -math.inf)
    return (own - others.logsumexp(1) + math.log(len(scores) - 1)).cpu().numpy()
