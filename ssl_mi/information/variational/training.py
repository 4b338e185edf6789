"""Training of critics and densities: maximise an objective on some rows, keep the weights that others validate.

`maximise` knows nothing of mutual information and is the only training loop of the estimators; `fit_critic` maximises
a bound (bounds.py) with a critic (critics.py). Pairs for the product of the marginals never hold a true pair: all other
rows of the batch, or k derangements of it.

The gradient of a bound with e^T in it is heavy-tailed: a batch's share of it grows like e^I (Song & Ermon 2020, arXiv
1910.06222, theorem 2), and MINE's moving average lags behind a critic that moves fast. Nothing here changes the
bound; three things keep its path in hand:

- the norm of each gradient is cut to `Training.clip_norm` (Pascanu, Mikolov & Bengio 2013, arXiv 1211.5063,
  section 3.2);
- after `patience` / 2 checks without a better validation value the fit returns to its best weights and goes on from
  there at `DECAY` times the rate, with fresh moments: a step too wide is taken back, a path too coarse is refined;
- the best weights of all are kept. How far a fit fell below its best is part of its warnings.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from ssl_mi.information.core.caution import Caution
from ssl_mi.information.variational import bounds
from ssl_mi.information.variational.critics import Critic
from ssl_mi.information.variational.held_out import evaluating, gather, score_blocks

DECAY = 0.3
FALLEN = 1.0  # nats below its best on the validation rows, from which a fit is said to have run away

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Training:
    """How networks are fitted.

    Args:
        batch_size: rows a step; None: what suits the critic (`Critic.batch_size`: 256, or 64 for a concat critic,
            whose cost is the square).
        negatives: None: every other row of the batch; k: k derangements of the batch.
        learning_rate: of AdamW, at the first step or, with a one-cycle schedule, at its top.
        weight_decay: of AdamW.
        max_steps: steps at most.
        check_every: steps between two evaluations on the validation rows.
        patience: checks without a better validation value that end the fit.
        eval_batch_size: rows scored against each other on validation and test rows, whose logarithm is InfoNCE's
            ceiling; None: what suits the critic (2048, or 128 for a concat critic).
        clip_norm: the largest norm of a gradient; infinity for no limit.
        schedule: "rollback": a constant rate, and after half of the patience back to the best weights at a smaller
            one; "one_cycle": up and down once over `max_steps` (Smith & Topin 2017, arXiv 1708.07120).
        check_start: whether the weights before the first step compete.
        device: of rows and networks.
        progress: show a bar.

    Raises:
        ValueError: for steps, checks or patience below 1 and unknown schedules.
    """

    batch_size: int | None = None
    negatives: int | None = None
    learning_rate: float = 1e-3
    weight_decay: float = 1e-3
    max_steps: int = 3000
    check_every: int = 50
    patience: int = 12
    eval_batch_size: int | None = None
    clip_norm: float = 1.0
    schedule: Literal["rollback", "one_cycle"] = "rollback"
    check_start: bool = True
    device: str | torch.device = "cpu"
    progress: bool = False

    def __post_init__(self) -> None:
        if min(self.max_steps, self.check_every, self.patience) < 1:
            raise ValueError(
                "max_steps, check_every and patience must be at least 1, "
                f"got {self.max_steps}, {self.check_every}, {self.patience}"
            )
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}, got {self.schedule!r}")

    def is_check(self, step: int) -> bool:
        """Whether the weights after `step` steps are validated."""
        if step == 0:
            return self.check_start
        return step % self.check_every == 0 or step == self.max_steps


@dataclass
class Fit:
    """How a fit went.

    Attributes:
        steps: taken.
        best_step, best_value: of the best check; nats.
        history: (step, validation value in nats) of every check.
        rollbacks: steps at which the best weights were restored.
        warnings: what may be wrong, and what to do.
    """

    steps: int = 0
    best_step: int = 0
    best_value: float = -math.inf
    history: list[tuple[int, float]] = field(default_factory=list)
    rollbacks: list[int] = field(default_factory=list)
    warnings: tuple[Caution, ...] = ()


class Keeper(Protocol):
    """What is trained, and its best weights so far."""

    @property
    def modules(self) -> Sequence[nn.Module]: ...

    def validate(self) -> tuple[float, bool]:
        """(validation value of the present weights, whether any of them are kept as the best)."""

    def restore(self) -> None:
        """Put the best weights back; nothing where none were kept."""


class BestWeights:
    """All modules together, by one value: the default `Keeper`."""

    def __init__(self, modules: Sequence[nn.Module], value: Callable[[], float]) -> None:
        self.modules, self.value = modules, value
        self.best: list[dict[str, Tensor]] | None = None
        self.best_value = -math.inf

    def validate(self) -> tuple[float, bool]:
        value = self.value()
        better = value > self.best_value
        if better:
            # state_dict() holds references, which later steps change: copy the values.
            self.best = [{k: v.detach().clone() for k, v in m.state_dict().items()} for m in self.modules]
            self.best_value = value
        return value, better

    def restore(self) -> None:
        if self.best is not None:
            for module, state in zip(self.modules, self.best, strict=True):
                module.load_state_dict(state)


def fit_critic(
    critic: Critic,
    bound: bounds.Bound,
    batches: Iterator[Pair],
    validation: Pair,
    training: Training,
    seed: int = 0,
) -> Fit:
    """Maximise `bound` on `batches`; leave `critic` and `bound` as they were best on the validation rows.

    A critic without parameters is left alone.

    Args:
        critic, bound: changed in place.
        batches: endless pairs x [b, dx], y [b, dy].
        validation: x [n, dx] and y [n, dy].
        training: how.
        seed: of the derangements, where `training.negatives` asks for some.
    """
    if not any(p.requires_grad for p in critic.parameters()):
        return Fit()
    generator = torch.Generator().manual_seed(seed)

    def objective(x: Tensor, y: Tensor) -> Tensor:
        if training.negatives is None:
            return bound(*bounds.pairs(critic(x, y)))
        return bound(*score_pairs(critic, x, y, derangements(len(x), training.negatives, generator)))

    def value() -> float:
        return validation_value(critic, bound, *validation, training.eval_batch_size or critic.eval_batch_size)

    return maximise(BestWeights([critic, bound], value), objective, batches, training)


def validation_value(critic: Critic, bound: bounds.Bound, x: Tensor, y: Tensor, batch_size: int) -> float:
    """What a critic is chosen by: `Bound.criterion` of x [n, dx] and y [n, dy], nats."""
    joint, marginal = gather(score_blocks(critic, x, y, batch_size))
    with evaluating(bound), torch.no_grad():
        return float(bound.criterion(joint, marginal))


def maximise(
    keeper: Keeper, objective: Callable[..., Tensor], batches: Iterator[tuple[Tensor, ...]], training: Training
) -> Fit:
    """Follow `objective` upwards; leave the modules with the weights that `keeper` found best.

    Args:
        keeper: what is trained and validated: at the start, every `check_every` steps and after the last.
        objective: a batch -> nats, a scalar.
        batches: endless.
        training: steps, rate, schedule and patience.
    """
    parameters = [p for module in keeper.modules for p in module.parameters()]
    optimizer = SCHEDULES[training.schedule](parameters, training)
    fit, since_best = Fit(), 0
    with _bar("fit", training.max_steps, training.progress) as advance:
        for step in range(training.max_steps + 1):
            if training.is_check(step):
                value, better = keeper.validate()
                fit.history.append((step, value))
                since_best = 0 if better else since_best + 1
                if better:
                    fit.best_value, fit.best_step = value, step
                if since_best >= training.patience or step == training.max_steps:
                    break
                if fit.best_value > -math.inf and optimizer.rolls_back(since_best):
                    keeper.restore()
                    fit.rollbacks.append(step)
            for module in keeper.modules:
                module.train()
            if not optimizer.step(-objective(*next(batches))):
                fit.warnings += _diverged(step)
                break
            fit.steps = step + 1
            advance(f"fit, validation value {fit.best_value:.3f}")
    keeper.restore()
    fit.warnings += _how_it_ended(fit, training.max_steps, since_best)
    return fit


def value_without_gradient(objective: Callable[..., Tensor], *rows: Tensor) -> float:
    """`objective` of these rows, nats."""
    with torch.no_grad():
        return float(objective(*rows))


class _Rollback:
    """AdamW at a constant rate, that starts afresh at a smaller one when progress ends."""

    def __init__(self, parameters: list[nn.Parameter], training: Training) -> None:
        self.parameters, self.training = parameters, training
        self.rate = training.learning_rate
        self.adamw = self._fresh()

    def _fresh(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters, lr=self.rate, weight_decay=self.training.weight_decay)

    def rolls_back(self, since_best: int) -> bool:
        """Whether, so many checks after the best, the best weights are to be restored; the rate is then lower."""
        if since_best != max(1, self.training.patience // 2):
            return False
        self.rate *= DECAY
        self.adamw = self._fresh()
        return True

    def step(self, loss: Tensor) -> bool:
        """One step; False, with nothing changed, where loss or gradient are not finite."""
        self.adamw.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.parameters, self.training.clip_norm)
        if not (torch.isfinite(loss) and torch.isfinite(norm)):
            return False
        self.adamw.step()
        return True


class _OneCycle(_Rollback):
    """AdamW whose rate goes up and down once; it never goes back."""

    def __init__(self, parameters: list[nn.Parameter], training: Training) -> None:
        super().__init__(parameters, training)
        self.cycle = torch.optim.lr_scheduler.OneCycleLR(
            self.adamw, training.learning_rate, total_steps=training.max_steps
        )

    def rolls_back(self, since_best: int) -> bool:
        return False

    def step(self, loss: Tensor) -> bool:
        stepped = super().step(loss)
        if stepped:
            self.cycle.step()
        return stepped


SCHEDULES: dict[str, type[_Rollback]] = {"rollback": _Rollback, "one_cycle": _OneCycle}


def _diverged(step: int) -> tuple[Caution, ...]:
    said = f"the fit diverged at step {step}: lower learning_rate, or take a steadier bound"
    return (Caution("fit-diverged", said, {"step": step}),)


def _how_it_ended(fit: Fit, max_steps: int, since_best: int) -> tuple[Caution, ...]:
    warnings = []
    top, high, low = -math.inf, 0.0, 0.0
    for _, value in fit.history:
        top = max(top, value)
        if top - value > high - low:
            high, low = top, value
    if high - low > FALLEN:
        said = (
            f"during the fit the value on the validation rows fell from {high:.2f} to {low:.2f}, and it went back to "
            "its best weights: give more rows, lower learning_rate, or take a steadier bound"
        )
        warnings.append(Caution("fit-fell", said, {"from": high, "to": low}))
    if fit.steps == max_steps and since_best < 2:
        said = f"the fit was still improving at its last step, {max_steps}: raise max_steps"
        warnings.append(Caution("fit-cut-short", said, {"max_steps": max_steps}))
    return tuple(warnings)


# ------------------------------------------------------------------------------------------------- the pairs


def derangements(n: int, k: int, generator: torch.Generator) -> Tensor:
    """k partners for each of n rows, never itself and never twice: int64 [n, k]. Each column is a derangement.

    Cyclic shifts of a random order: shift s sends the row at place p to the row at place p + s mod n, which is
    a permutation without fixed points for every s != 0. (A plain random permutation keeps one row in place on
    average, and that true pair among the false ones caps the bound.)
    """
    if not 1 <= k <= n - 1:
        raise ValueError(f"negatives must lie between 1 and {n - 1} (the other rows of a batch of {n}), got {k}")
    order = torch.randperm(n, generator=generator)
    place = torch.empty_like(order)
    place[order] = torch.arange(n)
    shifts = torch.randperm(n - 1, generator=generator)[:k] + 1
    return order[(place[:, None] + shifts) % n]


def score_pairs(critic: Critic, x: Tensor, y: Tensor, partners: Tensor) -> tuple[Tensor, Tensor]:
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


@contextmanager
def _bar(description: str, total: int, shown: bool) -> Iterator[Callable[[str], None]]:
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, disable=not shown, transient=True) as bar:
        task = bar.add_task(description, total=total)
        yield lambda text: bar.update(task, advance=1, description=text)
