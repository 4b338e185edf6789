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

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from ssl_mi.information import neural
from ssl_mi.information.bounds import Bound
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
    return _by_pairs("club", CLUB(), False, x, y, **settings)


def leave_one_out(x, y, **settings) -> Estimate:
    """L1Out of paired rows with a learned q(y|x). Settings: see `difference_of_entropies`."""
    return _by_pairs("leave_one_out", LeaveOneOut(), True, x, y, **settings)


def difference_of_entropies(x, y, **settings) -> Estimate:
    """H(Y) - H(Y|X) of paired rows by two learned densities, in nats: a point estimate.

    x: [n] or [n, dx], of any kind; y: [n] or [n, dy], continuous. ValueError where y repeats values (a density of
    a discrete variable does not exist: swap the sides, or use `neural`).

    margins, split, groups, batch_size, learning_rate, weight_decay, max_steps, check_every, patience, seed,
    device, progress: as in `neural.neural`. hidden, components: of the density. `se` is the standard deviation
    of log q(y|x) - log q(y) over the rows read, over sqrt(n).
    """
    started = time.perf_counter()
    data, conditional, record, warnings = _fit_density(x, y, True, **settings)
    _, marginal, _, also = _fit_density(x, y, False, **settings)
    with torch.no_grad():
        log_ratio = (conditional(data.read[1], data.read[0]) - marginal(data.read[1], None)).double().cpu()
    return Estimate(
        value=float(log_ratio.mean()),
        se=float(log_ratio.std() / math.sqrt(len(log_ratio))),
        n=len(log_ratio),
        dims=data.dims,
        estimator="difference_of_entropies",
        settings=record,
        seconds=time.perf_counter() - started,
        warnings=tuple(dict.fromkeys((*warnings, *also))),
    )


def _by_pairs(name: str, bound: Bound, rows_of_y: bool, x, y, read_batch: int = 256, **settings) -> Estimate:
    started = time.perf_counter()
    data, density, record, warnings = _fit_density(x, y, True, **settings)
    reading = neural.read_bound(_EveryPair(density, rows_of_y), bound, *data.read, read_batch)
    return Estimate(
        value=reading.value,
        kind=bound.kind,
        se=reading.se,
        n=len(data.read[0]),
        dims=data.dims,
        estimator=name,
        settings=record,
        seconds=time.perf_counter() - started,
        warnings=(*warnings, *reading.warnings),
    )


def _fit_density(
    x,
    y,
    conditional: bool,
    *,
    margins: str = "gaussian",
    split: tuple[float, float, float] = (0.6, 0.15, 0.25),
    groups=None,
    hidden: int = 128,
    components: int = 4,
    batch_size: int = 256,
    seed: int = 0,
    device="cpu",
    **fit_settings,
) -> tuple[neural.Prepared, AutoregressiveMixture, dict, tuple[str, ...]]:
    """q(y|x), or q(y), at its largest likelihood on the stop rows; margins as in `neural`."""
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
    density.to(device)

    def log_likelihood(x: Tensor, y: Tensor) -> Tensor:
        return density(y, x if conditional else None).mean()

    def judge() -> float:
        density.eval()
        with torch.no_grad():
            return float(log_likelihood(*data.stop))

    batches = neural.minibatches(*data.fit, batch_size, seed)
    fit = neural.climb([density], log_likelihood, judge, batches, **fit_settings)
    density.eval()
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
    return data, density, record, (*data.warnings, *fit.warnings)


class _EveryPair(nn.Module):
    """scores[i, j] = log q(y_j | x_i), or with `rows_of_y` log q(y_i | x_j)."""

    def __init__(self, density: nn.Module, rows_of_y: bool) -> None:
        super().__init__()
        self.density, self.rows_of_y = density, rows_of_y

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        # The caller passes a part of the rows of x against all of y, so transposing the answer would give
        # columns, not rows. With rows_of_y the caller therefore hands the sides over swapped (see below).
        if self.rows_of_y:
            x, y = y, x
            scores = self.density(y[:, None].expand(-1, len(x), -1), x[None].expand(len(y), -1, -1))
            return scores
        return self.density(y[None].expand(len(x), -1, -1), x[:, None].expand(-1, len(y), -1))


# ----------------------------------------------------------------------------------------------- the density


class AutoregressiveMixture(nn.Module):
    """log q(y | context) = sum_i log sum_k w_ik N(y_i; mu_ik, sigma_ik), all functions of (context, y_<i).

    forward(y: [..., dim], context: [..., context_dim] or None) -> [...], nats.
    """

    def __init__(self, dim: int, context_dim: int = 0, hidden: int = 128, components: int = 4) -> None:
        super().__init__()
        self.dim, self.context_dim, self.components = dim, context_dim, components
        width = dim + context_dim
        # The order of a unit is how many coordinates of y it may see; context has order 0, y_i order i + 1.
        of_input = torch.cat([torch.arange(1, dim + 1), torch.zeros(context_dim, dtype=torch.long)])
        of_hidden = torch.arange(hidden) % dim
        of_output = torch.arange(dim).repeat_interleave(3 * components)
        self.first = _Masked(width, hidden, of_hidden[:, None] >= of_input)
        self.second = _Masked(hidden, hidden, of_hidden[:, None] >= of_hidden)
        self.last = _Masked(hidden, 3 * dim * components, of_output[:, None] >= of_hidden)
        # A straight path for the linear part of the conditional means, which Gaussian data are all about.
        self.straight = _Masked(width, dim, torch.arange(dim)[:, None] >= of_input)
        nn.init.zeros_(self.straight.weight)
        with torch.no_grad():
            self.last.weight.mul_(0.1)
            # Components start spread out: equal ones would stay equal.
            self.last.bias.copy_(torch.tensor([0.0, 0.0, 0.0]).repeat(dim * components))
            self.last.bias.view(dim, components, 3)[..., 1] = torch.linspace(-1, 1, components) if components > 1 else 0

    def forward(self, y: Tensor, context: Tensor | None) -> Tensor:
        inputs = y if context is None else torch.cat([y, context], dim=-1)
        h = torch.relu(self.first(inputs))
        h = h + torch.relu(self.second(h))
        logits, means, log_scales = self.last(h).unflatten(-1, (self.dim, self.components, 3)).unbind(-1)
        means = means + self.straight(inputs)[..., None]
        # A floor on the scale keeps one row from buying an infinite likelihood; e^-7 is far below N(0, 1) margins.
        log_scales = log_scales.clamp(-7, 7)
        z = (y[..., None] - means) * torch.exp(-log_scales)
        log_normal = -0.5 * z**2 - log_scales - 0.5 * math.log(2 * math.pi)
        return (logits.log_softmax(-1) + log_normal).logsumexp(-1).sum(-1)


class _Masked(nn.Linear):
    """A linear layer that sees only what its mask [out, in] lets through."""

    def __init__(self, in_features: int, out_features: int, mask: Tensor) -> None:
        super().__init__(in_features, out_features)
        self.register_buffer("mask", mask.float(), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        return linear(inputs, self.weight * self.mask, self.bias)
