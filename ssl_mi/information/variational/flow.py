"""Mutual information by a normalising flow: right for Gaussians from the first step, no ceiling, little variance.

    y  ->  w = L^-1 (y - m)                affine: white on the fit rows
       ->  z_i = Phi^-1(F_i(w_i | w_<i))   a masked autoregressive flow (densities.py), fitted to make z ~ N(0, 1)
       ->  e = S^-1/2 (z - B x)            affine: what is left of z after regression on x, kept to the canonical
                                           correlations that hold on the stop rows, S = cov(z - B x)
       ->  q(e | x)                        an autoregressive mixture, fitted; it begins as N(0, 1)

    I(X; Y) = I(X; Z) = E[log q(z|x)] - E[log N(z)],   log q(z|x) = log q(e|x) - log det S^1/2

read on rows that none of this has seen. Maps of y alone leave the information as it is, and their Jacobians cancel.
It is the difference of entropies of McAllester & Stratos 2020 (arXiv 1811.04251, section 4), so no bound: a poor
q(z|x) reads low, a poor flow to z high. But where theirs learns everything from nothing, here jointly Gaussian rows,
and after rank-normal margins all with a Gaussian copula, are read right before any step is taken, at 10 or 20 nats as
well, and the stop rows let the networks change only what they improve. Stopped there it is the Gaussian reading after
normalising flows of Butakov et al. 2024 (arXiv 2403.02187), a lower bound when z is normal.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ssl_mi.information.core.estimate import Estimate
from ssl_mi.information.core.inputs import read_pair
from ssl_mi.information.estimators.gaussian import whiten
from ssl_mi.information.variational.densities import FLOOR, AutoregressiveMixture
from ssl_mi.information.variational.gaussian_critic import correlations_kept
from ssl_mi.information.variational.held_out import Reading, check_level, combine, merged, read_log_ratio
from ssl_mi.information.variational.splits import SPLIT, Prepared, rotations
from ssl_mi.information.variational.training import Fit, climb, minibatches
from ssl_mi.information.variational.upper_bounds import check_continuous

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def flow_mi(
    x,
    y,
    *,
    density_of: str | None = None,
    cross_fit: bool = True,
    margins: str = "gaussian",
    split: tuple[float, float, float] = SPLIT,
    groups=None,
    hidden: int = 64,
    components: int = 4,
    batch_size: int = 256,
    learning_rate: float = 1e-3,
    weight_decay: float = 1e-3,
    max_steps: int = 2000,
    check_every: int = 25,
    patience: int = 12,
    level: float = 0.95,
    seed: int = 0,
    device: str | torch.device = "cpu",
    progress: bool = False,
) -> Estimate:
    """I(X; Y) of paired rows by a conditional normalising flow, in nats: a point estimate without a ceiling.

    x: [n] or [n, dx], y: [n] or [n, dy], n >= 40. One side is given a density and must be continuous and fill its
    dimensions; the other may be of any kind.
    density_of   "x" or "y": the side that is given the density; None: the one with fewer columns (y when equal), unless
                 only the other is continuous.
    cross_fit    fit as often as it takes to read every row once (4 times by default), each time by a flow that did not
                 see it. At 10 nats the mean of log q(z|x) - log N(z) over a quarter of 5,000 rows still spreads by 0.1.
    hidden, components   width of the networks, Gaussians in a mixture.
    margins, split, groups, batch_size, learning_rate, weight_decay, max_steps, check_every, patience, level, seed,
    device, progress     as in `neural_mi`.

    `se`, `ci` and `p_value` are of the reading, at the flows that were fitted (reading.py). ValueError: unpaired,
    empty or non-finite rows, no continuous side, fewer fit rows than columns, and bad settings.
    """
    started = time.perf_counter()
    check_level(level)
    side = _side(x, y, density_of)
    given, modelled = (y, x) if side == "x" else (x, y)
    parts = rotations(given, modelled, margins, split, groups, seed, device, cross_fit)
    climbing = {"learning_rate": learning_rate, "weight_decay": weight_decay, "max_steps": max_steps}
    climbing |= {"check_every": check_every, "patience": patience, "progress": progress}
    fits, readings = [], []
    for data in parts:
        fitted = fit_flow(
            data, hidden=hidden, components=components, batch_size=batch_size, seed=seed, side=side, **climbing
        )
        fits.append(fitted)
        readings.append(_read(fitted, data, seed))
    reading = combine(readings)
    return Estimate(
        value=reading.value,
        se=reading.se,
        ci=reading.interval(level),
        ci_level=level,
        p_value=reading.p_value,
        n=reading.n,
        dims=parts[0].dims[::-1] if side == "x" else parts[0].dims,
        estimator="flow_mi",
        settings={
            "density_of": side,
            "margins": margins,
            "hidden": hidden,
            "components": components,
            "fit": len(parts[0].fit[0]),
            "stop": len(parts[0].stop[0]),
            "fits": len(parts),
            "correlations": [fitted.flow.rank for fitted in fits],
            "best_step": [(fitted.marginal.best_step, fitted.conditional.best_step) for fitted in fits],
            "seed": seed,
        },
        seconds=time.perf_counter() - started,
        warnings=(*merged([data.warnings for data in parts]), *merged([f.warnings for f in fits]), *reading.warnings),
    )


def _side(x, y, density_of: str | None) -> str:
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

    forward(u [n, p], z [n, d]) -> log q(z|u) [n], nats.
    """

    def __init__(self, slope: Tensor, root: Tensor, hidden: int, components: int) -> None:
        super().__init__()
        self.register_buffer("slope", slope)  # B [d, p]
        self.register_buffer("root", root)  # S^1/2 [d, d], lower triangular: coordinate by coordinate, as q reads them
        self.rest = AutoregressiveMixture(slope.shape[0], slope.shape[1], hidden, components)
        self.rank = int(torch.linalg.matrix_rank(slope)) if slope.any() else 0

    def residual(self, u: Tensor, z: Tensor) -> Tensor:
        return torch.linalg.solve_triangular(self.root, (z - u @ self.slope.T).T, upper=False).T

    def forward(self, u: Tensor, z: Tensor) -> Tensor:
        return self.rest(self.residual(u, z), u) - self.root.diagonal().log().sum()


class FittedFlow(NamedTuple):
    """`flow` and the fixed maps in front of it; how the two fits went."""

    to_u: nn.Module
    to_z: nn.Module
    flow: Flow
    marginal: Fit
    conditional: Fit
    warnings: tuple[str, ...]


class _White(nn.Module):
    """Columns to mean 0 and covariance 1 over the rows given: (values - mean) @ weight, float64 within."""

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


def fit_flow(
    data: Prepared, *, hidden: int, components: int, batch_size: int, seed: int, side: str = "y", **climbing
) -> FittedFlow:
    """All that is fitted of a flow, on the fit and stop rows of `data`, whose y is given the density."""
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
        normal, marginal = _fit_marginal(white, data, hidden, components, batch_size, seed, climbing)
        u, z = [to_u(part[0]) for part in (data.fit, data.stop)], [normal(part[1]) for part in (data.fit, data.stop)]
        flow = Flow(*_gaussian_start(u, z), hidden, components).to(fit_x.device)

    def judge() -> float:
        with torch.no_grad():
            return float(flow(u[1], z[1]).mean())

    def objective(u: Tensor, z: Tensor) -> Tensor:
        return flow(u, z).mean()

    conditional = climb([flow], objective, judge, minibatches(u[0], z[0], batch_size, seed), **climbing)
    flow.eval()
    warnings = [*marginal.warnings, *conditional.warnings]
    if not flow.rank and conditional.best_step == 0:
        warnings.append("on the stop rows neither correlation nor any step of the fit beat independence: 0 by choice")
    return FittedFlow(to_u, normal, flow, marginal, conditional, tuple(dict.fromkeys(warnings)))


def _fit_marginal(white: _White, data: Prepared, hidden: int, components: int, batch_size: int, seed: int, climbing):
    """The flow of y alone, where the stop rows prefer it to a Gaussian; and how its fit went."""
    w_fit, w_stop = white(data.fit[1]), white(data.stop[1])
    density = AutoregressiveMixture(w_fit.shape[1], 0, hidden, components).to(w_fit.device)

    def judge() -> float:
        with torch.no_grad():
            return float(density(w_stop).mean())

    def objective(_, w: Tensor) -> Tensor:
        return density(w).mean()

    fit = climb([density], objective, judge, minibatches(data.fit[0], w_fit, batch_size, seed), **climbing)
    if fit.best_value <= float(log_normal(w_stop).mean()):
        return _Normal(white, None), Fit(steps=fit.steps)
    return _Normal(white, density.eval()), fit


def _gaussian_start(u: list[Tensor], z: list[Tensor]) -> tuple[Tensor, Tensor]:
    """B [d, p] and S^1/2 [d, d] of z = B u + noise: the canonical correlations of the fit rows that the stop rows keep.

    u is white and z nearly: the singular values of their cross-covariance are the correlations, strongest first.
    """
    (u_fit, u_stop), (z_fit, z_stop) = ([part.double() for part in side] for side in (u, z))
    left, rho, right = torch.linalg.svd(z_fit.T @ u_fit / len(u_fit), full_matrices=False)
    rho = rho.clamp(max=1 - 1e-9)
    rank = correlations_kept(u_stop @ right.T, z_stop @ left, rho)
    left, rho, right = left[:, :rank], rho[:rank], right[:rank]
    covariance = torch.eye(len(left), dtype=left.dtype, device=left.device) - (left * rho**2) @ left.T
    return ((left * rho) @ right).float(), torch.linalg.cholesky(covariance).float()


def _read(fitted: FittedFlow, data: Prepared, seed: int) -> Reading:
    u, z = fitted.to_u(data.read[0]), fitted.to_z(data.read[1])
    reading = read_log_ratio(fitted.flow, log_normal, u, z, groups=data.read_groups, seed=seed)
    with torch.no_grad():
        log_weights, _, log_scales = fitted.flow.rest.factors(fitted.flow.residual(u, z), u)
    of_heaviest = log_scales.gather(-1, log_weights.argmax(-1, keepdim=True))[..., 0]
    narrow = float(((of_heaviest + fitted.flow.root.diagonal().log()).amin(1) <= FLOOR).float().mean())
    if narrow < 0.01:
        return reading
    said = (
        f"{narrow:.0%} of the rows read have a coordinate narrower than e^{FLOOR:.0f} given the others: the "
        "information may be infinite, or the side without a density (try the other: density_of)"
    )
    return replace(reading, warnings=(*reading.warnings, said))
