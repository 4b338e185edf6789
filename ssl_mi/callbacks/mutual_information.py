"""Evaluation: how many nats do the two learned views share, and h and what is known of the image?

    I(Z_X; Z_Y), I(H_X; H_Y)    KSG on low-dimensional projections of freshly drawn view pairs
    the objective's own bound   on the same held-out pairs, beside its ceiling
    I(h; label), I(h; factor)   of clean images, on a supervised projection

A projection learns on other images than those it is read on, so by data processing each reading is, in
expectation, a lower bound on the MI of the embeddings themselves: it is named "of this projection".
Intervals come from disjoint subsets of the images, the baseline and p from re-paired views.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ssl_mi.callbacks.bench import Bench, Evaluation
from ssl_mi.callbacks.embed import untouched
from ssl_mi.callbacks.rows import Row
from ssl_mi.information.estimate import Estimate
from ssl_mi.information.knn import ksg, mixed_ksg_ross
from ssl_mi.information.projections import CCA
from ssl_mi.information.trust import assess

SPACES = {"z": "I(Z_X; Z_Y)", "h": "I(H_X; H_Y)"}


@dataclass
class MutualInformation(Evaluation):
    """projections: name -> object with `.fit(x, y, seed)`, see information/projections.py.

    k: KSG's neighbours. permutations, subsets: for the baseline and the interval; p is at least
    1 / (1 + permutations). limit: images read during training; the final reading takes the whole split.
    factor_dim: dimensions kept of h against labels and factors. During training only z and the label
    are read; at the end h, through the first projection, and the factors too.
    """

    projections: Mapping[str, Any]
    k: int = 3
    permutations: int = 19
    subsets: int = 10
    limit: int | None = 2000
    factor_dim: int = 4
    seed: int = 0
    name: str = field(default="mi", init=False)

    def collect(self, bench: Bench) -> None:
        for split in ("val", "test") if bench.final else ("val",):
            self._pairs(bench, split)
            if _known(bench, split):
                bench.features(split, self._limit(bench))

    def measure(self, bench: Bench) -> list[Row]:
        n = len(self._pairs(bench, bench.split).index)
        self._check_enough(bench.split, n if bench.final else n - n // 2)
        return [*self._between_views(bench), *self._with_what_is_known(bench)]

    def check(self, data) -> None:
        held_out = len(data.val) if self.limit is None else min(self.limit, len(data.val))
        self._check_enough("val", held_out - held_out // 2)
        if data.test is not None:
            self._check_enough("test", len(data.test))

    def _check_enough(self, split: str, n: int) -> None:
        needed = (self.k + 1) * max(1, self.subsets)
        if n < needed:
            raise ValueError(
                f"{split} images: {n} to read mutual information on, k={self.k} neighbours in {self.subsets} "
                f"subsets need at least {needed} (of validation images as many again to fit projections on); "
                "hold out more (data.val_fraction, the limits of data and evaluation), or lower "
                "evaluation.evaluations.mi.subsets"
            )

    def _limit(self, bench: Bench) -> int | None:
        return None if bench.final else self.limit

    def _pairs(self, bench: Bench, split: str):
        return bench.pairs(split, self._limit(bench))

    def _between_views(self, bench: Bench) -> list[Row]:
        read_on = self._pairs(bench, bench.split)
        rows = []
        for space, quantity in SPACES.items():
            if space == "h" and not bench.final:
                continue
            x, y = getattr(read_on, space)
            if bench.final:
                (fit_x, fit_y), read = getattr(self._pairs(bench, "val"), space), slice(None)
            else:
                # Rows are source images in a random order: the halves share no image.
                half = len(x) // 2
                fit_x, fit_y, read = x[:half], y[:half], slice(half, None)
            x, y = x[read], y[read]
            # h is read through the first shared projection only: z is what the objective raised.
            names = list(self.projections)[:1] if space == "h" else list(self.projections)
            for name in names:
                projection = self.projections[name]
                if _collapsed(fit_x, fit_y, x, y):
                    of, estimate = name, _nothing(len(x))
                else:
                    fitted = projection.fit(fit_x, fit_y, seed=self.seed)
                    of, estimate = fitted.name, self._assess(partial(ksg, k=self.k), bench, *fitted(x, y))
                prefix = "mi" if space == "z" else f"mi_{space}"
                metric, words = f"{prefix}_ksg_{name}_nats", f"{quantity} by KSG on {name}"
                rows.append(_row(bench, metric, words, estimate, of, *_constant(space, x, y)))
        return rows + self._own_bound(bench, *read_on.z)

    def _own_bound(self, bench: Bench, x: Tensor, y: Tensor) -> list[Row]:
        objective = bench.module.objective
        if bench.encoder != "trained" and any(True for _ in objective.parameters()):
            return []  # a critic that learned on other embeddings says nothing of these
        device = bench.module.device
        with untouched(objective):
            reading = objective.read(x.to(device), y.to(device), bench.data.batch_size)
        if reading is None:
            return []
        return [
            bench.row(
                self.name,
                f"mi_bound_{objective.name}_nats",
                f"I(Z_X; Z_Y), {objective.name}'s own bound",
                reading.value,
                ceiling=reading.ceiling if math.isfinite(reading.ceiling) else math.nan,
                kind=reading.kind,
                n=len(x),
                note=f"{reading.negatives} negatives a row",
            )
        ]

    def _with_what_is_known(self, bench: Bench) -> list[Row]:
        """I(h; label) and I(h; factor): h projected by CCA onto what predicts the factor on other images."""
        if not _known(bench, bench.split):
            return []
        read_on = bench.features(bench.split, self._limit(bench))
        if bench.final:
            fit_on, fit, read = bench.features("val", None), slice(None), slice(None)
            fit_set = bench.data.val
        else:
            half = len(read_on.h) // 2
            fit_on, fit, read = read_on, slice(None, half), slice(half, None)
            fit_set = bench.data.val
        read_set = getattr(bench.data, bench.split)
        rows = []
        for name, of in _known(bench, bench.split).items():
            if name != "label" and not bench.final:
                continue
            values, fit_values = of(read_set)[read_on.index[read]], of(fit_set)[fit_on.index[fit]]
            discrete = not values.is_floating_point()
            fit_h, h = fit_on.h[fit], read_on.h[read]
            if _collapsed(fit_h, h):
                of, estimate = "h", _nothing(len(h))
            else:
                fitted = CCA(self.factor_dim).fit(fit_h, _targets(fit_values), seed=self.seed)
                px, _ = fitted(h, _targets(values, like=fit_values))
                estimator = partial(mixed_ksg_ross if discrete else ksg, k=self.k)
                of, estimate = fitted.name, self._assess(estimator, bench, px, values)
            rows.append(_row(bench, f"mi_h_{name}_nats", f"I(h; {name})", estimate, of, *_constant("h", h)))
        return rows

    def _assess(self, estimator, bench: Bench, x, y) -> Estimate:
        # Interval and baseline belong to the trained encoder; the others are what it is compared with.
        if bench.encoder != "trained":
            return estimator(x, y)
        return assess(estimator, x, y, permutations=self.permutations, subsets=self.subsets, seed=self.seed)


def _known(bench: Bench, split: str) -> dict[str, Any]:
    """What is known of each image: name -> (image set -> values [N] or [N, k])."""
    images = getattr(bench.data, split)
    labels = images.labels
    known = {
        name: partial(_factor, name=name)
        for name, values in images.factors.items()
        if labels is None or not torch.equal(values, labels)  # the class itself is read as the label
    }
    return known if labels is None else {"label": _label, **known}


def _label(images) -> Tensor:
    return images.labels


def _factor(images, name: str) -> Tensor:
    return images.factors[name]


def _targets(values: Tensor, like: Tensor | None = None) -> Tensor:
    """What a linear projection is to predict: one-hot of a discrete factor; f, f^2 of a continuous one."""
    if not values.is_floating_point():
        classes = int((values if like is None else like).max()) + 1
        codes = values.long().clamp(max=classes - 1)
        return torch.nn.functional.one_hot(codes, classes).double().reshape(len(values), -1)
    columns = values.double().reshape(len(values), -1)
    return torch.cat([columns, columns**2], 1)


def _varying(x: Tensor) -> Tensor:
    """Which columns are not constant: bool [d]."""
    return (x != x[:1]).any(0)


def _collapsed(*sides: Tensor) -> bool:
    """Whether one of them is the same in every row: nothing can be projected, and nothing is shared."""
    return not all(_varying(x).any() for x in sides)


def _nothing(n: int) -> Estimate:
    return Estimate(0.0, n=n, estimator="nothing to estimate", warnings=("a collapse: every row is the same",))


def _constant(space: str, *views: Tensor) -> list[str]:
    """A warning about constant columns, which projections leave out."""
    constant, width = max((int((~_varying(x)).sum()), x.shape[1]) for x in views)
    return [f"{constant} of {width} columns of {space} are constant"] if constant else []


def _row(bench: Bench, metric: str, quantity: str, estimate: Estimate, projection: str, *warnings: str) -> Row:
    low, high = estimate.ci or (math.nan, math.nan)
    settings = ", ".join(f"{k}={v}" for k, v in estimate.settings.items())
    how = f"{estimate.estimator}({settings})" if settings else estimate.estimator
    return bench.row(
        "mi",
        metric,
        quantity,
        estimate.value,
        low=low,
        high=high,
        baseline=math.nan if estimate.null is None else estimate.null,
        ceiling=math.nan if estimate.ceiling is None else estimate.ceiling,
        p_value=math.nan if estimate.p_value is None else estimate.p_value,
        kind="lower bound",  # of the embeddings: a projection can only lose information
        n=estimate.n,
        note="; ".join([f"{how} of {projection}", *warnings, *estimate.warnings]),
    )
