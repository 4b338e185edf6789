"""A learned projection: small networks that find what two variables share where correlation cannot.

f: [n, dx] -> [n, 8] and g: [n, dy] -> [n, 8] climb the InfoNCE bound (van den Oord et al. 2018,
arXiv:1807.03748) with the critic f(x) . g(y). The optimal critic is log p(x, y) / p(x) p(y) up to a function of
one side, so f and g keep what is shared and drop the rest. They start at canonical correlation analysis, whose
directions are the optimal critic of a Gaussian, and see each coordinate and its square, so that norms are near.
Weight decay and dropout stand against learning the rows by heart. Several members are trained at once (one
batched multiplication for all), each kept as it was where its bound on rows it was not fitted on was best; their
outputs side by side go through CCA, fitted on the same rows, to `dim` numbers.

Like any projection it is fitted on some rows and read on others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_mi.information.core.inputs import read_pair
from ssl_mi.information.estimators.gaussian import whiten
from ssl_mi.information.projections.linear import Linear, check_dim, fit_cca

WIDTH, OUT = 64, 8
BATCH, STEPS, LEARNING_RATE, DECAY = 256, 600, 3e-3, 0.3
DROPOUT = 0.2
CHECK_EVERY = 25
PATIENCE = 6  # checks without a better one for any member, after which nothing better was ever seen to come
HELD_OUT = 0.15
WIDEST = 64  # columns the networks see; more go through PCA and CCA first


@dataclass(frozen=True)
class Fitted:
    """A linear map of each side, networks (weights [members, ., .]), then CCA of their outputs."""

    entry: Linear
    networks_x: dict[str, Tensor]
    networks_y: dict[str, Tensor]
    exit: Linear
    name: str

    def __call__(self, x, y) -> tuple[np.ndarray, np.ndarray]:
        """x [n, dx], y [n, dy] -> float64 [n, dim] each."""
        return self.exit(*_embed(self.networks_x, self.networks_y, *self.entry(x, y)))

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Learned:
    """Networks fitted by InfoNCE, read through CCA; see the module docstring. Costs seconds, not milliseconds."""

    dim: int
    members: int = 3

    def fit(self, x, y, seed: int = 0) -> Fitted:
        return self.fit_each([(x, y)], seed)[0]

    def fit_each(self, pairs, seed: int = 0) -> list[Fitted]:
        """Fit on several sets of rows at once, which costs less than one after the other.

        pairs: list of (x, y), of the same dimensions. Raises ValueError for fewer than 50 rows: a few of them
        are held out to stop.
        """
        check_dim(self.dim)
        entries, sets = [], []
        for x, y in pairs:
            a, b = read_pair(x, y)
            if a.n < 50:
                raise ValueError(f"x and y have {a.n} rows: fitting networks needs at least 50; use CCA")
            entries.append(_entry(a.values, b.values, seed))
            sets.append(entries[-1](a.values, b.values))
        fitted = []
        name = f"Learned({self.dim}, members={self.members}, seed={seed})"
        for entry, (x, y), (networks_x, networks_y) in zip(
            entries, sets, _train(sets, self.members, seed), strict=True
        ):
            last = fit_cca(*_embed(networks_x, networks_y, x, y), self.dim, [1e-3])[0]
            fitted.append(Fitted(entry, networks_x, networks_y, last, name))
        return fitted


def _entry(x: np.ndarray, y: np.ndarray, seed: int) -> Linear:
    """Each column to variance 1; beyond `WIDEST` columns, half principal components and half canonical ones."""
    weights = []
    shared = None
    for side, values in enumerate((x, y)):
        if values.shape[1] <= WIDEST:
            deviation = values.std(0)
            weights.append(np.diag(1 / np.where(deviation > 0, deviation, 1.0)))
            continue
        white = whiten(values)
        shared = shared or fit_cca(x, y, WIDEST // 2, [1e-1])[0]
        both = np.concatenate([white.axes[: WIDEST // 2].T, (shared.weight_x, shared.weight_y)[side]], 1)
        weights.append(both / ((values - white.mean) @ both).std(0))
    return Linear(x.mean(0), y.mean(0), *weights, "columns of variance 1")


@torch.inference_mode(False)  # the caller may be evaluating
@torch.enable_grad()
def _train(sets, members: int, seed: int) -> list[tuple[dict, dict]]:
    """sets: list of (x, y) -> one (weights of f, weights of g) a set, each [members, ...], at its best check."""
    generator = torch.Generator().manual_seed(seed)
    n = min(len(x) for x, _ in sets)
    held = max(16, int(HELD_OUT * n))
    fit_x, fit_y, stop_x, stop_y, init_x, init_y = [], [], [], [], [], []
    for x, y in sets:
        # Product critic of Gaussians: log density ratio = Σ ρ/(1-ρ²) u v + terms of one side each.
        start = fit_cca(x, y, OUT, [1e-2])[0]
        rho = np.clip(start.strength, 0, 0.99)
        gain = np.sqrt(rho / (1 - rho**2))
        a, b = (torch.from_numpy(v).float() for v in (x, y))
        for _ in range(members):
            order = torch.randperm(len(x), generator=generator)[:n]
            fit_x.append(a[order[held:]])
            fit_y.append(b[order[held:]])
            stop_x.append(a[order[:held]])
            stop_y.append(b[order[:held]])
            init_x.append(_initial(start.weight_x * gain, generator))
            init_y.append(_initial(start.weight_y * gain, generator))
    fit_x, fit_y, stop_x, stop_y = (torch.stack(v) for v in (fit_x, fit_y, stop_x, stop_y))
    batch = min(BATCH, fit_x.shape[1])
    every = torch.arange(len(fit_x))[:, None]
    sides = [_stack(init_x), _stack(init_y)]
    weights = [w.requires_grad_() for side in sides for w in side.values()]
    optimizer = torch.optim.AdamW(weights, lr=LEARNING_RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=STEPS)
    best = torch.full((len(fit_x),), math.inf)
    since_better = 0
    kept = [{name: w.detach().clone() for name, w in side.items()} for side in sides]
    for step in range(1, STEPS + 1):
        rows = torch.randint(fit_x.shape[1], (len(fit_x), batch), generator=generator)
        loss = _losses(sides, fit_x[every, rows], fit_y[every, rows], generator).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % CHECK_EVERY == 0:
            with torch.no_grad():
                now = _losses(sides, stop_x, stop_y)
            better = now < best
            best = torch.where(better, now, best)
            for side, keep in zip(sides, kept, strict=True):
                for name, w in side.items():
                    keep[name][better] = w.detach()[better]
            since_better = 0 if better.any() else since_better + 1
            if since_better == PATIENCE:
                break
    parts = [slice(i * members, (i + 1) * members) for i in range(len(sets))]
    return [tuple({name: w[part] for name, w in keep.items()} for keep in kept) for part in parts]


def _initial(linear: np.ndarray, generator: torch.Generator) -> dict[str, Tensor]:
    """Weights of one network: a linear path at CCA, and a small two-layer path beside it."""
    d, r = linear.shape

    def normal(rows, columns, scale):
        return torch.randn(rows, columns, generator=generator) * scale / math.sqrt(rows)

    skip = normal(d, OUT, 0.1)
    skip[:, :r] = torch.from_numpy(linear).float()
    return {
        "skip": skip,
        "in": normal(2 * d, WIDTH, 1.0),
        "in_bias": normal(1, WIDTH, 0.5),
        "mid": normal(WIDTH, WIDTH, 1.0),
        "mid_bias": normal(1, WIDTH, 0.1),
        "out": normal(WIDTH, OUT, 0.3),
    }


def _stack(networks: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([network[name] for network in networks]) for name in networks[0]}


def _apply(weights: dict[str, Tensor], x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """x: [m, n, d] -> [m, n, OUT], member by member; with dropout when given a `generator`."""

    def dropped(hidden):
        if generator is None:
            return hidden
        return hidden * (torch.rand(hidden.shape, generator=generator) >= DROPOUT) / (1 - DROPOUT)

    inputs = torch.cat([x, (x * x - 1) / math.sqrt(2)], 2)
    hidden = dropped(F.gelu(torch.baddbmm(weights["in_bias"], inputs, weights["in"]), approximate="tanh"))
    hidden = dropped(F.gelu(torch.baddbmm(weights["mid_bias"], hidden, weights["mid"]), approximate="tanh"))
    return torch.bmm(x, weights["skip"]) + torch.bmm(hidden, weights["out"])


def _losses(sides: list[dict[str, Tensor]], x: Tensor, y: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Negative InfoNCE of every member, both directions averaged, up to log(batch): [m]."""
    scores = torch.bmm(_apply(sides[0], x, generator), _apply(sides[1], y, generator).transpose(1, 2))
    joint = scores.diagonal(dim1=1, dim2=2)
    return ((scores.logsumexp(1) + scores.logsumexp(2)) / 2 - joint).mean(1)


@torch.no_grad()
def _embed(networks_x, networks_y, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All members side by side: float64 [n, members * OUT] for each side."""
    out = []
    for weights, values in ((networks_x, x), (networks_y, y)):
        copies = torch.from_numpy(values).float().expand(len(weights["in"]), -1, -1)
        out.append(_apply(weights, copies).permute(1, 0, 2).reshape(len(values), -1).double().numpy())
    return out[0], out[1]
