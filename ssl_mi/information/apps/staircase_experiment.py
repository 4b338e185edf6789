"""What each variational estimator does as the true information increases: 2, 4, 6, 8, 10 nats, beside theory.

    ssl-mi staircase --out staircase.csv --picture staircase.png

X and Y are standard normal in 20 dimensions, coordinates correlated pairwise (Poole et al. 2019, arXiv
1905.06922, section 3; Song & Ermon 2020, arXiv 1910.06222, section 6.1). The critic is trained on an endless stream
of batches of 64, one level after the other, so nothing can overfit; at each level the weights that did best on 512
validation rows are kept (training.py), and are evaluated on fresh batches of 64. `flow_mi` is fitted to 4,096 rows a
level. Every estimator is also evaluated with the *optimal* critic, log p(y|x)/p(y): what is wrong there is due to the
bound itself.

Theory for a batch of n at the optimal critic, r = p(x, y) / (p(x) p(y)):

    InfoNCE                 at most log n
    NWJ, TUBA, JS, DV       sd^2 = Var(log r)/n + (E_p[r] - 1)/(n (n - 1)), the first for the joint term, the second
                            for the marginal one (E[r|x] = 1 leaves no correlation between pairs that share a row);
                            for DV and MINE by the delta method.
                            For these Gaussians Var(log r) = 20 rho^2 and E_p[r] = exp(2 I); always E_p[r] >= exp(I).

At 10 nats this sd is hundreds of nats, and a thousand batches do not show it: it hides in batches that almost never
come, and until one does the estimate is quietly too high.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple, Protocol

import numpy as np
import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from ssl_mi.information.apps.staircase_rows import DIM, Step, theory_sd
from ssl_mi.information.distributions.families import Gaussian, gaussian_with_mi
from ssl_mi.information.variational.bounds import Bound, pairs
from ssl_mi.information.variational.critics import Separable
from ssl_mi.information.variational.densities import AutoregressiveMixture, Mixture
from ssl_mi.information.variational.flow import FittedFlow, fit_flow, log_normal
from ssl_mi.information.variational.lookup import built_in_bounds, find_bound
from ssl_mi.information.variational.splits import Pair, SplitData
from ssl_mi.information.variational.training import (
    BestWeights,
    Training,
    fit_critic,
    maximise,
    value_without_gradient,
)
from ssl_mi.information.variational.upper_bounds import CLUB, DensityBound, LeaveOneOut

LEVELS = (2.0, 4.0, 6.0, 8.0, 10.0)
VALIDATION_ROWS, FLOW_ROWS = 512, 4096
DENSITY_BOUNDS: dict[str, type[DensityBound]] = {part.name: part for part in (CLUB, LeaveOneOut)}
ENTROPIES, FLOW = "difference_of_entropies", "flow_mi"
ESTIMATORS = (*built_in_bounds(), *DENSITY_BOUNDS, ENTROPIES, FLOW)


def bound_of(name: str) -> Bound | None:
    """The bound behind an estimator: one of a name, or package.module:Class; None for differences of entropies."""
    if name in (ENTROPIES, FLOW):
        return None
    return DENSITY_BOUNDS[name]() if name in DENSITY_BOUNDS else find_bound(name)[0]


class Learner(Protocol):
    """Estimators that are trained together.

    Attributes:
        names: of the estimators.
        ceiling: the largest value they can take, nats.
    """

    names: tuple[str, ...]
    ceiling: float

    def fit(self, gaussian: Gaussian, stream: Iterator[Pair], rng: np.random.Generator) -> None:
        """Train on a level."""

    def evaluate(self, x: Tensor, y: Tensor) -> list[Tensor]:
        """The estimate of each on a batch x [n, d], y [n, d], nats."""

    def optimal(self, log_r: Tensor, y: Tensor) -> list[Tensor]:
        """The same with the optimal critic, log_r [n, n] = log p(y_j | x_i) / p(y_j)."""


class BoundLearner:
    """A separable critic under a bound."""

    def __init__(self, name: str, batch_size: int, training: Training) -> None:
        self.names: tuple[str, ...] = (name,)
        self.training = training
        self.bound, _ = find_bound(name)
        self.critic = Separable(DIM, DIM, hidden=(256, 256), width=32)
        self.ceiling = self.bound.ceiling(batch_size - 1)

    def fit(self, gaussian: Gaussian, stream: Iterator[Pair], rng: np.random.Generator) -> None:
        fit_critic(self.critic, self.bound, stream, _batch(gaussian, VALIDATION_ROWS, rng), self.training)
        self.bound.eval()

    def evaluate(self, x: Tensor, y: Tensor) -> list[Tensor]:
        return [self.bound(*pairs(self.critic(x, y)))]

    def optimal(self, log_r: Tensor, y: Tensor) -> list[Tensor]:
        fresh, _ = find_bound(self.names[0])
        return [fresh.eval()(*pairs(log_r + fresh.offset))]


class DensityLearner:
    """A learned q(y|x), which CLUB, leave-one-out and the difference of entropies share, and q(y) for the last."""

    names: tuple[str, ...] = (*DENSITY_BOUNDS, ENTROPIES)
    ceiling: float = math.inf

    def __init__(self, training: Training) -> None:
        self.training = training
        self.conditional, self.marginal = AutoregressiveMixture(DIM, DIM), AutoregressiveMixture(DIM)

    def fit(self, gaussian: Gaussian, stream: Iterator[Pair], rng: np.random.Generator) -> None:
        validation = _batch(gaussian, VALIDATION_ROWS, rng)
        both = [self.conditional, self.marginal]
        keeper = BestWeights(both, lambda: value_without_gradient(self._likelihood, *validation))
        maximise(keeper, self._likelihood, stream, self.training)

    def _likelihood(self, x: Tensor, y: Tensor) -> Tensor:
        return self.conditional(y, x).mean() + self.marginal(y).mean()

    def evaluate(self, x: Tensor, y: Tensor) -> list[Tensor]:
        log_q = self.conditional(y[None].expand(len(x), -1, -1), x[:, None].expand(-1, len(y), -1))
        return [*_upper_bounds(log_q), (log_q.diagonal() - self.marginal(y)).mean()]

    def optimal(self, log_r: Tensor, y: Tensor) -> list[Tensor]:
        log_q = log_r - 0.5 * (y**2).sum(1)[None] - DIM / 2 * math.log(2 * math.pi)
        return [*_upper_bounds(log_q), log_r.diagonal().mean()]


def _upper_bounds(log_q: Tensor) -> list[Tensor]:
    """log_q[i, j] = log q(y_j | x_i)."""
    return [bound()(*pairs(log_q.T if bound.by_y else log_q)) for bound in DENSITY_BOUNDS.values()]


class FlowLearner:
    """`flow_mi`'s flow, which needs rows to begin from: it is fitted afresh at each level."""

    names: tuple[str, ...] = (FLOW,)
    ceiling: float = math.inf

    def __init__(self, training: Training) -> None:
        self.training = training
        self.fitted: FittedFlow | None = None

    def fit(self, gaussian: Gaussian, stream: Iterator[Pair], rng: np.random.Generator) -> None:
        rows, validation = _batch(gaussian, FLOW_ROWS, rng), _batch(gaussian, VALIDATION_ROWS, rng)
        data = SplitData(rows, validation, validation, (DIM, DIM))
        self.fitted = fit_flow(data, Mixture(hidden=64, components=4), self.training, int(rng.integers(2**31)))

    def evaluate(self, x: Tensor, y: Tensor) -> list[Tensor]:
        assert self.fitted is not None
        z = self.fitted.to_z(y)
        return [(self.fitted.flow(self.fitted.to_u(x), z) - log_normal(z)).mean()]

    def optimal(self, log_r: Tensor, y: Tensor) -> list[Tensor]:
        return [log_r.diagonal().mean()]


class Extent(NamedTuple):
    """How much is trained and evaluated: rows a batch, steps a level, batches evaluated a level."""

    batch_size: int
    steps: int
    batches: int

    @property
    def training(self) -> Training:
        return Training(max_steps=self.steps, check_every=max(1, self.steps // 16), patience=8)


def staircase(
    estimators: Sequence[str] = ESTIMATORS,
    levels: Sequence[float] = LEVELS,
    *,
    batch_size: int = 64,
    steps: int = 800,
    batches: int = 100,
    seeds: Sequence[int] = (0, 1, 2),
    progress: bool = False,
) -> list[Step]:
    """Train and evaluate each estimator at each level.

    Args:
        estimators: names of `ESTIMATORS`, or bounds as package.module:Class.
        levels: true mutual information, nats.
        batch_size: rows of a batch, in training and in evaluation.
        steps: of training, a level; the critic goes on from the level below.
        batches: evaluated, a level.
        seeds: one fit each.
        progress: show a bar.

    Raises:
        ValueError: for an unknown estimator.
    """
    extent = Extent(batch_size, steps, batches)
    wanted = [(make, seed) for make in _learners(estimators, extent) for seed in seeds]
    result = []
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with torch.random.fork_rng(devices=[]), Progress(*columns, disable=not progress) as bar:
        job = bar.add_task("staircase", total=len(wanted) * len(levels))
        for make, seed in wanted:
            torch.manual_seed(seed)
            rng = np.random.default_rng(seed)
            learner = make()
            for level in levels:
                bar.update(job, description=f"{', '.join(learner.names)} at {level:g} nats, seed {seed}")
                steps_taken = _level(learner, level, seed, rng, extent)
                result += [step for step in steps_taken if step.estimator in estimators]
                bar.advance(job)
    return result


def _learners(estimators: Sequence[str], extent: Extent) -> list[Callable[[], Learner]]:
    """What makes the learners of these estimators, in the order of `ESTIMATORS`, bounds of one's own first."""
    unknown = [name for name in estimators if name not in ESTIMATORS and ":" not in name]
    if unknown:
        raise ValueError(f"no estimator is called {', '.join(unknown)}; there are {', '.join(ESTIMATORS)}")
    own = [name for name in estimators if ":" in name]
    bounds = [*own, *(name for name in built_in_bounds() if name in estimators)]
    for name in own:
        find_bound(name)
    makers: list[Callable[[], Learner]] = [
        partial(BoundLearner, name, extent.batch_size, extent.training) for name in bounds
    ]
    if {*DensityLearner.names} & {*estimators}:
        makers.append(partial(DensityLearner, extent.training))
    if FLOW in estimators:
        makers.append(partial(FlowLearner, extent.training))
    return makers


def _level(learner: Learner, level: float, seed: int, rng: np.random.Generator, extent: Extent) -> list[Step]:
    """Train at a level, and evaluate each estimator of the learner with the learned and with the optimal critic."""
    gaussian = gaussian_with_mi(level, DIM)
    learner.fit(gaussian, _stream(gaussian, extent.batch_size, rng), rng)
    fresh = [_batch(gaussian, extent.batch_size, rng) for _ in range(extent.batches)]
    learned, optimal = _evaluate(learner, fresh), _evaluate_optimal(learner, level, fresh)
    found = []
    for place, name in enumerate(learner.names):
        bound = bound_of(name)
        theory = theory_sd(level, extent.batch_size) if bound is not None and bound.heavy_tailed else math.nan
        for critic, values in (("learned", learned[:, place]), ("optimal", optimal[:, place])):
            mean, sd = float(values.mean()), float(values.std(ddof=1))
            sizes = (learner.ceiling, extent.batch_size, extent.batches, extent.steps)
            found.append(Step(name, critic, level, seed, mean, mean - level, sd, theory, *sizes))
    return found


def optimal_scores(rho: float, x: Tensor, y: Tensor) -> Tensor:
    """log p(y_j | x_i) / p(y_j) for unit Gaussians correlated by `rho` in every coordinate: [n, n]."""
    kept = 1 - rho**2
    squares = (x**2).sum(1)[:, None] + (y**2).sum(1)[None]
    return (rho * x @ y.T - rho**2 * squares / 2) / kept - x.shape[1] / 2 * math.log(kept)


@torch.no_grad()
def _evaluate(learner: Learner, fresh: list[Pair]) -> np.ndarray:
    return np.array([[float(value) for value in learner.evaluate(x, y)] for x, y in fresh])


@torch.no_grad()
def _evaluate_optimal(learner: Learner, mi: float, fresh: list[Pair]) -> np.ndarray:
    rho = math.sqrt(-math.expm1(-2 * mi / DIM))
    doubles = [(x.double(), y.double()) for x, y in fresh]
    values = [learner.optimal(optimal_scores(rho, x, y), y) for x, y in doubles]
    return np.array([[float(value) for value in row] for row in values])


def _batch(gaussian: Gaussian, n: int, rng: np.random.Generator) -> Pair:
    x, y = gaussian.sample(n, rng)
    return torch.from_numpy(x).float(), torch.from_numpy(y).float()


def _stream(gaussian: Gaussian, n: int, rng: np.random.Generator) -> Iterator[Pair]:
    while True:
        yield _batch(gaussian, n, rng)
