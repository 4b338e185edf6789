"""Mutual information by a normalising flow: right for Gaussians from the first step, no ceiling, little variance.

    y  ->  w = L^-1 (y - m)                affine: white on the fit rows
       ->  z_i = Phi^-1(F_i(w_i | w_<i))   a masked autoregressive flow (densities.py), fitted to make z ~ N(0, 1)
       ->  e = S^-1/2 (z - B x)            affine: what is left of z after regression on x, kept to the canonical
                                           correlations that hold on the validation rows, S = cov(z - B x)
       ->  q(e | x)                        an autoregressive mixture, fitted; it begins as N(0, 1)

    I(X; Y) = I(X; Z) = E[log q(z|x)] - E[log N(z)],   log q(z|x) = log q(e|x) - log det S^1/2

evaluated on rows that were not used for any of this. Maps of y alone leave the information as it is, and their
Jacobians cancel. It is the difference of entropies of McAllester & Stratos 2020 (arXiv 1811.04251, section 4), so no
bound: a poor q(z|x) makes the estimate low, a poor flow to z high. But where theirs learns everything from nothing,
here the estimate for jointly Gaussian rows, and after rank-normal margins for all with a Gaussian copula, is right
before any step is taken, at 10 or 20 nats as well, and the validation rows let the networks change only what they
improve. Stopped there it is the Gaussian estimate after normalising flows of Butakov et al. 2024 (arXiv 2403.02187), a
lower bound when z is normal.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from ssl_mi.information.core.caution import Caution, distinct
from ssl_mi.information.core.estimate import Estimate
from ssl_mi.information.core.inputs import read_pair
from ssl_mi.information.estimators.gaussian import whiten
from ssl_mi.information.variational.densities import FLOOR, AutoregressiveMixture, Mixture
from ssl_mi.information.variational.gaussian_critic import correlations_kept
from ssl_mi.information.variational.held_out import (
    BoundEstimate,
    check_level,
    combine,
    estimate_log_ratio,
    merged,
)
from ssl_mi.information.variational.splits import Pair, Split, SplitData
from ssl_mi.information.variational.training import (
    BestWeights,
    Fit,
    Training,
    maximise,
    minibatches,
    value_without_gradient,
)
from ssl_mi.information.variational.upper_bounds import BATCH_SIZE, check_continuous

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
NARROW = 0.01  # share of the rows with a coordinate at the floor, from which the information may be infinite
# Of `flow_mi` by default. At 10 nats the mean of log q(z|x) - log N(z) over a quarter of 5,000 rows still spreads by
# 0.1, so every row is tested.
SPLIT, TRAINING, MIXTURE = Split(cross_fit=True), Training(max_steps=2000, check_every=25), Mixture(hidden=64)


def flow_mi(
    x: ArrayLike,
    y: ArrayLike,
    *,
    density_of: Literal["x", "y"] | None = None,
    density: Mixture = MIXTURE,
    split: Split = SPLIT,
    training: Training = TRAINING,
    level: float = 0.95,
    seed: int = 0,
    groups: ArrayLike | None = None,
    blocks: int | None = None,
) -> Estimate:
    """I(X; Y) of paired rows by a conditional normalising flow, in nats: a point estimate without a ceiling.

    One side is given a density and must be continuous and fill its dimensions; the other may be of any kind.
    `se`, `ci` and `p_value` are of the evaluation, at the flows that were fitted (held_out.py).

    Args:
        x: [n] or [n, dx], n >= 40.
        y: [n] or [n, dy], row i paired with row i of x.
        density_of: the side that is given the density; None: the one with fewer columns (y when equal), unless only
            the other is continuous.
        density: size of the networks and mixtures.
        split: how rows are divided, grouped and transformed; all rows are tested by default (`cross_fit`).
        training: steps, batches, rates, patience and device.
        level: of the confidence interval.
        seed: of the split, the weights and the batches.
        groups: [n], the source of each row, where rows share sources; as in `neural_mi`.
        blocks: rows are in the order of time, and independent when that many places apart; as in `neural_mi`.

    Raises:
        ValueError: for unpaired, empty or non-finite rows, no continuous side, fewer fit rows than columns, and
            settings that cannot be met.

    References:
        McAllester & Stratos 2020 (arXiv 1811.04251), section 4; Butakov et al. 2024 (arXiv 2403.02187).

    Example:
        >>> import numpy as np
        >>> from ssl_mi.information import Training
        >>> rng = np.random.default_rng(0)
        >>> x = rng.standard_normal(400)
        >>> y = x + rng.standard_normal(400)  # I = log(2) / 2 = 0.347 nats
        >>> estimate = flow_mi(x, y, training=Training(max_steps=50))  # 2,000 and more by default
        >>> bool(abs(estimate.value - np.log(2) / 2) < 0.3)
        True
    """
    started = time.perf_counter()
    check_level(level)
    side = _side(x, y, density_of)
    given, modelled = (y, x) if side == "x" else (x, y)
    split = split.of_rows(groups, blocks)
    folds = split.apply(given, modelled, seed, training.device)
    fits = [fit_flow(data, density, training, seed, side) for data in folds]
    found = combine([_evaluate(fitted, data, seed) for fitted, data in zip(fits, folds, strict=True)])
    first, second = folds[0].dims
    return found.as_estimate(
        "flow_mi",
        "point estimate",
        (second, first) if side == "x" else (first, second),
        {
            "density_of": side,
            "margins": split.margins,
            "hidden": density.hidden,
            "components": density.components,
            **folds[0].sizes,
            "fits": len(folds),
            "correlations": [fitted.flow.rank for fitted in fits],
            "best_step": [(fitted.marginal.best_step, fitted.conditional.best_step) for fitted in fits],
            "seed": seed,
            **folds[0].dependence,
        },
        (*split.cautions(x, y), *_merged_warnings(folds, fits)),
        level=level,
        started=started,
    )


def _merged_warnings(folds: Sequence[SplitData], fits: Sequence[FittedFlow]) -> tuple[Caution, ...]:
    return (*merged([data.warnings for data in folds]), *merged([fitted.warnings for fitted in fits]))


def _side(x: ArrayLike, y: ArrayLike, density_of: str | None) -> str:
    """The side to be given a density; ValueError if it can have none."""
    a, b = read_pair(x, y)
    if density_of is not None:
        if density_of not in ("x", "y"):
            raise ValueError(f"density_of must be 'x', 'y' or None, got {density_of!r}")
        check_continuous(a.values if density_of == "x" else b.values, density_of)
        return density_of
    first, second = ("x", "y") if a.d < b.d else ("y", "x")
    sides = {"x": a.values, "y": b.values}
    try:
        check_continuous(sides[first], first)
        return first
    except ValueError:
        check_continuous(sides[second], second)
        return second


# --------------------------------------------------------------------------------------------------- the flow


class Flow(nn.Module):
    """x -> u and y -> z, both fixed after fitting, and log q(z|u). See the top of this file.

    Args:
        slope: B [d, p].
        root: S^1/2 [d, d], lower triangular: coordinate by coordinate, as q takes them.
        size: of the mixture for what is left over.
    """

    slope: Tensor
    root: Tensor

    def __init__(self, slope: Tensor, root: Tensor, size: Mixture) -> None:
        super().__init__()
        self.register_buffer("slope", slope)
        self.register_buffer("root", root)
        self.rest = size.density(slope.shape[0], slope.shape[1])
        self.rank = int(torch.linalg.matrix_rank(slope)) if slope.any() else 0

    def residual(self, u: Tensor, z: Tensor) -> Tensor:
        return torch.linalg.solve_triangular(self.root, (z - u @ self.slope.T).T, upper=False).T

    def forward(self, u: Tensor, z: Tensor) -> Tensor:
        """u [n, p], z [n, d] -> log q(z|u) [n], nats."""
        return self.rest(self.residual(u, z), u) - self.root.diagonal().log().sum()


class FittedFlow(NamedTuple):
    """`flow` and the fixed maps in front of it; how the two fits went."""

    to_u: nn.Module
    to_z: nn.Module
    flow: Flow
    marginal: Fit
    conditional: Fit
    warnings: tuple[Caution, ...]


class _White(nn.Module):
    """Columns to mean 0 and covariance 1 over the rows given: (values - mean) @ weight, float64 within."""

    mean: Tensor
    weight: Tensor

    def __init__(self, fitted: Tensor, triangular: bool) -> None:
        super().__init__()
        values = fitted.double().cpu().numpy()
        if triangular:
            mean = values.mean(0)
            centred = values - mean
            root = np.linalg.cholesky(centred.T @ centred / len(values))
            # What is left of a column after the columns before it; rounding leaves a copy a little above 0.
            if (root.diagonal() ** 2 < 1e-10 * (centred**2).mean(0)).any():
                raise np.linalg.LinAlgError("linearly dependent columns")
            weight = np.linalg.inv(root).T
        else:  # directions without variance left out
            white = whiten(values)
            mean, weight = white.mean, white.axes.T / white.scale * math.sqrt(len(values))
        self.register_buffer("mean", torch.as_tensor(mean, device=fitted.device))
        self.register_buffer("weight", torch.as_tensor(weight, device=fitted.device))

    def forward(self, values: Tensor) -> Tensor:
        return ((values.double() - self.mean) @ self.weight).float()


class _Normal(nn.Module):
    """y -> w -> z; without a `density` w is taken as it is."""

    def __init__(self, white: _White, density: AutoregressiveMixture | None) -> None:
        super().__init__()
        self.white, self.density = white, density

    def forward(self, y: Tensor) -> Tensor:
        w = self.white(y)
        return w if self.density is None else self.density.to_normal(w).float()


def log_normal(z: Tensor) -> Tensor:
    """log N(z; 0, 1) of rows [n, d] -> [n]."""
    return (-0.5 * z**2 - HALF_LOG_2PI).sum(1)


def fit_flow(data: SplitData, size: Mixture, training: Training, seed: int, side: str = "y") -> FittedFlow:
    """All that is fitted of a flow, on the fit and validation rows.

    Args:
        data: its y is given the density.
        size: of the networks and mixtures.
        training: steps, batches, rates and patience.
        seed: of the weights and the batches.
        side: what messages call y.

    Raises:
        ValueError: where y is linearly dependent, or the other side constant.
    """
    fit_x, fit_y = data.fit
    to_u = _White(fit_x, triangular=False)
    if not to_u.weight.shape[1]:
        raise ValueError("every column of the other side is constant: there is nothing to condition on")
    try:
        white = _White(fit_y, triangular=True)
    except np.linalg.LinAlgError:
        raise ValueError(
            f"the {fit_y.shape[1]} columns of {side} are linearly dependent on {len(fit_y)} rows: no density fills "
            "them; drop columns, project first, or give more rows"
        ) from None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        normal, marginal = _fit_marginal(white, data, size, training, seed)
        fit, validation = ((to_u(x), normal(y)) for x, y in (data.fit, data.validation))
        flow = Flow(*_gaussian_start(fit, validation), size).to(fit_x.device)

    def objective(u: Tensor, z: Tensor) -> Tensor:
        return flow(u, z).mean()

    conditional = _maximise(flow, objective, fit, validation, training, seed)
    flow.eval()
    warnings = [*marginal.warnings, *conditional.warnings]
    if not flow.rank and conditional.best_step == 0:
        said = "on the validation rows neither correlation nor any step of the fit beat independence: 0 by choice"
        warnings.append(Caution("zero-by-choice", said))
    return FittedFlow(to_u, normal, flow, marginal, conditional, distinct(warnings))


def _maximise(
    module: nn.Module,
    objective: Callable[[Tensor, Tensor], Tensor],
    fit: Pair,
    validation: Pair,
    training: Training,
    seed: int,
) -> Fit:
    keeper = BestWeights([module], lambda: value_without_gradient(objective, *validation))
    return maximise(keeper, objective, minibatches(*fit, training.batch_size or BATCH_SIZE, seed), training)


def _fit_marginal(white: _White, data: SplitData, size: Mixture, training: Training, seed: int) -> tuple[_Normal, Fit]:
    """The flow of y alone, where the validation rows prefer it to a Gaussian; and how its fit went."""
    fit, validation = ((x, white(y)) for x, y in (data.fit, data.validation))
    density = size.density(fit[1].shape[1]).to(fit[1].device)

    def objective(_: Tensor, w: Tensor) -> Tensor:
        return density(w).mean()

    how = _maximise(density, objective, fit, validation, training, seed)
    if how.best_value <= float(log_normal(validation[1]).mean()):
        return _Normal(white, None), Fit(steps=how.steps)
    return _Normal(white, density.eval()), how


def _gaussian_start(fit: Pair, validation: Pair) -> tuple[Tensor, Tensor]:
    """B [d, p] and S^1/2 [d, d] of z = B u + noise: the canonical correlations that hold on the validation rows.

    u is white and z nearly: the singular values of their cross-covariance are the correlations, strongest first.
    """
    (u, z), (u_held, z_held) = ([side.double() for side in part] for part in (fit, validation))
    left, rho, right = torch.linalg.svd(z.T @ u / len(u), full_matrices=False)
    rho = rho.clamp(max=1 - 1e-9)
    rank = correlations_kept(u_held @ right.T, z_held @ left, rho)
    left, rho, right = left[:, :rank], rho[:rank], right[:rank]
    covariance = torch.eye(len(left), dtype=left.dtype, device=left.device) - (left * rho**2) @ left.T
    return ((left * rho) @ right).float(), torch.linalg.cholesky(covariance).float()


def _evaluate(fitted: FittedFlow, data: SplitData, seed: int) -> BoundEstimate:
    u, z = fitted.to_u(data.test[0]), fitted.to_z(data.test[1])
    found = estimate_log_ratio(fitted.flow, log_normal, u, z, rows=data.test_rows, seed=seed)
    with torch.no_grad():
        log_weights, _, log_scales = fitted.flow.rest.factors(fitted.flow.residual(u, z), u)
    of_heaviest = log_scales.gather(-1, log_weights.argmax(-1, keepdim=True))[..., 0]
    narrow = float(((of_heaviest + fitted.flow.root.diagonal().log()).amin(1) <= FLOOR).float().mean())
    if narrow < NARROW:
        return found
    said = (
        f"{narrow:.0%} of the test rows have a coordinate narrower than e^{FLOOR:.0f} given the others: the "
        "information may be infinite, or the side without a density (try the other: density_of)"
    )
    return replace(found, warnings=(*found.warnings, Caution("narrow-density", said, {"share": narrow})))
