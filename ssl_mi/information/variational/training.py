"""Climbing an objective on some rows, judged on others: the best weights come back, and a fit gone wild is taken back.

`climb` knows nothing of mutual information; `fit_critic` climbs a bound (bounds.py) with a critic (critics.py).
Pairs for the product of the marginals never hold a true pair: all other rows of the batch, or k derangements of it.

The gradient of a bound with e^T in it is heavy-tailed: a batch's share of it grows like e^I (Song & Ermon 2020, arXiv
1910.06222, theorem 2), and MINE's moving average lags behind a critic that moves fast. Nothing here changes the
bound; three things keep its path in hand:

- the norm of each gradient is cut to `CLIP` (Pascanu, Mikolov & Bengio 2013, arXiv 1211.5063, section 3.2);
- after `patience` / 2 checks without a better stop value the fit returns to its best weights and goes on from there
  at `DECAY` times the rate, with fresh moments: a step too wide is taken back, a path too coarse is refined;
- the best weights of all are what is read. How far a fit fell below its best is kept and said.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from ssl_mi.information.variational import bounds
from ssl_mi.information.variational.held_out import evaluating, gather, score_blocks

CLIP = 1.0
DECAY = 0.3
WILD = 1.0  # nats below its best on the stop rows, from which a fit is said to have run away


@dataclass
class Fit:
    """How a fit went: the best check (step, stop value in nats), every check, and what to beware of."""

    steps: int = 0
    best_step: int = 0
    best_value: float = -math.inf
    history: list[tuple[int, float]] = field(default_factory=list)
    retreats: list[int] = field(default_factory=list)  # steps at which the best weights were taken up again
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


def stop_value(critic: nn.Module, bound: bounds.Bound, x: Tensor, y: Tensor, read_batch: int) -> float:
    """What to choose a critic by: the bound, or for JS and SMILE the objective that they really climb.

    (SMILE's value is no lower bound: choosing the critic with the largest would choose over-estimates.)
    """
    joint, marginal = gather(score_blocks(critic, x, y, read_batch))
    if isinstance(bound, bounds.JS | bounds.SMILE):
        return float(bounds.jensen_shannon(joint, marginal))
    with evaluating(bound), torch.no_grad():
        return float(bound(joint, marginal))


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

    def optimizer_at(rate: float) -> torch.optim.Optimizer:
        return torch.optim.AdamW(parameters, lr=rate, weight_decay=weight_decay)

    rate = learning_rate
    optimizer = optimizer_at(rate)
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
                if best is not None and since_best == max(1, patience // 2):
                    rate *= DECAY
                    _restore(modules, best)
                    optimizer = optimizer_at(rate)
                    fit.retreats.append(step)
            for module in modules:
                module.train()
            loss = -objective(*next(batches))
            optimizer.zero_grad()
            loss.backward()
            norm = nn.utils.clip_grad_norm_(parameters, CLIP)
            if not (torch.isfinite(loss) and torch.isfinite(norm)):
                fit.warnings += (f"the fit diverged at step {step}: lower learning_rate, or take a steadier bound",)
                break
            optimizer.step()
            fit.steps = step + 1
            advance(f"fit, stop value {fit.best_value:.3f}")
    if best is not None:
        _restore(modules, best)
    fit.warnings += _how_it_ended(fit, max_steps, since_best)
    return fit


def _how_it_ended(fit: Fit, max_steps: int, since_best: int) -> tuple[str, ...]:
    said, top, high, low = [], -math.inf, 0.0, 0.0
    for _, value in fit.history:
        top = max(top, value)
        if top - value > high - low:
            high, low = top, value
    if high - low > WILD:
        said.append(
            f"during the fit the value on the stop rows fell from {high:.2f} to {low:.2f}, and it went back to its "
            "best weights: give more rows, lower learning_rate, or take a steadier bound"
        )
    if fit.steps == max_steps and since_best < 2:
        said.append(f"the fit was still improving at its last step, {max_steps}: raise max_steps")
    return tuple(said)


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


# -------------------------------------------------------------------------------------------------- plumbing


def _cloned_state(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def _restore(modules: list[nn.Module], states: list[dict[str, Tensor]]) -> None:
    for module, state in zip(modules, states, strict=True):
        module.load_state_dict(state)


@contextmanager
def _bar(description: str, total: int, shown: bool) -> Iterator[Callable[[str], None]]:
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, disable=not shown, transient=True) as bar:
        task = bar.add_task(description, total=total)
        yield lambda text: bar.update(task, advance=1, description=text)
