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

The family: y's coordinates one after another, each a mixture of Gaussians whose parameters a masked network
reads from x and from the coordinates before it (Uria et al. 2016, arXiv 1605.02226; masks as in Germain et
al. 2015, arXiv 1502.03509).
"""

from __future__ import annotations

import math
import time
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from ssl_mi.information import neural
from ssl_mi.information.bounds import Bound
from ssl_mi.information.critics import mlp
from ssl_mi.information.estimate import Estimate
from ssl_mi.information.samples import read


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


def difference_of_entropies(x, y, **settings) -> Estimate:
    """H(Y) - H(Y|X) of paired rows by two learned densities, in nats: a point estimate.

    x: [n] or [n, dx], of any kind; y: [n] or [n, dy], continuous. ValueError where y repeats values (a density of
    a discrete variable does not exist: swap the sides, or use `neural`).

    margins, split, groups, batch_size, learning_rate, weight_decay, max_steps, check_every, patience, seed,
    device, progress: as in `neural.neural`. hidden, components: of the density.

    q(y|x) starts as the q(y) that was fitted, so it departs from it only where the stop rows approve: independent
    pairs read near 0. `se` is the standard deviation of log q(y|x) - log q(y) over the rows read, over sqrt(n).
    """
    started = time.perf_counter()
    entropy = _fit_density(x, y, False, **settings)
    conditional = _fit_density(x, y, True, start=entropy.density, **settings)
    x_read, y_read = conditional.data.read
    nothing = ()
    if conditional.record["best_step"] == 0:
        nothing = ("on the stop rows no step of the fit beat q(y) itself: 0 by choice, its error unknown",)
    with torch.no_grad():
        log_ratio = (conditional.density(y_read, x_read) - entropy.density(y_read)).double().cpu()
    return Estimate(
        value=float(log_ratio.mean()),
        se=float(log_ratio.std() / math.sqrt(len(log_ratio))),
        n=len(log_ratio),
        dims=conditional.data.dims,
        estimator="difference_of_entropies",
        settings=conditional.record,
        seconds=time.perf_counter() - started,
        warnings=tuple(dict.fromkeys((*conditional.warnings, *entropy.warnings, *nothing))),
    )


def _read_pairs(name: str, bound: Bound, x, y, read_batch: int = 256, **settings) -> Estimate:
    started = time.perf_counter()
    fitted = _fit_density(x, y, True, **settings)
    x_read, y_read = fitted.data.read
    if isinstance(bound, LeaveOneOut):
        reading = neural.read_bound(_EveryY(fitted.density), bound, y_read, x_read, read_batch)
    else:
        reading = neural.read_bound(_EveryX(fitted.density), bound, x_read, y_read, read_batch)
    return Estimate(
        value=reading.value,
        kind=bound.kind,
        se=reading.se,
        n=len(x_read),
        dims=fitted.data.dims,
        estimator=name,
        settings=fitted.record,
        seconds=time.perf_counter() - started,
        warnings=(*fitted.warnings, *reading.warnings),
    )


class _Fitted(NamedTuple):
    density: AutoregressiveMixture
    data: neural.Prepared
    record: dict
    warnings: tuple[str, ...]


def _fit_density(
    x,
    y,
    conditional: bool,
    *,
    start: AutoregressiveMixture | None = None,
    margins: str = "gaussian",
    split: tuple[float, float, float] = (0.6, 0.15, 0.25),
    groups=None,
    hidden: int = 128,
    components: int = 4,
    batch_size: int = 256,
    seed: int = 0,
    device="cpu",
    **fit_settings,
) -> _Fitted:
    """q(y|x), or q(y), at its largest likelihood on the stop rows."""
    side = read(y, "y")
    fewest = min(len(np.unique(column)) for column in side.values.T)
    if fewest < 0.5 * side.n:
        raise ValueError(
            f"a column of y has {fewest} distinct values in {side.n} rows: a discrete variable has no density; "
            "swap x and y if x is continuous, or use neural()"
        )
    data = neural.prepare(x, y, margins, split, groups, seed, device)
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

    batches = neural.minibatches(*data.fit, batch_size, seed)
    fit = neural.climb([density], log_likelihood, judge, batches, **fit_settings)
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


# ----------------------------------------------------------------------------------------------- the density


class AutoregressiveMixture(nn.Module):
    """log q(y | context) = sum_i log sum_k w_ik N(y_i; mu_ik, sigma_ik), all functions of (context, y_<i).

    forward(y: [..., dim], context: [..., context_dim] or None) -> [...], nats.
    """

    def __init__(self, dim: int, context_dim: int = 0, hidden: int = 128, components: int = 4) -> None:
        super().__init__()
        self.dim, self.components = dim, components
        # The order of a unit is how many coordinates of y it may see; y_i itself, counted from 1, has order i.
        of_input = torch.arange(1, dim + 1)
        of_hidden = torch.arange(hidden) % dim
        of_output = torch.arange(dim).repeat_interleave(3 * components)
        self.first = _Masked(dim, hidden, of_hidden[:, None] >= of_input)
        self.second = _Masked(hidden, hidden, of_hidden[:, None] >= of_hidden)
        self.last = _Masked(hidden, 3 * dim * components, of_output[:, None] >= of_hidden)
        # A straight path for the linear part of the conditional means, which Gaussian data are all about.
        self.straight = _Masked(dim, dim, torch.arange(dim)[:, None] >= of_input)
        # The context enters through weights that begin at zero: a conditional density begins as a marginal one.
        self.context = None
        zeros = [self.straight]
        if context_dim:
            self.context = mlp([context_dim, hidden, hidden])
            self.to_first = nn.Linear(hidden, hidden, bias=False)
            self.to_last = nn.Linear(hidden, 3 * dim * components, bias=False)
            self.to_straight = nn.Linear(context_dim, dim, bias=False)
            zeros += [self.to_first, self.to_last, self.to_straight]
        with torch.no_grad():
            for layer in zeros:
                layer.weight.zero_()
            self.last.weight.mul_(0.1)
            self.last.bias.zero_()
            # Components start spread out, for equal ones would stay equal.
            if components > 1:
                self.last.bias.view(dim, components, 3)[..., 1] = torch.linspace(-1, 1, components)

    def forward(self, y: Tensor, context: Tensor | None = None) -> Tensor:
        h, straight, from_context = self.first(y), self.straight(y), 0.0
        if context is not None:
            c = torch.relu(self.context(context))
            h, straight, from_context = h + self.to_first(c), straight + self.to_straight(context), self.to_last(c)
        h = torch.relu(h)
        h = h + torch.relu(self.second(h))
        parameters = (self.last(h) + from_context).unflatten(-1, (self.dim, self.components, 3))
        logits, means, log_scales = parameters.unbind(-1)
        # A floor on the scale keeps one row from buying an infinite likelihood; e^-7 is far below N(0, 1) margins.
        log_scales = log_scales.clamp(-7, 7)
        z = (y[..., None] - straight[..., None] - means) * torch.exp(-log_scales)
        log_normal = -0.5 * z**2 - log_scales - 0.5 * math.log(2 * math.pi)
        return (logits.log_softmax(-1) + log_normal).logsumexp(-1).sum(-1)


class _Masked(nn.Linear):
    """A linear layer that sees only what its mask [out, in] lets through."""

    def __init__(self, in_features: int, out_features: int, mask: Tensor) -> None:
        super().__init__(in_features, out_features)
        self.register_buffer("mask", mask.float(), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        return linear(inputs, self.weight * self.mask, self.bias)
