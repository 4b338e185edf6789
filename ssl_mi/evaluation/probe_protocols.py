"""Further probes: few labels, the SGD protocol, a sweep of k and temperature, fine-tuning, and regression.

What has to be chosen (a learning rate, k, a penalty) is chosen on validation samples or on a part of the samples that
are fitted on. The samples that are measured are used once, at what was chosen, and the last epoch is what counts.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ssl_mi.evaluation.accuracy import wilson
from ssl_mi.evaluation.context import Evaluation, EvaluationContext
from ssl_mi.evaluation.embed import Features
from ssl_mi.evaluation.logistic import DECAYS, LinearClassifier, fit_linear, tuned_linear
from ssl_mi.evaluation.measurement import Measurement
from ssl_mi.evaluation.neighbours import knn_votes, nearest, votes_of
from ssl_mi.evaluation.probes import KNN, Probe
from ssl_mi.evaluation.wide import eigh, narrow

T_975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)  # Student t, 1 to 10 degrees of freedom


def mean_and_interval(values: Sequence[float]) -> tuple[float, float, float, float]:
    """(mean, standard deviation, low, high) with the 95% Student-t interval of the mean; NaN where there is one value.

    Args:
        values: Of independent repetitions.
    """
    n, mean = len(values), math.fsum(values) / len(values)
    if n < 2:
        return mean, math.nan, math.nan, math.nan
    sd = math.sqrt(math.fsum((x - mean) ** 2 for x in values) / (n - 1))
    half = (T_975[n - 2] if n - 2 < len(T_975) else 1.96 + 2.5 / (n - 1)) * sd / math.sqrt(n)
    return mean, sd, mean - half, mean + half


def _labelled(features: Features) -> Tensor:
    assert features.labels is not None  # `check` and `embed` have seen to it
    return features.labels


@dataclass
class FewLabels(Evaluation):
    """Accuracy of the linear probe on few of the labels, drawn evenly from the classes, several times.

    Attributes:
        shares: Of the labelled samples.
        per_class: Labelled samples of each class.
        draws: Draws of the few; the interval is that of their mean.
        seed: Of the draws.
    """

    shares: Sequence[float] = (0.01, 0.1)
    per_class: Sequence[int] = (10,)
    draws: int = 5
    seed: int = 0
    name: str = field(default="probes", init=False)

    def embed(self, context: EvaluationContext) -> None:
        """Features to fit on and to judge on."""
        if context.data.labelled.labels is not None:
            context.fitting()
            context.features(context.split)

    def compute(self, context: EvaluationContext) -> list[Measurement]:
        """One measurement for each number of labels that there are enough samples for."""
        if context.data.labelled.labels is None:
            return []
        labels = _labelled(context.fitting())
        found = []
        for share in self.shares:
            few = max(1, round(share * len(labels)))
            words = f"linear-probe accuracy, {share:.0%} of the labels"
            found.append(self._measured(context, f"linear_probe_{100 * share:g}pct_accuracy", words, few, None))
        for each in self.per_class:
            if each <= int(labels.bincount().max()):
                words = f"linear-probe accuracy, {each} labels a class"
                found.append(self._measured(context, f"linear_probe_{each}_a_class_accuracy", words, None, each))
        return found

    def _measured(
        self, context: EvaluationContext, metric: str, words: str, few: int | None, each: int | None
    ) -> Measurement:
        fit, held_out = context.fitting(), context.features(context.split)
        labels, truth = _labelled(fit), _labelled(held_out)
        classes = len(context.data.labelled.class_names)
        (x, queries), _ = narrow(fit.h, held_out.h)
        accuracies, used = [], 0
        for draw in range(self.draws):
            rows = few_rows(labels, few, each, self.seed + draw)
            used = len(rows)
            predicted = _few_shot(x[rows], labels[rows], classes, draw)(queries).argmax(1)
            accuracies.append((predicted == truth).float().mean().item())
        mean, sd, low, high = mean_and_interval(accuracies)
        return context.measurement(
            self.name,
            metric,
            words,
            mean,
            low=low,
            high=high,
            baseline=truth.bincount().max().item() / len(truth),
            ceiling=1.0,
            n=len(truth),
            note=f"{used} labels, {self.draws} draws, sd {sd:.3f}; the interval is that of the mean over draws",
        )


def few_rows(labels: Tensor, few: int | None, each: int | None, seed: int) -> Tensor:
    """Rows with few labels, spread evenly over the classes.

    Args:
        labels: int64 `[n]`.
        few: Rows in all; or
        each: rows of each class, all of a class that has fewer.
        seed: Of the draw.
    """
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    shuffled = labels[order]
    place = torch.empty_like(order)  # how many of its class come before a row
    for c in shuffled.unique():
        of = (shuffled == c).nonzero().flatten()
        place[of] = torch.arange(len(of))
    if each is not None:
        return order[place < each]
    return order[place.argsort(stable=True)[:few]]


def _few_shot(x: Tensor, labels: Tensor, classes: int, seed: int) -> LinearClassifier:
    """Of at least five rows a class the penalty is chosen on a fifth of them; of fewer it is 1."""
    if len(x) >= 5 * classes:
        return tuned_linear(x, labels, classes, DECAYS, seed)
    return fit_linear(x, labels, classes, 1.0)


@dataclass
class KNNSweep(KNN):
    """Accuracy of nearest neighbours at the k and temperature that are best on the validation samples.

    Attributes:
        ks: Numbers of neighbours.
        temperatures: Of the weights.
        limit, details: See `Probe`.
        k, temperature: Not used: they are chosen.
    """

    ks: Sequence[int] = (1, 5, 10, 20, 50, 100, 200)
    temperatures: Sequence[float] = (0.02, 0.07, 0.1, 0.5)
    chooses_on_validation = True
    metric = "knn_sweep_accuracy"
    quantity = "kNN accuracy, k and T chosen on validation"
    headline = ""
    wants_pixels = False
    listed: list[dict[str, Any]] = field(default_factory=list, init=False, repr=False)

    def embed(self, context: EvaluationContext) -> None:
        """Features to vote, to choose on and to judge on."""
        super().embed(context)
        if context.data.labelled.labels is not None:
            self._val = context.features("val")

    def scores(self, x: Tensor, labels: Tensor, queries: Tensor, classes: int) -> tuple[Tensor, str]:
        """See `Probe.scores`."""
        truth, h = _labelled(self._val), self._val.h.to(x)
        ks = sorted({min(k, len(x)) for k in self.ks})
        similarity, neighbour = nearest(x, h, ks[-1])  # of fewer neighbours the first ones
        self.listed = []
        for k in ks:
            for t in self.temperatures:
                votes = votes_of(similarity[:, :k], labels[neighbour[:, :k]], classes, t)
                hits = votes.argmax(1).cpu() == truth
                self.listed.append({"k": k, "temperature": t, "validation_accuracy": hits.float().mean().item()})
        best = max(self.listed, key=lambda row: row["validation_accuracy"])
        k, t = int(best["k"]), float(best["temperature"])
        return knn_votes(x, labels, queries, classes, k, t), f"k {k}, T {t:g}, best of {len(self.listed)}"

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """The accuracy on validation samples at every k and temperature."""
        return {"knn_sweep": self.listed}


@dataclass
class SGDProbe(Probe):
    """Accuracy of a linear classifier trained by SGD, as in the papers; the last epoch, never the best.

    Features are standardised. Momentum 0.9, no weight decay, batches of 256, the rate lowered tenfold after 60% and 80%
    of the epochs.

    Attributes:
        epochs: Of training.
        rates: Learning rates, of which the best on validation samples is taken.
        seed: Of the order of the batches.
        limit, details: See `Probe`.

    References:
        He et al. 2020, arXiv:1911.05722, section 4.1 (the schedule).
    """

    epochs: int = 100
    rates: Sequence[float] = (0.01, 0.1, 1.0)
    seed: int = 0
    chooses_on_validation = True
    metric = "sgd_probe_accuracy"
    quantity = "linear-probe accuracy, SGD"
    wants_pixels = False

    def embed(self, context: EvaluationContext) -> None:
        """Features to fit on, to choose on and to judge on."""
        super().embed(context)
        if context.data.labelled.labels is not None:
            self._val = context.features("val")

    def scores(self, x: Tensor, labels: Tensor, queries: Tensor, classes: int) -> tuple[Tensor, str]:
        """See `Probe.scores`."""
        mean, scale = x.mean(0), x.std(0).clamp_min(1e-6)
        x = (x - mean) / scale
        h, truth = (self._val.h.to(x) - mean) / scale, _labelled(self._val).to(x.device)
        heads = [self._fit(x, labels, classes, rate) for rate in self.rates]
        hits = [(head(h).argmax(1) == truth).float().mean().item() for head in heads]
        best = max(range(len(heads)), key=hits.__getitem__)
        note = f"SGD, {self.epochs} epochs, rate {self.rates[best]:g} of {', '.join(f'{r:g}' for r in self.rates)}"
        with torch.no_grad():
            return heads[best]((queries - mean) / scale), f"{note} chosen on validation"

    def _fit(self, x: Tensor, labels: Tensor, classes: int, rate: float) -> nn.Linear:
        generator = torch.Generator().manual_seed(self.seed)
        head = nn.utils.skip_init(nn.Linear, x.shape[1], classes, device=x.device)
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        optimizer = torch.optim.SGD(head.parameters(), rate, momentum=0.9)
        milestones = [round(0.6 * self.epochs), round(0.8 * self.epochs)]
        schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones)
        with torch.enable_grad():
            for _ in range(self.epochs):
                for rows in torch.randperm(len(x), generator=generator).to(x.device).split(256):
                    optimizer.zero_grad()
                    cross_entropy(head(x[rows]), labels[rows]).backward()
                    optimizer.step()
                schedule.step()
        return head.requires_grad_(False)


@dataclass
class FineTuning(Evaluation):
    """Accuracy of a copy of the encoder that is trained on labels with a linear head: a short recipe, not a record.

    AdamW, cosine decay, horizontal flips, the head from zero. Nothing is chosen; the last epoch is measured, once.

    Attributes:
        epochs: Of training.
        rate: Learning rate of the encoder; that of the head is ten times as large.
        batch_size: Images at once.
        limit: Labelled images that are trained on; None for all.
        seed: Of the batches and flips.
    """

    epochs: int = 3
    rate: float = 1e-4
    batch_size: int = 64
    limit: int | None = 2000
    seed: int = 0
    name: str = field(default="probes", init=False)

    def compute(self, context: EvaluationContext) -> list[Measurement]:
        """The accuracy on the split."""
        encoder: Any = getattr(context.module, "encoder", None)
        if context.data.labelled.labels is None or not isinstance(encoder, nn.Module):
            return []
        if not any(True for _ in encoder.parameters()):
            return []
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            network, trained_on = self._trained(context, copy.deepcopy(encoder))
        hits = []
        with torch.no_grad():
            for source in context.data.batches(context.split, batch_size=self.batch_size):
                x = context.data.clean_views(source)[-1].to(context.module.device)
                hits.append(network(x).argmax(1).cpu() == source.labels)
        right = torch.cat(hits)
        accuracy = right.float().mean().item()
        low, high = wilson(accuracy, len(right))
        truth = getattr(context.data, context.split).labels
        return [
            context.measurement(
                self.name,
                "fine_tuned_accuracy",
                "fine-tuned accuracy",
                accuracy,
                low=low,
                high=high,
                baseline=truth.bincount().max().item() / len(truth),
                ceiling=1.0,
                n=len(right),
                note=f"AdamW, rate {self.rate:g}, {self.epochs} epochs of {trained_on} images with flips",
            )
        ]

    def _trained(self, context: EvaluationContext, encoder: nn.Module) -> tuple[nn.Module, int]:
        device = context.module.device
        parts = list(context.data.batches("labelled", self.limit, batch_size=self.batch_size))
        width = int(context.features(context.split, None).h.shape[1])
        head = nn.Linear(width, len(context.data.labelled.class_names)).to(device)
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        network = nn.Sequential(encoder.train().requires_grad_(True), head)
        groups = [{"params": list(encoder.parameters()), "lr": self.rate}]
        groups.append({"params": list(head.parameters()), "lr": 10 * self.rate})
        optimizer = torch.optim.AdamW(groups, weight_decay=0.01)
        steps = self.epochs * len(parts)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps))
        with torch.enable_grad():
            for _ in range(self.epochs):
                for i in torch.randperm(len(parts)).tolist():
                    x = context.data.clean_views(parts[i])[-1].to(device)
                    flipped = torch.rand(len(x), device=device) < 0.5
                    x = torch.where(flipped[:, None, None, None], x.flip(-1), x)
                    optimizer.zero_grad()
                    cross_entropy(network(x), parts[i].labels.to(device)).backward()
                    optimizer.step()
                    schedule.step()
        return network.eval(), sum(len(part.labels) for part in parts)


@dataclass
class RegressionProbe(Evaluation):
    """R2 of ridge regression from h to every factor that is a number, the penalty chosen on validation samples.

    Attributes:
        penalties: To choose from, in units of the variance of standardised features.
    """

    penalties: Sequence[float] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
    name: str = field(default="probes", init=False)

    def embed(self, context: EvaluationContext) -> None:
        """Features to fit on, to choose on and to judge on."""
        if self._targets(context):
            context.fitting(chooses=True)
            for split in ("val", context.split):
                context.features(split)

    def _targets(self, context: EvaluationContext) -> list[str]:
        factors = context.data.labelled.factors
        return [name for name, x in factors.items() if x.is_floating_point() and x.ndim == 1]

    def compute(self, context: EvaluationContext) -> list[Measurement]:
        """One R2 for each factor."""
        found = []
        for name in self._targets(context):
            fit = context.fitting(chooses=True)
            val, held = (context.features(split) for split in ("val", context.split))
            y = {s: getattr(context.data, s).factors[name].double() for s in ("labelled", "val", context.split)}
            (x, xv, xt), _ = narrow(fit.h, val.h, held.h)
            target, chooser = y["labelled"][fit.index], y["val"][val.index]
            predict, penalty = ridge(x.double(), target, xv.double(), chooser, self.penalties)
            value, half = r_squared(predict(xt.double()), y[context.split][held.index])
            found.append(
                context.measurement(
                    self.name,
                    f"r2_{name}",
                    f"R2 of {name} from h",
                    value,
                    low=value - half,
                    high=min(1.0, value + half),
                    baseline=0.0,
                    ceiling=1.0,
                    n=len(held.h),
                    note=f"ridge regression, penalty {penalty:g} chosen on validation",
                )
            )
        return found


def ridge(
    x: Tensor, y: Tensor, x_val: Tensor, y_val: Tensor, penalties: Sequence[float]
) -> tuple[Callable[[Tensor], Tensor], float]:
    """Ridge regression on standardised columns, at the penalty with the least error on validation rows.

    Args:
        x, y: `[n, d]` and `[n]`, fitted on.
        x_val, y_val: Chosen on.
        penalties: mean squared error + penalty |w|^2.

    Returns:
        Rows `[m, d]` -> predictions `[m]`, and the penalty.
    """
    mean, scale, centre = x.mean(0), x.std(0, correction=0), y.mean()
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    a = (x - mean) / scale
    variance, axes = eigh(a.T @ a / len(a))
    along = axes.T @ (a.T @ (y - centre)) / len(a)

    def predictor(penalty: float) -> Callable[[Tensor], Tensor]:
        w = axes @ (along / (variance.clamp_min(0) + penalty))
        return lambda rows: (rows - mean) / scale @ w + centre

    errors = [(predictor(penalty)(x_val) - y_val).square().mean().item() for penalty in penalties]
    best = penalties[min(range(len(penalties)), key=errors.__getitem__)]
    return predictor(best), best


def r_squared(predicted: Tensor, y: Tensor) -> tuple[float, float]:
    """1 - mean squared error / variance of `y: [n]`, and half of its 95% interval (delta method); NaN for a constant.

    Args:
        predicted: `[n]`.
        y: `[n]`.
    """
    errors, spread = (y - predicted).square(), (y - y.mean()).square()
    if spread.mean() == 0:
        return math.nan, math.nan
    ratio = (errors.mean() / spread.mean()).item()
    se = ((errors - ratio * spread).std() / spread.mean() / math.sqrt(len(y))).item()
    return 1 - ratio, 1.96 * se
