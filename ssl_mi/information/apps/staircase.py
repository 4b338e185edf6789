"""What each variational estimator does as the truth climbs: 2, 4, 6, 8, 10 nats, beside theory.

    python -m ssl_mi.information.apps.staircase --out staircase.csv --picture staircase.png

X and Y are standard normal in 20 dimensions, coordinates correlated pairwise (Poole et al. 2019, arXiv
1905.06922, section 3; Song & Ermon 2020, arXiv 1910.06222, section 6.1). The critic is trained on an endless stream
of batches of 64, one level after the other, so nothing can overfit; at each level the weights that did best on 512
rows aside come back (fitting.py), and are read on fresh batches of 64. `flow_mi` is fitted to 4,096 rows a level.
Every estimator is also read with the *optimal* critic, log p(y|x)/p(y): what is wrong there is the bound's own doing.

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

import argparse
import csv
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from torch import Tensor

from ssl_mi.information.apps.answer import console as plain_console
from ssl_mi.information.distributions.families import Gaussian, gaussian_with_mi
from ssl_mi.information.variational import bounds, critics, neural
from ssl_mi.information.variational import upper_bounds as upper
from ssl_mi.information.variational.densities import AutoregressiveMixture
from ssl_mi.information.variational.flow import fit_flow, log_normal
from ssl_mi.information.variational.splits import Prepared
from ssl_mi.information.variational.training import climb, fit_critic

LEVELS = (2.0, 4.0, 6.0, 8.0, 10.0)
DIM = 20
ASIDE, FLOW_ROWS = 512, 4096
# log r + offset is the optimal critic; for the others any offset does.
OFFSETS = {"nwj": 1.0, "tuba": 1.0, "interpolated": 1.0}
EXPLODING = ("dv", "mine", "nwj", "tuba", "js")
DENSITIES = ("club", "leave_one_out", "difference_of_entropies")
FLOW = "flow_mi"
ESTIMATORS = (*neural.BOUNDS, *DENSITIES, FLOW)

Pair = tuple[Tensor, Tensor]


class Step(NamedTuple):
    """One estimator at one level and seed: statistics over batches, nats."""

    estimator: str
    critic: str  # learned or optimal
    true: float
    seed: int
    mean: float
    bias: float
    sd: float
    theory_sd: float
    ceiling: float
    batch_size: int
    batches: int
    steps: int


class Learner(NamedTuple):
    """Estimators that learn together: fit(gaussian, stream, rng) climbs a level, read(x, y) reads each on a batch."""

    names: tuple[str, ...]
    fit: Callable[[Gaussian, Iterator[Pair], np.random.Generator], None]
    read: Callable[[Tensor, Tensor], list[Tensor]]
    ceiling: float = math.inf


def of_bound(name: str, batch_size: int, steps: int) -> Learner:
    """A separable critic under a bound of `neural.BOUNDS`."""
    bound, critic = neural.BOUNDS[name](), critics.Separable(DIM, DIM, hidden=(256, 256), width=32)

    def fit(gaussian, stream, rng) -> None:
        fit_critic(critic, bound, stream, _batch(gaussian, ASIDE, rng), **_pace(steps))
        bound.eval()

    return Learner((name,), fit, lambda x, y: [bound(*bounds.pairs(critic(x, y)))], bound.ceiling(batch_size - 1))


def of_densities(steps: int) -> Learner:
    """A learned q(y|x), which CLUB, leave-one-out and the difference of entropies share, and q(y) for the last."""
    conditional, marginal = AutoregressiveMixture(DIM, DIM), AutoregressiveMixture(DIM)

    def likelihood(x: Tensor, y: Tensor) -> Tensor:
        return conditional(y, x).mean() + marginal(y).mean()

    def fit(gaussian, stream, rng) -> None:
        aside = _batch(gaussian, ASIDE, rng)
        climb([conditional, marginal], likelihood, lambda: _value(likelihood, *aside), stream, **_pace(steps))

    def read(x: Tensor, y: Tensor) -> list[Tensor]:
        log_q = conditional(y[None].expand(len(x), -1, -1), x[:, None].expand(-1, len(y), -1))
        return [*_upper_bounds(log_q), (log_q.diagonal() - marginal(y)).mean()]

    return Learner(DENSITIES, fit, read)


def of_flow(steps: int) -> Learner:
    """`flow_mi`'s flow, which needs rows to begin from: it is fitted afresh at each level."""
    fitted = {}

    def fit(gaussian, stream, rng) -> None:
        rows, aside = _batch(gaussian, FLOW_ROWS, rng), _batch(gaussian, ASIDE, rng)
        data = Prepared(rows, aside, aside, (DIM, DIM), ())
        sizes = {"hidden": 64, "components": 4, "batch_size": 256, "seed": int(rng.integers(2**31))}
        fitted["at"] = fit_flow(data, **sizes, **_pace(steps))

    def read(x: Tensor, y: Tensor) -> list[Tensor]:
        at = fitted["at"]
        z = at.to_z(y)
        return [(at.flow(at.to_u(x), z) - log_normal(z)).mean()]

    return Learner((FLOW,), fit, read)


def _pace(steps: int) -> dict[str, int]:
    every = max(1, steps // 16)
    return {"max_steps": steps, "check_every": every, "patience": 8}


def _upper_bounds(log_q: Tensor) -> list[Tensor]:
    """log_q[i, j] = log q(y_j | x_i): CLUB reads along rows, leave-one-out along columns."""
    return [upper.CLUB()(*bounds.pairs(log_q)), upper.LeaveOneOut()(*bounds.pairs(log_q.T))]


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
    """Train and read each estimator at each level. `steps` a level, the critic goes on from the level below."""
    unknown = set(estimators) - set(ESTIMATORS)
    if unknown:
        raise ValueError(f"no estimator is called {', '.join(sorted(unknown))}; there are {', '.join(ESTIMATORS)}")
    makers: list[tuple[tuple[str, ...], Callable[[], Learner]]] = [
        ((name,), lambda name=name: of_bound(name, batch_size, steps)) for name in neural.BOUNDS
    ]
    makers += [(DENSITIES, lambda: of_densities(steps)), ((FLOW,), lambda: of_flow(steps))]
    wanted = [(names, make, seed) for names, make in makers if set(names) & set(estimators) for seed in seeds]
    result = []
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with torch.random.fork_rng(devices=[]), Progress(*columns, disable=not progress) as bar:
        job = bar.add_task("staircase", total=len(wanted) * len(levels))
        for names, make, seed in wanted:
            torch.manual_seed(seed)
            rng = np.random.default_rng(seed)
            learner = make()
            for level in levels:
                bar.update(job, description=f"{', '.join(names)} at {level:g} nats, seed {seed}")
                gaussian = gaussian_with_mi(level, DIM)
                learner.fit(gaussian, _stream(gaussian, batch_size, rng), rng)
                fresh = [_batch(gaussian, batch_size, rng) for _ in range(batches)]
                facts = (learner.ceiling, batch_size, batches, steps)
                learned, optimal = _read(learner, fresh), _read_optimal(names, level, fresh)
                for place, name in enumerate(names):
                    theory = theory_sd(level, batch_size) if name in EXPLODING else math.nan
                    for critic, values in (("learned", learned[:, place]), ("optimal", optimal[:, place])):
                        mean, sd = float(values.mean()), float(values.std(ddof=1))
                        if name in estimators:
                            result.append(Step(name, critic, level, seed, mean, mean - level, sd, theory, *facts))
                bar.advance(job)
    return result


def theory_sd(mi: float, n: int, dim: int = DIM) -> float:
    """Standard deviation over batches of n of a DV-like bound at the optimal critic (see the top), nats."""
    rho_squared = -math.expm1(-2 * mi / dim)
    return math.sqrt(dim * rho_squared / n + math.expm1(2 * mi) / (n * (n - 1)))


def optimal_scores(rho: float, x: Tensor, y: Tensor) -> Tensor:
    """log p(y_j | x_i) / p(y_j) for unit Gaussians correlated by `rho` in every coordinate: [n, n]."""
    kept = 1 - rho**2
    squares = (x**2).sum(1)[:, None] + (y**2).sum(1)[None]
    return (rho * x @ y.T - rho**2 * squares / 2) / kept - x.shape[1] / 2 * math.log(kept)


def _value(of: Callable[..., Tensor], *arguments: Tensor) -> float:
    with torch.no_grad():
        return float(of(*arguments))


@torch.no_grad()
def _read(learner: Learner, fresh: list[Pair]) -> np.ndarray:
    return np.array([[float(value) for value in learner.read(x, y)] for x, y in fresh])


@torch.no_grad()
def _read_optimal(names: tuple[str, ...], mi: float, fresh: list[Pair]) -> np.ndarray:
    rho = math.sqrt(-math.expm1(-2 * mi / DIM))
    values = []
    for x, y in fresh:
        log_r = optimal_scores(rho, x.double(), y.double())
        if names == DENSITIES:
            log_q = log_r - 0.5 * (y.double() ** 2).sum(1)[None] - DIM / 2 * math.log(2 * math.pi)
            values.append([*_upper_bounds(log_q), log_r.diagonal().mean()])
        elif names == (FLOW,):
            values.append([log_r.diagonal().mean()])
        else:
            (name,) = names
            values.append([neural.BOUNDS[name]().eval()(*bounds.pairs(log_r + OFFSETS.get(name, 0.0)))])
    return np.array([[float(v) for v in row] for row in values])


def _batch(gaussian: Gaussian, n: int, rng: np.random.Generator) -> Pair:
    x, y = gaussian.sample(n, rng)
    return torch.from_numpy(x).float(), torch.from_numpy(y).float()


def _stream(gaussian: Gaussian, n: int, rng: np.random.Generator) -> Iterator[Pair]:
    while True:
        yield _batch(gaussian, n, rng)


# ------------------------------------------------------------------------------------------------ CSV and table


class Stair(NamedTuple):
    """An estimator at a level over its seeds: mean of the means, mean sd of a batch, sd between seeds; nats."""

    mean: float
    sd: float
    between: float


def over_seeds(rows: Sequence[Step], estimator: str, critic: str) -> dict[float, Stair]:
    """{true: Stair}, levels upwards."""
    found: dict[float, list[Step]] = {}
    for row in rows:
        if (row.estimator, row.critic) == (estimator, critic):
            found.setdefault(row.true, []).append(row)
    result = {}
    for true, group in sorted(found.items()):
        means = [row.mean for row in group]
        between = float(np.std(means, ddof=1)) if len(means) > 1 else math.nan
        result[true] = Stair(float(np.mean(means)), float(np.mean([row.sd for row in group])), between)
    return result


def write(rows: Sequence[Step], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Step._fields)
        writer.writerows(rows)


def read_csv(path: Path) -> list[Step]:
    """Rows that `write` has written."""
    kinds = {"estimator": str, "critic": str, "seed": int, "batch_size": int, "batches": int, "steps": int}
    with path.open(newline="") as file:
        return [Step(**{k: kinds.get(k, float)(v) for k, v in line.items()}) for line in csv.DictReader(file)]


def table(rows: Sequence[Step]) -> Table:
    levels = sorted({row.true for row in rows})
    n, seeds = rows[0].batch_size, len({row.seed for row in rows})
    title = f"batches of {n}, log n = {math.log(n):.2f}; mean ± sd over batches in nats, {seeds} seeds"
    drawn = Table(title=title)
    drawn.add_column("estimator", no_wrap=True)
    drawn.add_column("critic", no_wrap=True)
    for level in levels:
        drawn.add_column(f"true {level:g}", justify="right", no_wrap=True)
    for name in dict.fromkeys(row.estimator for row in rows):
        for critic in ("learned", "optimal"):
            stairs = over_seeds(rows, name, critic)
            drawn.add_row(name, critic, *(f"{short(stairs[v].mean)} ± {short(stairs[v].sd)}" for v in levels))
    return drawn


def short(nats: float) -> str:
    """Two decimals, or powers of ten for a critic that ran away."""
    return f"{nats:.2f}" if abs(nats) < 1000 else f"{nats:.0e}"


def main(argv: Sequence[str] | None = None) -> int:
    from ssl_mi.information.apps.staircase_plot import picture  # which needs what is defined above

    parser = argparse.ArgumentParser(
        prog="python -m ssl_mi.information.apps.staircase",
        description="Bias and spread of every variational estimator as the true MI climbs from 2 to 10 nats.",
    )
    parser.add_argument("--estimators", default=",".join(ESTIMATORS), help="default: %(default)s")
    parser.add_argument("--steps", type=int, default=800, help="of training, a level (default: %(default)s)")
    parser.add_argument("--batches", type=int, default=100, help="read, a level (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=64, help="default: %(default)s")
    parser.add_argument("--seeds", type=int, default=3, help="fits an estimator (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("staircase.csv"), help="default: %(default)s")
    parser.add_argument("--picture", type=Path, default=Path("staircase.png"), help="default: %(default)s")
    arguments = parser.parse_args(argv)
    console = plain_console(120)
    names = [name for name in arguments.estimators.split(",") if name]
    try:
        rows = staircase(
            names,
            batch_size=arguments.batch_size,
            steps=arguments.steps,
            batches=arguments.batches,
            seeds=range(arguments.seeds),
            progress=console.is_terminal,
        )
    except ValueError as problem:
        parser.error(str(problem))
    write(rows, arguments.out)
    picture(rows, arguments.picture)
    console.print(table(rows))
    console.print(f"written: {arguments.out}, {arguments.picture}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
