"""Variational estimators: any critic x any bound, fitted on some rows, stopped on others, read on the rest.

A bound (bounds.py) holds for every critic that does not know the rows it is read on. So the rows are split
in three, by `seed`:

    fit     the critic climbs the bound here, batch by batch
    stop    the critic is judged here every `check_every` steps; the best one's weights are copied and come back
    read    the bound is evaluated here, once: this is the estimate

Reading on `fit` would report what the critic memorised; reading on `stop` the luckiest of many looks (the
largest of m noisy values lies above their mean). Pairs for the product of the marginals never hold a true
pair: all other rows of the batch, or `negatives` derangements of it.

What the number means: `kind` of the bound, for the rows read, at this critic. A weak critic, too few rows or a
ceiling make a lower bound read low; the warnings say which. McAllester & Stratos 2020 (arXiv 1811.04251,
theorem 3.1): no distribution-free lower bound from n rows can be confident above O(log n).

Protocol after Poole et al. 2019 (arXiv 1905.06922), Song & Ermon 2020 (arXiv 1910.06222).
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from scipy import special
from torch import Tensor, nn

from ssl_mi.information import bounds, critics
from ssl_mi.information.estimate import Estimate
from ssl_mi.information.samples import n_distinct, read_pair, row_hash

BOUNDS: dict[str, Callable[[], bounds.Bound]] = {
    "infonce": bounds.InfoNCE,
    "dv": bounds.DV,
    "mine": bounds.MINE,
    "nwj": bounds.NWJ,
    "tuba": bounds.TUBA,
    "interpolated": bounds.Interpolated,
    "js": bounds.JS,
    "smile": bounds.SMILE,
}


class Projected(nn.Module):
    """A critic of learned embeddings: critic(g(x), h(y))."""

    def __init__(self, g: nn.Module, h: nn.Module, critic: nn.Module) -> None:
        super().__init__()
        self.g, self.h, self.critic = g, h, critic

    @property
    def score_range(self) -> float:
        return self.critic.score_range

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.critic(self.g(x), self.h(y))


def _cosine(dim_x: int, dim_y: int, width: int = 32) -> nn.Module:
    g, h = critics.mlp([dim_x, 128, 128, width]), critics.mlp([dim_y, 128, 128, width])
    return Projected(g, h, critics.Cosine(temperature=0.1, learned=True))


CRITICS: dict[str, Callable[[int, int], nn.Module]] = {
    "separable": partial(critics.Separable, hidden=(128, 128)),
    "concat": partial(critics.Concat, hidden=(128, 128)),
    "bilinear": critics.Bilinear,
    "cosine": _cosine,
}


def neural(
    x,
    y,
    bound: str | bounds.Bound = "infonce",
    critic: str | Callable[[int, int], nn.Module] = "separable",
    *,
    margins: str = "gaussian",
    split: tuple[float, float, float] = (0.6, 0.15, 0.25),
    groups=None,
    batch_size: int | None = None,
    negatives: int | None = None,
    learning_rate: float = 1e-3,
    weight_decay: float = 1e-3,
    max_steps: int = 3000,
    check_every: int = 50,
    patience: int = 12,
    read_batch: int | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    progress: bool = False,
) -> Estimate:
    """I(X; Y) of paired rows by a variational bound with a learned critic, in nats.

    x: [n] or [n, dx], y: [n] or [n, dy]   paired rows, torch or numpy, n >= 40.
    bound        a name of `BOUNDS` or a Bound (copied: a MINE passed in keeps its moving average).
    critic       a name of `CRITICS` or a function (dim_x, dim_y) -> module with forward(x, y) -> [n, m] scores.
                 One without parameters is not fitted, only read.
    margins      "gaussian": each column through its ranks to N(0, 1), fitted on the fit rows (a monotone map,
                 so MI stays; heavy tails no longer rule the gradient); "standard": mean 0, variance 1; "raw".
    split        shares of the fit, stop and read rows.
    groups       [n] integers: rows of one group (views of one source image) fall on the same side of the split.
    negatives    None: every other row of the batch; k: k derangements of the batch.
    patience     how many checks without a better stop value end the fit.
    batch_size   rows of a step of the fit; None: 256, or 64 for a concat critic, whose cost is the square.
    read_batch   rows scored against each other when reading, whose logarithm is InfoNCE's ceiling; None: 2048, or
                 128 for a concat critic.

    `se` is the delete-a-tenth jackknife over the read rows, rows and columns together: the error of the reading
    at this critic, not of the fit. Raises ValueError for unpaired, empty or non-finite rows, and bad settings.
    """
    started = time.perf_counter()
    data = prepare(x, y, margins, split, groups, seed, device)
    bound, bound_name = _build_bound(bound)
    model, critic_name = _build_critic(critic, *data.dims, seed)
    model, bound = model.to(device), bound.to(device)
    costly = isinstance(model, critics.Concat)
    batch_size = batch_size or (64 if costly else 256)
    size = read_batch or (128 if costly else 2048)
    fitted = fit_critic(
        model,
        bound,
        minibatches(*data.fit, batch_size, seed),
        data.stop,
        negatives=negatives,
        read_batch=size,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        max_steps=max_steps,
        check_every=check_every,
        patience=patience,
        seed=seed,
        progress=progress,
    )
    reading = read_bound(model, bound, *data.read, size)
    return Estimate(
        value=reading.value,
        kind=bound.kind,
        se=reading.se,
        ceiling=reading.ceiling if math.isfinite(reading.ceiling) else None,
        n=len(data.read[0]),
        dims=data.dims,
        estimator="neural",
        settings={
            "bound": bound_name,
            "critic": critic_name,
            "margins": margins,
            "fit": len(data.fit[0]),
            "stop": len(data.stop[0]),
            "batch_size": min(batch_size, len(data.fit[0])),
            "negatives": negatives or "batch",
            "learning_rate": learning_rate,
            "steps": fitted.steps,
            "best_step": fitted.best_step,
            "seed": seed,
        },
        seconds=time.perf_counter() - started,
        warnings=(*data.warnings, *fitted.warnings, *reading.warnings),
    )


# ------------------------------------------------------------------------------------------------ the split


class Prepared(NamedTuple):
    """(x, y) float32 of the fit, stop and read rows, through margins fitted on the fit rows."""

    fit: tuple[Tensor, Tensor]
    stop: tuple[Tensor, Tensor]
    read: tuple[Tensor, Tensor]
    dims: tuple[int, int]
    warnings: tuple[str, ...]


def prepare(x, y, margins: str, split, groups, seed: int, device="cpu") -> Prepared:
    """Check, split by `seed` and bring to `margins`; warn where rows to be read are also fitted on."""
    if margins not in MARGINS:
        raise ValueError(f"margins must be one of {', '.join(MARGINS)}, got {margins!r}")
    sides = read_pair(x, y)
    rows = split_rows(sides[0].n, split, seed, groups)
    applied = [MARGINS[margins](side.values[rows["fit"]])(side.values) for side in sides]
    tensors = [torch.as_tensor(values, dtype=torch.float32, device=device) for values in applied]
    parts = {name: tuple(t[torch.as_tensor(index, device=device)] for t in tensors) for name, index in rows.items()}
    hashes = row_hash(np.hstack([side.values for side in sides]))
    copies = int(np.isin(hashes[rows["read"]], hashes[rows["fit"]]).sum())
    warnings = ()
    # Discrete pairs repeat by nature; rows of real numbers do not.
    if copies and max(n_distinct(row_hash(side.values)) for side in sides) > 0.1 * sides[0].n:
        warnings = (
            f"{copies} of {len(rows['read'])} rows read are copies of rows fitted on: drop duplicates or pass groups",
        )
    return Prepared(**parts, dims=(sides[0].d, sides[1].d), warnings=warnings)


def split_rows(n: int, split: tuple[float, float, float], seed: int, groups=None) -> dict[str, np.ndarray]:
    """Disjoint row indices {"fit", "stop", "read"} in shares `split`, whole groups at a time."""
    if len(split) != 3 or min(split) <= 0 or not math.isclose(sum(split), 1, abs_tol=1e-6):
        raise ValueError(f"split must be three positive shares (fit, stop, read) that sum to 1, got {split}")
    if groups is None:
        group = np.arange(n)
    else:
        group = np.unique(np.asarray(groups), return_inverse=True)[1].ravel()
        if len(group) != n:
            raise ValueError(f"groups has {len(group)} entries for {n} rows; give one a row")
    shuffled = np.random.default_rng(seed).permutation(group.max() + 1)
    cuts = np.round(np.cumsum(split)[:2] * len(shuffled)).astype(int)
    parts = zip(("fit", "stop", "read"), np.split(shuffled, cuts), strict=True)
    rows = {name: np.flatnonzero(np.isin(group, part)) for name, part in parts}
    short = {name: len(index) for name, index in rows.items() if len(index) < 6}
    if n < 40 or short:
        raise ValueError(f"{n} rows are too few to split {split} (need 40, and 6 a part; short: {short}); use ksg")
    return rows


# ---------------------------------------------------------------------------------------------- the margins


class GaussianMargins:
    """Columns to N(0, 1) by their ranks among the rows given; other rows are interpolated, ties share a rank.

    Beyond the outermost fitted rows the map is flat: it can lose information there, never add any.
    """

    def __init__(self, fitted: np.ndarray) -> None:
        self.knots = [self._knots(column) for column in fitted.T]

    @staticmethod
    def _knots(column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values, counts = np.unique(column, return_counts=True)
        middle_rank = np.cumsum(counts) - counts / 2
        return values, special.ndtri(middle_rank / len(column))

    def __call__(self, values: np.ndarray) -> np.ndarray:
        return np.column_stack([np.interp(v, *k) for v, k in zip(values.T, self.knots, strict=True)])


class StandardMargins:
    """Columns to mean 0 and variance 1 over the rows given; a constant column to 0."""

    def __init__(self, fitted: np.ndarray) -> None:
        self.mean = fitted.mean(0)
        deviation = fitted.std(0)
        self.deviation = np.where(deviation > 0, deviation, 1.0)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        return (values - self.mean) / self.deviation


class RawMargins:
    """Columns as they are."""

    def __init__(self, fitted: np.ndarray) -> None:
        pass

    def __call__(self, values: np.ndarray) -> np.ndarray:
        return values


MARGINS = {"gaussian": GaussianMargins, "standard": StandardMargins, "raw": RawMargins}


# ------------------------------------------------------------------------------------------------- the pairs


def derangements(n: int, k: int, generator: torch.Generator) -> Tensor:
    """k partners for each of n rows, never itself and never twice: int64 [n, k]. Each column is a derangement.

    Cyclic shifts of a random order: shift s sends the row at place p to the row at place p + s mod n, which is
    a permutation without fixed points for every s != 0. (A plain random permutation keeps one row in place on
    average, and that true pair among the false ones caps what a bound can read.)
    """
    if not 1 <= k <= n - 1:
        raise ValueError(f"negatives must lie between 1 and {n - 1} (the other rows of a batch of {n}), got {k}")
    order = torch.randperm(n, generator=generator)
    place = torch.empty_like(order)
    place[order] = torch.arange(n)
    shifts = torch.randperm(n - 1, generator=generator)[:k] + 1
    return order[(place[:, None] + shifts) % n]


def score_pairs(critic: nn.Module, x: Tensor, y: Tensor, partners: Tensor) -> tuple[Tensor, Tensor]:
    """T(x_i, y_i) [n] and T(x_i, y_partners[i]) [n, k], without scoring all n^2 pairs."""
    own = torch.arange(len(x), device=x.device)[:, None]
    index = torch.cat([own, partners.to(x.device)], dim=1)
    scores = torch.vmap(lambda a, b: critic(a[None], b)[0])(x, y[index])
    return scores[:, 0], scores[:, 1:]


def minibatches(x: Tensor, y: Tensor, batch_size: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches of paired rows: epochs in fresh orders, each row once an epoch, a short tail left out."""
    if batch_size < 2:
        raise ValueError(f"batch_size must be at least 2 (a row needs a partner of another row), got {batch_size}")
    size = min(batch_size, len(x))
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(len(x), generator=generator).to(x.device)
        for start in range(0, len(x) - size + 1, size):
            index = order[start : start + size]
            yield x[index], y[index]


# --------------------------------------------------------------------------------------------------- the fit


@dataclass
class Fit:
    """How a fit went: the best check (step, stop value in nats), every check, and what to beware of."""

    steps: int = 0
    best_step: int = 0
    best_value: float = -math.inf
    history: list[tuple[int, float]] = field(default_factory=list)
    warnings: tuple[str, ...] = ()


def fit_critic(
    critic: nn.Module,
    bound: bounds.Bound,
    batches: Iterator[tuple[Tensor, Tensor]],
    stop: tuple[Tensor, Tensor],
    *,
    negatives: int | None = None,
    read_batch: int = 2048,
    seed: int = 0,
    **settings,
) -> Fit:
    """Climb `bound` on `batches`; leave `critic` and `bound` as they did best on the `stop` rows.

    A critic without parameters is left alone. `settings` go to `climb`.
    """
    if not any(p.requires_grad for p in critic.parameters()):
        return Fit()
    generator = torch.Generator().manual_seed(seed)

    def objective(x: Tensor, y: Tensor) -> Tensor:
        if negatives is None:
            return bound(*bounds.pairs(critic(x, y)))
        return bound(*score_pairs(critic, x, y, derangements(len(x), negatives, generator)))

    def judge() -> float:
        return stop_value(critic, bound, *stop, read_batch)

    return climb([critic, bound], objective, judge, batches, **settings)


def climb(
    modules: list[nn.Module],
    objective: Callable[[Tensor, Tensor], Tensor],
    judge: Callable[[], float],
    batches: Iterator[tuple[Tensor, Tensor]],
    *,
    learning_rate: float = 1e-3,
    weight_decay: float = 1e-3,
    max_steps: int = 3000,
    check_every: int = 50,
    patience: int = 12,
    progress: bool = False,
) -> Fit:
    """Follow `objective` (nats, on a batch) upwards; leave `modules` with the weights that `judge` liked best.

    `judge` is asked before the first step, every `check_every` steps and after the last.
    """
    if min(max_steps, check_every, patience) < 1:
        raise ValueError(
            f"max_steps, check_every and patience must be at least 1, got {max_steps}, {check_every}, {patience}"
        )
    parameters = [p for module in modules for p in module.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=weight_decay)
    fit, best, since_best = Fit(), None, 0
    with _bar("fit", max_steps, progress) as advance:
        for step in range(max_steps + 1):
            if step % check_every == 0 or step == max_steps:
                value = judge()
                fit.history.append((step, value))
                since_best += 1
                if value > fit.best_value:
                    # state_dict() holds references, which the steps to come change: copy the values.
                    best = [_cloned_state(module) for module in modules]
                    fit.best_value, fit.best_step, since_best = value, step, 0
                if since_best >= patience or step == max_steps:
                    break
            for module in modules:
                module.train()
            loss = -objective(*next(batches))
            optimizer.zero_grad()
            loss.backward()
            # e^T makes the gradients of DV-like bounds heavy-tailed; one batch must not throw the critic away.
            norm = nn.utils.clip_grad_norm_(parameters, 1.0)
            if not (torch.isfinite(loss) and torch.isfinite(norm)):
                fit.warnings += (f"the fit diverged at step {step}: lower learning_rate, or take a steadier bound",)
                break
            optimizer.step()
            fit.steps = step + 1
            advance(f"fit, stop value {fit.best_value:.3f}")
    if best is not None:
        for module, state in zip(modules, best, strict=True):
            module.load_state_dict(state)
    if fit.steps == max_steps and since_best < 2:
        fit.warnings += (f"the fit was still improving at its last step, {max_steps}: raise max_steps",)
    return fit


def stop_value(critic: nn.Module, bound: bounds.Bound, x: Tensor, y: Tensor, read_batch: int) -> float:
    """What to choose a critic by: the bound, or for JS and SMILE the objective that they really climb.

    (SMILE's value is no lower bound: choosing the critic with the largest would choose over-estimates.)
    """
    joint, marginal = _gather(score_blocks(critic, x, y, read_batch))
    if isinstance(bound, bounds.JS | bounds.SMILE):
        return float(bounds.jensen_shannon(joint, marginal))
    with _evaluating(bound), torch.no_grad():
        return float(bound(joint, marginal))


# ----------------------------------------------------------------------------------------------- the reading


@dataclass(frozen=True)
class Reading:
    """A bound on given rows at a given critic, in nats."""

    value: float
    se: float
    ceiling: float
    warnings: tuple[str, ...]


def read_bound(
    critic: nn.Module, bound: bounds.Bound, x: Tensor, y: Tensor, read_batch: int = 2048, folds: int = 10
) -> Reading:
    """The bound over all rows, in blocks of at most `read_batch` rows scored against each other, in float64.

    se: delete-group jackknife, sqrt((g - 1) / g sum (v_-f - mean)^2). A row leaves with its column, so that the
    dependence between pairs that share a row is counted.
    """
    blocks = score_blocks(critic, x, y, read_batch)
    with _evaluating(bound), torch.no_grad():
        joint, marginal = _gather(blocks)
        value = float(bound(joint, marginal))
        folds = min(folds, min(len(b) for b in blocks) // 2)
        left_out = []
        for f in range(folds):
            kept = [torch.arange(len(b), device=b.device) % folds != f for b in blocks]
            left_out.append(float(bound(*_gather([b[k][:, k] for b, k in zip(blocks, kept, strict=True)]))))
        spread = np.asarray(left_out) - np.mean(left_out)
        se = math.sqrt((folds - 1) / folds * float(spread @ spread))
        ceiling = bound.ceiling(marginal.shape[1], getattr(critic, "score_range", math.inf))
    if not math.isfinite(value):
        raise ValueError(f"{type(bound).__name__} read {value} nats: its critic diverged; lower learning_rate")
    return Reading(value, se, ceiling, _doubts(bound, value, ceiling, len(x), blocks))


def _doubts(bound, value: float, ceiling: float, n: int, blocks: list[Tensor]) -> tuple[str, ...]:
    doubts = []
    if n < 200:
        doubts.append(f"only {n} rows read: the fit and the reading are both rough; give more rows")
    if math.isfinite(ceiling) and value > 0.8 * ceiling:
        doubts.append(
            f"{value:.2f} nats is {value / ceiling:.0%} of the ceiling {ceiling:.2f}: the truth may be far above; "
            "raise read_batch or take a bound without a ceiling"
        )
    if bound.kind == "lower bound" and value > math.log(n):
        doubts.append(f"above log n = {math.log(n):.2f} nats, {n} rows can not support a lower bound")
    if isinstance(bound, bounds.DV | bounds.MINE | bounds.NWJ | bounds.TUBA | bounds.JS):
        row_weights = torch.cat([(bounds.off_diagonal(b).logsumexp(1)) for b in blocks])
        share = torch.softmax(row_weights, 0)
        effective = float(1 / (share**2).sum())
        if effective < min(50, n / 4):
            doubts.append(
                f"e^T is carried by about {effective:.0f} of {n} rows: the variance grows like e^I; "
                "give more rows, or read InfoNCE or a clipped bound beside it"
            )
    return tuple(doubts)


def score_blocks(critic: nn.Module, x: Tensor, y: Tensor, size: int) -> list[Tensor]:
    """Square score matrices of consecutive blocks of at most `size` rows, sizes as even as can be; float64."""
    n_blocks = math.ceil(len(x) / size)
    with _evaluating(critic), torch.no_grad():
        pairs = zip(x.tensor_split(n_blocks), y.tensor_split(n_blocks), strict=True)
        return [_scores(critic, a, b) for a, b in pairs]


def _scores(critic: nn.Module, x: Tensor, y: Tensor, rows: int = 128) -> Tensor:
    # A few rows at a time: a concat critic needs rows x m x width numbers at once.
    return torch.cat([critic(part, y) for part in x.split(rows)]).double()


def _gather(blocks: list[Tensor]) -> tuple[Tensor, Tensor]:
    """(joint [n], marginal [n, k]) over all blocks; where sizes differ by one row, k is the smaller."""
    k = min(len(b) for b in blocks) - 1
    joint = torch.cat([b.diagonal() for b in blocks])
    return joint, torch.cat([bounds.off_diagonal(b)[:, :k] for b in blocks])


# -------------------------------------------------------------------------------------------------- plumbing


def _build_bound(bound: str | bounds.Bound) -> tuple[bounds.Bound, str]:
    if isinstance(bound, nn.Module):
        return copy.deepcopy(bound), type(bound).__name__
    if bound not in BOUNDS:
        raise ValueError(f"bound must be one of {', '.join(BOUNDS)} or a Bound, got {bound!r}")
    return BOUNDS[bound](), bound


def _build_critic(critic, dim_x: int, dim_y: int, seed: int) -> tuple[nn.Module, str]:
    name = critic if isinstance(critic, str) else None
    if name is not None and name not in CRITICS:
        raise ValueError(f"critic must be one of {', '.join(CRITICS)} or a function (dim_x, dim_y), got {critic!r}")
    with torch.random.fork_rng(devices=[]):  # weights from `seed`; the caller's random state stays
        torch.manual_seed(seed)
        module = CRITICS[name](dim_x, dim_y) if name else critic(dim_x, dim_y)
    return module, name or type(module).__name__


def _cloned_state(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode inside, the former mode again outside."""
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)


@contextmanager
def _bar(description: str, total: int, shown: bool) -> Iterator[Callable[[str], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, disable=not shown, transient=True) as bar:
        task = bar.add_task(description, total=total)
        yield lambda text: bar.update(task, advance=1, description=text)
