"""Estimators that learn a density q(y|x): upper bounds, and a difference of entropies.

    CLUB        E[log q(y|x)] - E[log q(y|x')]                        x' of another row
    L1Out       E[log q(y|x) - log mean over the other rows q(y|x')]
    DoE         E[log q(y|x)] - E[log q(y)]                           = (H(Y) - H(Y|X)) as q sees them

With q(y|x) = p(y|x) exactly, CLUB (Cheng et al. 2020, arXiv 2006.12013, theorem 3.1) and L1Out (Poole et al.
2019, arXiv 1905.06922, section 2.5) lie above I(X; Y) in expectation. With a q that was learned they need not: a
bad q(y|x) pulls them down, and neither certifies anything. CLUB is loose: for Gaussian pairs with correlation
rho it is rho^2 / (1 - rho^2) where I = -log(1 - rho^2) / 2.

DoE (McAllester & Stratos 2020, arXiv 1811.04251, section 4) subtracts two cross-entropies, each above its
entropy. It bounds nothing, but has no ceiling and little variance: it goes on where the bounds of bounds.py end,
at the price of trusting the family of q. To cancel part of the error, q(y) and q(y|x) are of one family.

The family is that of densities.py: y's coordinates one after another, each a mixture of Gaussians whose parameters a
masked network reads from x and from the coordinates before it.
"""

from __future__ import annotations

import math
import time
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ssl_mi.information.core.estimate import Estimate, Kind
from ssl_mi.information.core.inputs import read
from ssl_mi.information.variational.bounds import Bound
from ssl_mi.information.variational.densities import AutoregressiveMixture
from ssl_mi.information.variational.held_out import Reading, check_level, read_bound, read_log_ratio
from ssl_mi.information.variational.splits import SPLIT, Prepared, prepare
from ssl_mi.information.variational.training import climb, minibatches


class CLUB(Bound):
    """E[log q(y|x)] - E[log q(y|x')]: scores are log q, in nats."""

    kind = "upper bound"

    def forward(self, joint: Tensor, marginal: Tensor) -> Tensor:
        self._check(joint, marginal)
        return joint.mean() - marginal.mean()


class LeaveOneOut(Bound):
    """E[log q(y|x) - log mean_k q(y|x_k)], x_k the other rows: here a row of scores belongs to one y."""

    kind = "upper bound"

    def forward(self, joint: Tensor, marginal: Tensor) -> Tensor:
        self._check(joint, marginal)
        return (joint - marginal.logsumexp(1)).mean() + math.log(marginal.shape[1])


def club(x, y, **settings) -> Estimate:
    """CLUB of paired rows with a learned q(y|x). Settings: see `difference_of_entropies`."""
    return _read_pairs("club", CLUB(), x, y, **settings)


def leave_one_out(x, y, **settings) -> Estimate:
    """L1Out of paired rows with a learned q(y|x). Settings: see `difference_of_entropies`."""
    return _read_pairs("leave_one_out", LeaveOneOut(), x, y, **settings)


def difference_of_entropies(x, y, *, level: float = 0.95, groups=None, seed: int = 0, **settings) -> Estimate:
    """H(Y) - H(Y|X) of paired rows by two learned densities, in nats: a point estimate.

    x: [n] or [n, dx], of any kind; y: [n] or [n, dy], continuous. ValueError where y repeats values (a density of
    a discrete variable does not exist: swap the sides, or use `neural_mi`).

    margins, split, groups, batch_size, learning_rate, weight_decay, max_steps, check_every, patience, level, seed,
    device, progress: as in `neural_mi`. hidden, components: of the density.

    q(y|x) starts as the q(y) that was fitted, so it departs from it only where the stop rows approve: independent
    pairs read near 0. `se`, `ci` and `p_value` are of the reading, at these densities (reading.py). `flow_mi` is the
    same difference from a start that is right for Gaussians.
    """
    started = time.perf_counter()
    check_level(level)
    settings |= {"groups": groups, "seed": seed}
    entropy = _fit_density(x, y, False, **settings)
    fitted = _fit_density(x, y, True, start=entropy.density, **settings)
    reading = read_log_ratio(
        lambda x, y: fitted.density(y, x), entropy.density, *fitted.data.read, groups=fitted.data.read_groups, seed=seed
    )
    nothing = ()
    if fitted.record["best_step"] == 0:
        nothing = ("on the stop rows no step of the fit beat q(y) itself: 0 by choice, its error unknown",)
    warnings = tuple(dict.fromkeys((*fitted.warnings, *entropy.warnings, *reading.warnings, *nothing)))
    return _estimate("difference_of_entropies", "point estimate", reading, fitted, level, warnings, started)


def _read_pairs(
    name: str, bound: Bound, x, y, *, read_batch: int = 256, level: float = 0.95, seed: int = 0, **settings
) -> Estimate:
    started = time.perf_counter()
    check_level(level)
    fitted = _fit_density(x, y, True, seed=seed, **settings)
    x_read, y_read = fitted.data.read
    sides = (y_read, x_read) if isinstance(bound, LeaveOneOut) else (x_read, y_read)
    critic = (_EveryY if isinstance(bound, LeaveOneOut) else _EveryX)(fitted.density)
    reading = read_bound(critic, bound, *sides, read_batch, groups=fitted.data.read_groups, seed=seed)
    return _estimate(name, bound.kind, reading, fitted, level, (*fitted.warnings, *reading.warnings), started)


def _estimate(name: str, kind: Kind, reading: Reading, fitted: _Fitted, level: float, warnings, started) -> Estimate:
    return Estimate(
        value=reading.value,
        kind=kind,
        se=reading.se,
        ci=reading.interval(level),
        ci_level=level,
        p_value=reading.p_value,
        n=reading.n,
        dims=fitted.data.dims,
        estimator=name,
        settings=fitted.record,
        seconds=time.perf_counter() - started,
        warnings=warnings,
    )


class _Fitted(NamedTuple):
    density: AutoregressiveMixture
    data: Prepared
    record: dict
    warnings: tuple[str, ...]


def _fit_density(
    x,
    y,
    conditional: bool,
    *,
    start: AutoregressiveMixture | None = None,
    margins: str = "gaussian",
    split: tuple[float, float, float] = SPLIT,
    groups=None,
    hidden: int = 128,
    components: int = 4,
    batch_size: int = 256,
    seed: int = 0,
    device="cpu",
    **fit_settings,
) -> _Fitted:
    """q(y|x), or q(y), at its largest likelihood on the stop rows."""
    check_continuous(y)
    data = prepare(x, y, margins, split, groups, seed, device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        density = AutoregressiveMixture(data.dims[1], data.dims[0] if conditional else 0, hidden, components)
    if start is not None:
        density.load_state_dict(density.state_dict() | start.state_dict())
    density.to(device)

    def log_likelihood(x: Tensor, y: Tensor) -> Tensor:
        return density(y, x if conditional else None).mean()

    def judge() -> float:
        with torch.no_grad():
            return float(log_likelihood(*data.stop))

    batches = minibatches(*data.fit, batch_size, seed)
    fit = climb([density], log_likelihood, judge, batches, **fit_settings)
    record = {
        "margins": margins,
        "hidden": hidden,
        "components": components,
        "fit": len(data.fit[0]),
        "stop": len(data.stop[0]),
        "steps": fit.steps,
        "best_step": fit.best_step,
        "seed": seed,
    }
    return _Fitted(density.eval(), data, record, (*data.warnings, *fit.warnings))


def check_continuous(y, name: str = "y") -> None:
    """ValueError where half of a column's values are repeats: a discrete variable has no density."""
    side = read(y, name)
    fewest = min(len(np.unique(column)) for column in side.values.T)
    if fewest < 0.5 * side.n:
        raise ValueError(
            f"a column of {name} has {fewest} distinct values in {side.n} rows: a discrete variable has no density; "
            "swap x and y if the other is continuous, or use neural_mi()"
        )


class _EveryX(nn.Module):
    """x [n, dx], y [m, dy] -> [n, m], log q(y_j | x_i)."""

    def __init__(self, density: nn.Module) -> None:
        super().__init__()
        self.density = density

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.density(y[None].expand(len(x), -1, -1), x[:, None].expand(-1, len(y), -1))


class _EveryY(_EveryX):
    """y [n, dy], x [m, dx] -> [n, m], log q(y_i | x_j): a row of scores for each y, as LeaveOneOut reads them."""

    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        return self.density(y[:, None].expand(-1, len(x), -1), x[None].expand(len(y), -1, -1))
