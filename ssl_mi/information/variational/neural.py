"""Variational estimators: any critic x any bound, fitted on some rows, stopped on others, read on the rest.

A bound (bounds.py) holds for every critic that does not know the rows it is read on. So the rows are split in three
(split.py); the critic climbs the bound on the first part and is chosen on the second (fitting.py); the third is read
once, at that critic (reading.py). The largest of many looks, at whatever rows, lies above their mean and is never
reported.

What the number means: `kind` of the bound, for the rows read, at this critic. A weak critic, too few rows or a
ceiling make a lower bound read low; the warnings say which. McAllester & Stratos 2020 (arXiv 1811.04251,
theorem 3.1): no distribution-free lower bound from n rows can be confident above O(log n).

Protocol after Poole et al. 2019 (arXiv 1905.06922), Song & Ermon 2020 (arXiv 1910.06222).
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from ssl_mi.information.core.estimate import Estimate
from ssl_mi.information.variational import bounds, critics
from ssl_mi.information.variational.gaussian_critic import GaussianStart
from ssl_mi.information.variational.held_out import check_level, combine, merged, read_bound
from ssl_mi.information.variational.splits import SPLIT, rotations
from ssl_mi.information.variational.training import fit_critic, minibatches

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


SHIFTED, OFFSET = (bounds.NWJ, bounds.TUBA, bounds.Interpolated), 1.0  # tight at log r + 1; the others at log r


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
    "gaussian_start": GaussianStart,
    "separable": partial(critics.Separable, hidden=(128, 128)),
    "concat": partial(critics.Concat, hidden=(128, 128)),
    "bilinear": critics.Bilinear,
    "cosine": _cosine,
}


def neural_mi(
    x,
    y,
    bound: str | bounds.Bound = "infonce",
    critic: str | Callable[[int, int], nn.Module] = "gaussian_start",
    *,
    cross_fit: bool = False,
    margins: str = "gaussian",
    split: tuple[float, float, float] = SPLIT,
    groups=None,
    batch_size: int | None = None,
    negatives: int | None = None,
    learning_rate: float = 1e-3,
    weight_decay: float = 1e-3,
    max_steps: int = 3000,
    check_every: int = 50,
    patience: int = 12,
    read_batch: int | None = None,
    level: float = 0.95,
    seed: int = 0,
    device: str | torch.device = "cpu",
    progress: bool = False,
) -> Estimate:
    """I(X; Y) of paired rows by a variational bound with a learned critic, in nats.

    x: [n] or [n, dx], y: [n] or [n, dy]   paired rows, torch or numpy, n >= 40.
    bound        a name of `BOUNDS` or a Bound (copied: a MINE passed in keeps its moving average).
    critic       a name of `CRITICS` or a function (dim_x, dim_y) -> module with forward(x, y) -> [n, m] scores.
                 "gaussian_start": the closed-form log ratio of a Gaussian plus a separable critic that learns the
                 rest, so that correlation is right before the first step; "separable", "concat", "bilinear" and
                 "cosine" learn all. One without parameters is not fitted, only read; one with a method
                 begin(fit, stop, offset) is shown the (x, y) of those rows first, and the offset from log r at which
                 the bound is tight (1 for NWJ and its kin).
    cross_fit    fit as often as it takes to read every row once (4 times by default), each time by a critic that did
                 not see it; the readings are averaged. The error of the reading halves, the cost is fourfold.
    margins      "gaussian": each column through its ranks to N(0, 1), fitted on the fit rows (a monotone map,
                 so MI stays; heavy tails no longer rule the gradient); "standard": mean 0, variance 1; "raw".
    split        shares of the fit, stop and read rows.
    groups       [n] integers: rows of one group (views of one source image) fall on the same side of the split, and
                 leave together in the jackknife.
    negatives    None: every other row of the batch; k: k derangements of the batch.
    patience     how many checks without a better stop value end the fit; after half of them it goes back to its best
                 weights and on with a smaller step.
    batch_size   rows of a step of the fit; None: 256, or 64 for a concat critic, whose cost is the square.
    read_batch   rows scored against each other when reading, whose logarithm is InfoNCE's ceiling; None: 2048, or
                 128 for a concat critic.

    `se`, `ci` and `p_value` are those of reading.py: of the reading, at this critic, not of the fit. A lower bound's
    interval covers what this critic attains, at or below I(X; Y). `null` is not given: at a fixed critic re-paired
    rows read far below 0, and what the whole procedure reads where nothing is shared takes a fit each
    (`trust.with_null`). Raises ValueError for unpaired, empty or non-finite rows, and bad settings.
    """
    started = time.perf_counter()
    check_level(level)
    rows = rotations(x, y, margins, split, groups, seed, device, cross_fit)
    bound, bound_name = _build_bound(bound)
    fits, readings, costly = [], [], False
    for data in rows:
        model, critic_name = _build_critic(critic, *data.dims, seed)
        model, fresh = model.to(device), copy.deepcopy(bound).to(device)
        if hasattr(model, "begin"):
            model.begin(data.fit, data.stop, offset=OFFSET if isinstance(bound, SHIFTED) else 0.0)
        costly = isinstance(model, critics.Concat)
        size, read_size = batch_size or (64 if costly else 256), read_batch or (128 if costly else 2048)
        fits.append(
            fit_critic(
                model,
                fresh,
                minibatches(*data.fit, size, seed),
                data.stop,
                negatives=negatives,
                read_batch=read_size,
                learning_rate=learning_rate,
                weight_decay=weight_decay,
                max_steps=max_steps,
                check_every=check_every,
                patience=patience,
                seed=seed,
                progress=progress,
            )
        )
        readings.append(read_bound(model, fresh, *data.read, read_size, groups=data.read_groups, seed=seed))
    reading = combine(readings)
    return Estimate(
        value=reading.value,
        kind=bound.kind,
        se=reading.se,
        ci=reading.interval(level),
        ci_level=level,
        p_value=reading.p_value,
        ceiling=reading.ceiling if math.isfinite(reading.ceiling) else None,
        n=reading.n,
        dims=rows[0].dims,
        estimator="neural_mi",
        settings={
            "bound": bound_name,
            "critic": critic_name,
            "margins": margins,
            "fit": len(rows[0].fit[0]),
            "stop": len(rows[0].stop[0]),
            "fits": len(rows),
            "batch_size": min(size, len(rows[0].fit[0])),
            "negatives": negatives or "batch",
            "learning_rate": learning_rate,
            "steps": _each([fit.steps for fit in fits]),
            "best_step": _each([fit.best_step for fit in fits]),
            "seed": seed,
        },
        seconds=time.perf_counter() - started,
        warnings=(
            *merged([data.warnings for data in rows]),
            *merged([fit.warnings for fit in fits]),
            *reading.warnings,
        ),
    )


def _each(steps: list[int]) -> int | list[int]:
    return steps[0] if len(steps) == 1 else steps


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
