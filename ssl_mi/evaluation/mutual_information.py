"""Evaluation: how many nats do the two learned views share, and h and what is known of the image?

    I(Z_X; Z_Y), I(H_X; H_Y)    KSG on low-dimensional projections of freshly drawn view pairs
    the objective's own bound   on the same held-out pairs, beside its ceiling
    I(h; label), I(h; factor)   of clean images, on a supervised projection

A projection learns on other images than those it is read on, so by data processing each reading is, in
expectation, a lower bound on the MI of the embeddings themselves: it is named "of this projection". During
training each half of the validation images is read through what the other half fitted; at the end the test
images through what all validation images fitted. Intervals come from disjoint subsets of the images, the
baseline and p from re-paired views.

Every evaluation of a split reads the same images in the same two views, split, projected and cut into subsets
in the same way. So the difference of two evaluations has an interval of its own, from the differences of equal
subsets: narrower than the intervals of the two, as what the images happen to be cancels.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssl_mi.evaluation.context import Bench, Evaluation
from ssl_mi.evaluation.embed import untouched
from ssl_mi.evaluation.measurement import Row
from ssl_mi.evaluation.wide import narrow
from ssl_mi.information.core.estimate import Estimate
from ssl_mi.information.core.inputs import read_labels
from ssl_mi.information.estimators.ksg import ksg, mixed_ksg_ross
from ssl_mi.information.inference import strata
from ssl_mi.information.inference.cross_fitting import Reading, difference, read_folds
from ssl_mi.information.projections.linear import CCA, Linear

MOST_LABELS = 1024  # that a projection of h is fitted to predict
SPACES = {"z": "I(Z_X; Z_Y)", "h": "I(H_X; H_Y)"}


@dataclass
class MutualInformation(Evaluation):
    """projections: name -> object with `.fit(x, y, seed)`, see information/projections.py.

    k: KSG's neighbours. permutations: re-pairings for the baseline and p, which is at least 1 / (1 + permutations).
    subsets, repeats: for intervals, an even number of parts, cut so often; 0 subsets for none. limit: images read
    during training; the final reading takes the whole split. factor_dim: dimensions kept of h against labels and
    factors. During training only z and the label are read; at the end h, through the first projection, and the
    factors too.
    """

    projections: Mapping[str, Any]
    k: int = 3
    permutations: int = 19
    subsets: int = 4
    repeats: int = 3
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
        self._check_enough(bench.split, n, halved=not bench.final)
        return [*self._between_views(bench), *self._with_what_is_known(bench)]

    def check(self, data) -> None:
        where = "evaluation.evaluations.mi"
        if self.subsets % 2 or self.subsets < 0:
            raise ValueError(f"{where}.subsets={self.subsets} must be an even number, half of them in each half; or 0")
        if self.repeats < 1:
            raise ValueError(f"{where}.repeats={self.repeats} must be 1 or more")
        held_out = len(data.val) if self.limit is None else min(self.limit, len(data.val))
        self._check_enough("val", held_out, halved=True)
        if data.test is not None:
            self._check_enough("test", len(data.test), halved=False)

    def _check_enough(self, split: str, n: int, halved: bool) -> None:
        folds = 2 if halved else 1
        needed = (self.k + 1) * max(folds, self.subsets)
        if n < needed:
            raise ValueError(
                f"{split} images: {n} to read mutual information on, k={self.k} neighbours in {self.subsets} "
                f"subsets need at least {needed}; "
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
                fit_x, fit_y = getattr(self._pairs(bench, "val"), space)
                sides = [(fit_x, fit_y, x, y)]
            else:
                sides = [(x[a], y[a], x[b], y[b]) for a, b in _halves(len(x))]
            constant = _constant(space, x, y)
            sides, narrowed = _narrowed(sides)
            # h is read through the first shared projection only: z is what the objective raised.
            names = list(self.projections)[:1] if space == "h" else list(self.projections)
            for name in names:
                reading, of = self._read(bench, self.projections[name], partial(ksg, k=self.k), sides, name)
                prefix = "mi" if space == "z" else f"mi_{space}"
                metric, words = f"{prefix}_ksg_{name}_nats", f"{quantity} by KSG on {name}"
                rows.append(self._row(bench, metric, words, reading, of + narrowed, *constant))
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
        fit_on = bench.features("val", None) if bench.final else read_on
        read_set, fit_set = getattr(bench.data, bench.split), bench.data.val
        (fit_h, h), narrowed = (read_on.h, read_on.h), ""
        if bench.final:
            (fit_h, h), narrowed = _narrow(fit_on.h, read_on.h)
        rows = []
        for name, of in _known(bench, bench.split).items():
            if name != "label" and not bench.final:
                continue
            values, fit_values = of(read_set)[read_on.index], of(fit_set)[fit_on.index]
            if bench.final:
                sides = [(fit_h, fit_values, h, values)]
            else:  # of the label only
                sides, narrowed = _narrowed([(h[a], values[a], h[b], values[b]) for a, b in _label_halves(values)])
            names = bench.data.class_names if name == "label" else ()
            reading, of, *notes = self._read_known(bench, sides, names)
            notes += _constant("h", read_on.h)
            rows.append(self._row(bench, f"mi_h_{name}_nats", f"I(h; {name})", reading, of + narrowed, *notes))
        return rows

    def _read_known(self, bench: Bench, sides: list[tuple], names: Sequence[str]) -> tuple[Reading, str, str]:
        """The reading of h against labels or a factor, what it is of, and a note of what rare labels prevent."""
        discrete = not sides[0][3].is_floating_point()
        note = _rare_labels(sides, names, self.k + 1) if discrete else ""
        if discrete and not all(_can_be_read(fit, read) for _, fit, _, read in sides):
            n = sum(len(read) for *_, read in sides)
            warning = "0 by default: this needs two labels where the projection learns, and one that occurs twice"
            return Reading(Estimate(0.0, n=n, estimator="nothing to estimate", warnings=(warning,))), "h", note
        estimator = partial(mixed_ksg_ross if discrete else ksg, k=self.k)
        reading, of = self._read(bench, OntoValues(self.factor_dim), estimator, sides, "h", labelled=discrete)
        return reading, of, note

    def _read(
        self, bench: Bench, projection: Any, estimator: Any, sides: list[tuple], name: str, labelled: bool = False
    ) -> tuple[Reading, str]:
        """sides: (x, y) to fit on and (x, y) to read, for each fold -> the reading, and what it is of."""
        if _collapsed(*(side for fold in sides for side in fold)):
            return Reading(_nothing(sum(len(fold[2]) for fold in sides))), name
        fitted = [projection.fit(fit_x, fit_y, seed=self.seed) for fit_x, fit_y, _, _ in sides]
        folds = [projected(x, y) for projected, (_, _, x, y) in zip(fitted, sides, strict=True)]
        reading = read_folds(
            estimator,
            folds,
            # The baseline belongs to the trained encoder; the others are what it is compared with.
            permutations=self.permutations if bench.encoder == "trained" else 0,
            subsets=self.subsets,
            repeats=self.repeats,
            seed=self.seed,
            labelled=labelled,
        )
        of = " and ".join(dict.fromkeys(projected.name for projected in fitted))
        return reading, of + (", cross-fitted" if len(sides) > 1 else "")

    def _row(self, bench: Bench, metric: str, quantity: str, reading: Reading, of: str, *warnings: str) -> Row:
        estimate = reading.estimate
        low, high = estimate.ci or (math.nan, math.nan)
        settings = ", ".join(f"{k}={v}" for k, v in estimate.settings.items())
        how = f"{estimate.estimator}({settings})" if settings else estimate.estimator
        row = bench.row(
            self.name,
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
            note="; ".join([f"{how} of {of}", *filter(None, warnings), *estimate.warnings]),
            pairs=self._fingerprint(bench) if reading.parts else "",
            parts=reading.parts,
        )
        return replace(row, **_since(row, bench.earlier))

    def _fingerprint(self, bench: Bench) -> str:
        """Equal when the same pairs are read in the same way: images, draws, halves, projections, parts."""
        rows = self._pairs(bench, bench.split).index.tolist()
        projections = [(name, type(p).__name__, _plain(p)) for name, p in self.projections.items()]
        way = (projections, self.k, self.subsets, self.repeats, self.factor_dim, self.seed)
        return f"{zlib.crc32(repr((bench.split, getattr(bench.data, 'seed', None), rows, way)).encode()):08x}"


def _narrowed(sides: list[tuple]) -> tuple[list[tuple], str]:
    """The same with wide embeddings in the span of images that projections learn from, and a note of what was done."""
    found, notes = [], []
    for fit_x, fit_y, x, y in sides:
        (fit_x, x), note_x = _narrow(fit_x, x)
        (fit_y, y), note_y = _narrow(fit_y, y) if fit_y.ndim == 2 else ((fit_y, y), "")
        found.append((fit_x, fit_y, x, y))
        notes.append(note_x or note_y)
    return found, notes[0]


def _narrow(fit: Tensor, read: Tensor) -> tuple[Sequence[Tensor], str]:
    narrowed, note = narrow(fit, read)
    return narrowed, note and f" of {note}"


@dataclass(frozen=True)
class OntoValues:
    """A projection of h alone, by CCA onto what predicts the values beside it; these are left as they are."""

    dim: int

    def fit(self, h: Tensor, values: Tensor, seed: int = 0) -> _Onto:
        return _Onto(CCA(self.dim).fit(h, _targets(values), seed=seed), values)


@dataclass(frozen=True)
class _Onto:
    fitted: Linear
    fit_values: Tensor

    @property
    def name(self) -> str:
        return self.fitted.name

    def __call__(self, h: Tensor, values: Tensor):
        return self.fitted(h, _targets(values, like=self.fit_values))[0], values


def _halves(n: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """(fit on, read) twice. Rows are source images in a random order: the halves share no image."""
    first, second = slice(None, n // 2), slice(n // 2, None)
    return (first, second), (second, first)


def _label_halves(values: Tensor) -> Sequence[tuple[Any, Any]]:
    """`_halves`, dealt where one of them would lack a label that the other has."""
    n = len(values)
    if values.is_floating_point():
        return _halves(n)
    first, second = (torch.from_numpy(rows) for rows in strata.halves(values, np.arange(n)))
    return (first, second), (second, first)


def _can_be_read(fit: Tensor, read: Tensor) -> bool:
    """Whether there are two labels to tell apart, and one with a neighbour of its own kind."""
    return len(fit.unique(dim=0)) > 1 and strata.repeats(read_labels(read)[0])


def _rare_labels(sides: list[tuple], names: Sequence[str], enough: int, shown: int = 3) -> str:
    """Names the labels with under `enough` images where the projection learns or where it is read; "" for none."""
    where = [side.reshape(len(side), -1) for _, fit, _, read in sides for side in (fit, read)]
    if where[0].shape[1] > 1:
        return ""  # several numbers make one label, and have no name
    everything = torch.cat([*where, torch.arange(len(names))[:, None].to(where[0])])
    found, codes = everything.flatten().unique(return_inverse=True)
    parts = codes.split([*map(len, where), len(names)])[:-1]
    fewest = torch.stack([part.bincount(minlength=len(found)) for part in parts]).amin(0)
    rare = (fewest < enough).nonzero().flatten().tolist()
    if not rare:
        return ""
    some = ", ".join(f"'{names[c] if names else found[c].item()}' {fewest[c]}" for c in rare[:shown])
    more = f" and {len(rare) - shown} more" if len(rare) > shown else ""
    return f"labels with under {enough} images to learn from or to read, which it may miss: {some}{more}"


def _since(row: Row, earlier: Sequence[Row]) -> dict[str, float]:
    """Columns of the differences to the first and the previous reading of the same pairs, as far as there are any."""
    if row.encoder != "trained" or not row.pairs:
        return {}
    of = [r for r in earlier if (r.metric, r.pairs) == (row.metric, row.pairs)]
    # The random encoder is read at the end, and is where training began.
    random = [r for r in of if r.encoder == "random" and r.epoch == row.epoch]
    before = sorted((r for r in of if r.encoder == "trained" and r.epoch < row.epoch), key=lambda r: r.epoch)
    columns = {}
    for name, there in (("since_first", random or before[:1]), ("since_previous", before[-1:])):
        for r in there:
            gap = difference(row.value, row.parts, r.value, r.parts)
            columns |= {name: gap.value, f"{name}_low": gap.low, f"{name}_high": gap.high}
    return columns


def _plain(projection) -> dict[str, Any]:
    """Its settings that are plain values; what else it holds has no lasting name."""
    settings = getattr(projection, "__dict__", {})
    return {name: x for name, x in settings.items() if isinstance(x, int | float | str | None)}


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
        known, counts = (values if like is None else like).unique(return_counts=True)
        if len(known) > MOST_LABELS:  # an indicator for each of the most frequent
            known = known[counts.argsort(descending=True, stable=True)[:MOST_LABELS]].sort().values
        return (values.reshape(len(values), -1, 1) == known).double().reshape(len(values), -1)
    columns = values.double().reshape(len(values), -1)
    return torch.cat([columns, columns**2], 1)


def _varying(x: Tensor) -> Tensor:
    """Which columns are not constant: bool [d]."""
    found = torch.zeros(x.shape[1:], dtype=torch.bool)
    for piece in x.split(4096):
        found |= (piece != x[:1]).any(0)
    return found


def _collapsed(*sides: Tensor) -> bool:
    """Whether one of them is the same in every row: nothing can be projected, and nothing is shared."""
    return not all(_varying(x).any() for x in sides)


def _nothing(n: int) -> Estimate:
    return Estimate(
        0.0, n=n, estimator="nothing to estimate", warnings=("a collapse: one side is the same in all rows",)
    )


def _constant(space: str, *views: Tensor) -> list[str]:
    """A warning about constant columns, which projections leave out."""
    constant, width = max((int((~_varying(x)).sum()), x.shape[1]) for x in views)
    return [f"{constant} of {width} columns of {space} are constant"] if constant else []
