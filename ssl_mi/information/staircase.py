"""What each variational estimator does as the truth climbs: 2, 4, 6, 8, 10 nats, beside theory.

    python -m ssl_mi.information.staircase --out staircase.csv --picture staircase.png

X and Y are standard normal in 20 dimensions, coordinates correlated pairwise (Poole et al. 2019, arXiv
1905.06922, section 3; Song & Ermon 2020, arXiv 1910.06222, section 6.1). The critic is trained on an endless stream
of batches of 64, one level after the other, so nothing can overfit; then it is read on fresh batches of 64. Every
estimator is also read with the *optimal* critic, log p(y|x)/p(y): what is wrong there is the bound's own doing.

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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from torch import Tensor, nn

from ssl_mi.information import bounds, critics, neural, upper
from ssl_mi.information.distributions import Gaussian, gaussian_with_mi

LEVELS = (2.0, 4.0, 6.0, 8.0, 10.0)
DIM = 20
# log r + offset is the optimal critic; for the others any offset does.
OFFSETS = {"nwj": 1.0, "tuba": 1.0, "interpolated": 1.0}
EXPLODING = ("dv", "mine", "nwj", "tuba", "js")


class Step(NamedTuple):
    """One estimator at one level: statistics over batches, nats."""

    estimator: str
    critic: str  # learned or optimal
    true: float
    mean: float
    bias: float
    sd: float
    theory_sd: float
    ceiling: float
    batch_size: int
    batches: int
    steps: int


class Climber(NamedTuple):
    """Something to train upwards on batches, and how to read it on one."""

    modules: list[nn.Module]
    objective: Callable[[Tensor, Tensor], Tensor]
    read: Callable[[Tensor, Tensor], Tensor]
    ceiling: float


def of_bound(name: str, batch_size: int) -> Climber:
    """A separable critic under a bound of `neural.BOUNDS`."""
    bound, critic = neural.BOUNDS[name](), critics.Separable(DIM, DIM, hidden=(256, 256), width=32)

    def value(x: Tensor, y: Tensor) -> Tensor:
        return bound(*bounds.pairs(critic(x, y)))

    return Climber([critic, bound], value, value, bound.ceiling(batch_size - 1))


def of_density(name: str) -> Climber:
    """A learned q(y|x), and for the difference of entropies q(y) as well."""
    conditional, marginal = upper.AutoregressiveMixture(DIM, DIM), upper.AutoregressiveMixture(DIM)

    def likelihood(x: Tensor, y: Tensor) -> Tensor:
        return conditional(y, x).mean() + marginal(y).mean()

    def read(x: Tensor, y: Tensor) -> Tensor:
        if name == "difference_of_entropies":
            return (conditional(y, x) - marginal(y)).mean()
        log_q = conditional(y[None].expand(len(x), -1, -1), x[:, None].expand(-1, len(y), -1))
        return _upper_bound(name, log_q)

    return Climber([conditional, marginal], likelihood, read, math.inf)


def _upper_bound(name: str, log_q: Tensor) -> Tensor:
    """log_q[i, j] = log q(y_j | x_i): CLUB reads along rows, leave-one-out along columns."""
    return upper.CLUB()(*bounds.pairs(log_q)) if name == "club" else upper.LeaveOneOut()(*bounds.pairs(log_q.T))


DENSITIES = ("club", "leave_one_out", "difference_of_entropies")
ESTIMATORS = (*neural.BOUNDS, *DENSITIES)


def staircase(
    estimators: Sequence[str] = ESTIMATORS,
    levels: Sequence[float] = LEVELS,
    *,
    batch_size: int = 64,
    steps: int = 400,
    batches: int = 200,
    learning_rate: float = 1e-3,
    seed: int = 0,
    progress: bool = False,
) -> list[Step]:
    """Train and read each estimator at each level. `steps` a level, the critic goes on from the level below."""
    unknown = set(estimators) - set(ESTIMATORS)
    if unknown:
        raise ValueError(f"no estimator is called {', '.join(sorted(unknown))}; there are {', '.join(ESTIMATORS)}")
    result = []
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with torch.random.fork_rng(devices=[]), Progress(*columns, disable=not progress) as bar:
        job = bar.add_task("staircase", total=len(estimators) * len(levels))
        for name in estimators:
            torch.manual_seed(seed)
            rng = np.random.default_rng(seed)
            climber = of_density(name) if name in DENSITIES else of_bound(name, batch_size)
            parameters = [p for module in climber.modules for p in module.parameters()]
            optimizer = torch.optim.Adam(parameters, lr=learning_rate)
            for level in levels:
                bar.update(job, description=f"{name} at {level:g} nats")
                gaussian = gaussian_with_mi(level, DIM)
                _train(climber, optimizer, parameters, gaussian, batch_size, steps, rng)
                fresh = [_batch(gaussian, batch_size, rng) for _ in range(batches)]
                learned, optimal = _read(climber, fresh), _read_optimal(name, level, fresh)
                for critic, values in (("learned", learned), ("optimal", optimal)):
                    theory = theory_sd(level, batch_size) if name in EXPLODING else math.nan
                    mean, sd = float(values.mean()), float(values.std(ddof=1))
                    facts = (climber.ceiling, batch_size, batches, steps)
                    result.append(Step(name, critic, level, mean, mean - level, sd, theory, *facts))
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


def _train(climber: Climber, optimizer, parameters, gaussian: Gaussian, batch_size: int, steps: int, rng) -> None:
    for module in climber.modules:
        module.train()
    for _ in range(steps):
        x, y = _batch(gaussian, batch_size, rng)
        optimizer.zero_grad()
        (-climber.objective(x.float(), y.float())).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()


def _read(climber: Climber, fresh: list[tuple[Tensor, Tensor]]) -> np.ndarray:
    for module in climber.modules:
        module.eval()
    with torch.no_grad():
        return np.array([float(climber.read(x.float(), y.float())) for x, y in fresh])


@torch.no_grad()
def _read_optimal(name: str, mi: float, fresh: list[tuple[Tensor, Tensor]]) -> np.ndarray:
    rho = math.sqrt(-math.expm1(-2 * mi / DIM))
    values = []
    for x, y in fresh:
        log_r = optimal_scores(rho, x, y)
        if name == "difference_of_entropies":
            values.append(log_r.diagonal().mean())
        elif name in DENSITIES:
            log_q = log_r - 0.5 * (y**2).sum(1)[None] - DIM / 2 * math.log(2 * math.pi)
            values.append(_upper_bound(name, log_q))
        else:
            values.append(neural.BOUNDS[name]().eval()(*bounds.pairs(log_r + OFFSETS.get(name, 0.0))))
    return np.array([float(v) for v in values])


def _batch(gaussian: Gaussian, n: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    x, y = gaussian.sample(n, rng)
    return torch.from_numpy(x), torch.from_numpy(y)


# -------------------------------------------------------------------------------------------- CSV, table, picture


def write(rows: Sequence[Step], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Step._fields)
        writer.writerows(rows)


def table(rows: Sequence[Step]) -> Table:
    levels = list(dict.fromkeys(row.true for row in rows))
    title = f"batches of {rows[0].batch_size}, log n = {math.log(rows[0].batch_size):.2f}: mean ± sd over batches, nats"
    drawn = Table(title=title)
    drawn.add_column("estimator", no_wrap=True)
    drawn.add_column("critic", no_wrap=True)
    for level in levels:
        drawn.add_column(f"true {level:g}", justify="right", no_wrap=True)
    for name in dict.fromkeys(row.estimator for row in rows):
        for critic in ("learned", "optimal"):
            found = {r.true: r for r in rows if (r.estimator, r.critic) == (name, critic)}
            cells = [f"{_short(found[v].mean)} ± {_short(found[v].sd)}" if v in found else "-" for v in levels]
            drawn.add_row(name, critic, *cells)
    return drawn


def _short(nats: float) -> str:
    """Two decimals, or powers of ten for a critic that ran away (MINE's moving average can let it)."""
    return f"{nats:.2f}" if abs(nats) < 1000 else f"{nats:.0e}"


def picture(rows: Sequence[Step], path: Path) -> None:
    """A panel an estimator: mean and sd of the batches over the truth; and one for all spreads beside theory."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(row.estimator for row in rows))
    levels = np.array(sorted({row.true for row in rows}))
    n = rows[0].batch_size
    top = 1.5 * levels.max()
    across = 4
    down = math.ceil((len(names) + 1) / across)
    figure = Figure(figsize=(3.4 * across, 3 * down), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False).ravel()
    for panel in panels[len(names) + 1 :]:
        panel.set_axis_off()
    for panel, name in zip(panels, names, strict=False):
        panel.plot([0, levels.max() + 1], [0, levels.max() + 1], color="black", lw=1, label="truth")
        ceiling = next(row.ceiling for row in rows if row.estimator == name)
        if math.isfinite(ceiling):
            panel.axhline(ceiling, color="C3", ls=":", label=f"ceiling {ceiling:.2f}")
        for critic, colour, shift in (("learned", "C0", -0.12), ("optimal", "C1", 0.12)):
            mine = [row for row in rows if (row.estimator, row.critic) == (name, critic)]
            places = [row.true + shift for row in mine]
            means, sds = [row.mean for row in mine], [row.sd for row in mine]
            panel.errorbar(places, means, sds, fmt="o", ms=4, color=colour, capsize=2, label=f"{critic} critic ± sd")
        panel.set(title=name, xlim=(0, levels.max() + 1), ylim=(-1, top), xlabel="true nats", ylabel="read nats")
        panel.legend(fontsize=6, loc="upper left")
    last = panels[len(names)]
    for k, name in enumerate(names):
        mine = [row for row in rows if (row.estimator, row.critic) == (name, "learned")]
        # A saturated InfoNCE has a spread of next to nothing: keep it on the page.
        last.plot([r.true for r in mine], [max(r.sd, 1e-3) for r in mine], "o-", ms=3, color=f"C{k % 10}", label=name)
    last.plot(levels, [theory_sd(mi, n) for mi in levels], color="black", ls="--", label="theory, e^I family")
    last.set(title="spread of a batch, learned critic", yscale="log", xlabel="true nats", ylabel="sd, nats")
    last.legend(fontsize=5, ncols=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m ssl_mi.information.staircase",
        description="Bias and spread of every variational estimator as the true MI climbs from 2 to 10 nats.",
    )
    parser.add_argument("--estimators", default=",".join(ESTIMATORS), help="default: %(default)s")
    parser.add_argument("--steps", type=int, default=400, help="of training, a level (default: %(default)s)")
    parser.add_argument("--batches", type=int, default=200, help="read, a level (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=64, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("staircase.csv"), help="default: %(default)s")
    parser.add_argument("--picture", type=Path, default=Path("staircase.png"), help="default: %(default)s")
    arguments = parser.parse_args(argv)
    console = Console()
    if not console.is_terminal:
        console = Console(width=120)  # a log file has no width of its own
    names = [name for name in arguments.estimators.split(",") if name]
    try:
        rows = staircase(
            names,
            batch_size=arguments.batch_size,
            steps=arguments.steps,
            batches=arguments.batches,
            seed=arguments.seed,
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
