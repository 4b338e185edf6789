"""Evaluation: how many nats do the two learned views share, and h and what is known of the sample?

    I(Z_X; Z_Y), I(H_X; H_Y)    an estimator on low-dimensional projections of freshly drawn view pairs
    the objective's own bound   on the same held-out pairs, beside its ceiling
    I(h; label), I(h; factor)   of samples without augmentation, on a supervised projection

A projection is fitted on other samples than those it is applied to, so by data processing each estimate is, in
expectation, a lower bound on the MI of the embeddings themselves: it is named "of this projection". During training
each half of the validation samples is projected by what the other half fitted; at the end the test samples by what all
validation samples fitted. Intervals come from disjoint subsets of the samples, the baseline and p from re-paired views.

Every evaluation of a split uses the same samples in the same two views, split, projected and cut into subsets in the
same way. So the difference of two evaluations has an interval of its own, from the differences of equal subsets:
narrower than the intervals of the two, as the variation of the samples cancels.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ssl_mi.evaluation.context import Evaluation, EvaluationContext, Explanation, Plot
from ssl_mi.evaluation.contracts import Estimator, EvaluationData, Projection
from ssl_mi.evaluation.embed import Pairs, untouched
from ssl_mi.evaluation.estimators import (
    COLLAPSE,
    as_estimates,
    check_estimator,
    estimator_name,
    in_words,
    neighbours,
    nothing_to_estimate,
    set_apart,
)
from ssl_mi.evaluation.factors import OntoValues, can_be_estimated, halves, known_values, label_halves, rare_labels
from ssl_mi.evaluation.measurement import Measurement
from ssl_mi.evaluation.wide import narrow
from ssl_mi.information.core.caution import Caution
from ssl_mi.information.core.estimate import Estimate
from ssl_mi.information.estimators.ksg import ksg, mixed_ksg_ross
from ssl_mi.information.inference.cross_fitting import CrossFitted, cross_fit, difference
from ssl_mi.information.inference.dependence import FEWEST_UNITS
from ssl_mi.report.plots import draw_information

SPACES = {"z": "I(Z_X; Z_Y)", "h": "I(H_X; H_Y)"}
PANELS = {"z": SPACES["z"], "h": "with h"}  # of information.png
KEY = "evaluation.evaluations.mi"

Sides = Sequence[tuple[Tensor, Tensor, Tensor, Tensor]]  # (x, y) to fit on and (x, y) to estimate on, for each fold


class _Estimated(NamedTuple):
    """An estimate with its parts, what it is of, notes, and whether a projection may have lost information."""

    result: CrossFitted
    of: str
    notes: tuple[str, ...] = ()
    projected: bool = True


class _Groups(NamedTuple):
    """Which rows share a source: of each fold, or () where rows are taken for independent; and a note that says so."""

    of: tuple[Any, ...] = ()
    note: str = ""


@dataclass
class MutualInformation(Evaluation):
    """Mutual information of the learned views, and of h with labels and factors.

    During training only z and the label are measured; at the end h, through the first projection, and the factors too.

    Attributes:
        projections: name -> `Projection`, whose estimates are cross-fitted; or None for no projection: then the
            estimator gets the embeddings themselves, all rows at once.
        estimator: Of two views. None: KSG with `k` neighbours.
        factor_estimator: Of projected h and a label or factor (integers where it is discrete, else floats). None: KSG,
            or Ross's for discrete ones, with `k` neighbours.
        k: Neighbours of the default estimators.
        permutations: Re-pairings for the baseline and p, which is at least 1 / (1 + permutations). 0: those of the
            estimator itself, if it has them.
        subsets, repeats: For intervals, an even number of parts, cut so often. 0 subsets: the interval of the
            estimator itself, if it has one.
        limit: Samples measured during training; the final evaluation takes the whole split.
        factor_dim: Dimensions kept of h against labels and factors.
        seed: Of projections, subsets and re-pairings.
    """

    projections: Mapping[str, Projection | None]
    estimator: Estimator | None = None
    factor_estimator: Estimator | None = None
    k: int = 3
    permutations: int = 19
    subsets: int = 4
    repeats: int = 3
    limit: int | None = 2000
    factor_dim: int = 4
    seed: int = 0
    name: str = field(default="mi", init=False)

    def check(self, data: EvaluationData) -> None:
        """See `Evaluation.check`."""
        if self.subsets % 2 or self.subsets < 0:
            raise ValueError(f"{KEY}.subsets={self.subsets} must be an even number, half of them in each half; or 0")
        if self.repeats < 1:
            raise ValueError(f"{KEY}.repeats={self.repeats} must be 1 or more")
        for key in ("estimator", "factor_estimator"):
            if getattr(self, key) is not None:
                check_estimator(getattr(self, key), f"{KEY}.{key}")
        held_out = len(data.val) if self.limit is None else min(self.limit, len(data.val))
        self._check_enough("val", held_out, halved=True)
        if data.test is not None:
            self._check_enough("test", len(data.test), halved=False)

    def embed(self, context: EvaluationContext) -> None:
        """Pairs of the split, and clean features where something is known of the samples."""
        for split in ("val", "test") if context.final else ("val",):
            self._pairs(context, split)
            if known_values(getattr(context.data, split)):
                context.features(split, self._limit(context))

    def compute(self, context: EvaluationContext) -> list[Measurement]:
        """Between the views, the objective's own bound, and with what is known."""
        pairs = self._pairs(context, context.split)
        self._check_enough(context.split, len(pairs.index), halved=not context.final)
        views = self._between_views(context, pairs)
        return [*views, *self._own_bound(context, *pairs.z), *self._with_known(context)]

    def explain(self, metric: str) -> Explanation | None:
        """See `Evaluation.explain`."""
        body = metric.removeprefix("mi_").removesuffix("_nats")
        if body.startswith("bound_"):
            meaning = (
                "The objective's own bound on the same held-out pairs. It cannot exceed its ceiling, and is loose "
                "where the information is large."
            )
            return Explanation("objective's bound", "higher", meaning)
        for name in self.projections:
            if body.endswith(f"_{name}"):
                space = "h" if body.startswith("h_") else "z"
                meaning = (
                    f"Nats that the two views of a sample share in {space}, estimated on {name}. A projection can only "
                    "lose information: a lower bound, in expectation."
                )
                return Explanation(f"{SPACES[space].replace('_', '')} {name}"[:20], "higher", meaning)
        if not body.startswith("h_"):
            return None
        known = body.removeprefix("h_")
        if known == "label":
            meaning = "Nats that h holds about the class, which it was never told. At most the entropy of the labels."
            return Explanation("I(h; label)", "higher", meaning)
        meaning = f"Nats that h holds about '{known}', which is known of each sample. Views that change it remove it."
        return Explanation(f"I(h; {known})"[:20], "", meaning)

    def plots(self, rows: Sequence[Mapping[str, Any]], folder: Path) -> Iterable[Plot]:
        """information.png: the estimates over the epochs."""
        path = draw_information(rows, list(PANELS.values()), folder / "information.png")
        return [] if path is None else [Plot("Mutual information over the epochs", path)]

    # Checks

    def _check_enough(self, split: str, n: int, halved: bool) -> None:
        folds = 2 if halved else 1
        k = self.k if self.estimator is None else neighbours(self.estimator)
        needed = (k + 1) * max(folds, self.subsets)
        if n < needed:
            raise ValueError(
                f"{split} samples: {n} to estimate mutual information on, k={k} neighbours in each of "
                f"{max(folds, self.subsets)} parts need at least {needed}; "
                "hold out more (of a run: data.val_fraction, the limits of data and evaluation, or lower "
                f"{KEY}.subsets)"
            )

    def _limit(self, context: EvaluationContext) -> int | None:
        return None if context.final else self.limit

    def _pairs(self, context: EvaluationContext, split: str) -> Pairs:
        return context.pairs(split, self._limit(context))

    # Between the views

    def _between_views(self, context: EvaluationContext, pairs: Pairs) -> Iterator[Measurement]:
        estimator = set_apart(partial(ksg, k=self.k)) if self.estimator is None else self.estimator
        short = estimator_name(estimator)
        for space in SPACES if context.final else ("z",):
            x, y = getattr(pairs, space)
            # h is measured through the first shared projection only: z is what the objective raised.
            for i, (name, projection) in enumerate(self.projections.items()):
                if space == "h" and i > 0:
                    break
                sides = self._view_sides(context, space, projection, x, y)
                groups = _groups(context, pairs.index, folds=len(sides))
                found = self._estimate(context, projection, estimator, sides, name, groups=groups)
                yield self._measurement(
                    context,
                    f"mi_{short}_{name}_nats" if space == "z" else f"mi_{space}_{short}_{name}_nats",
                    f"{SPACES[space]} by {in_words(short)} on {name}",
                    found._replace(notes=(*found.notes, *_constant_columns(space, x, y))),
                    panel=PANELS[space],
                    headline=f"{short}_nats" if space == "z" and i == 0 else "",
                )

    def _view_sides(
        self, context: EvaluationContext, space: str, projection: Projection | None, x: Tensor, y: Tensor
    ) -> Sides:
        if projection is None:
            return [(x, y, x, y)]  # nothing is fitted
        if context.final and not context.val_is_training:
            fit_x, fit_y = getattr(self._pairs(context, "val"), space)
            return [(fit_x, fit_y, x, y)]
        return [(x[a], y[a], x[b], y[b]) for a, b in halves(len(x))]

    def _own_bound(self, context: EvaluationContext, x: Tensor, y: Tensor) -> list[Measurement]:
        module: Any = context.module
        objective = module.objective
        if context.encoder != "trained" and any(True for _ in objective.parameters()):
            return []  # a critic that learned on other embeddings does not apply to these
        with untouched(objective):
            bound = objective.estimate(x.to(module.device), y.to(module.device), context.data.batch_size)
        if bound is None:
            return []
        return [
            context.measurement(
                self.name,
                f"mi_bound_{objective.name}_nats",
                f"I(Z_X; Z_Y), {objective.name}'s own bound",
                bound.value,
                ceiling=bound.ceiling if math.isfinite(bound.ceiling) else math.nan,
                kind=bound.kind,
                n=len(x),
                note=f"{bound.negatives} negatives a row",
                headline="bound_nats",
            )
        ]

    # With what is known

    def _with_known(self, context: EvaluationContext) -> Iterator[Measurement]:
        """I(h; label) and I(h; factor): h projected by CCA onto what predicts the factor on other samples."""
        split, fit_split = getattr(context.data, context.split), context.data.val
        values_of = known_values(split)
        if not values_of:
            return
        features = context.features(context.split, self._limit(context))
        apart = context.final and not context.val_is_training  # whether projections learn from another split
        fitted_on = context.features("val", None) if apart else features
        for name, all_values in values_of.items():
            if name != "label" and not context.final:
                continue
            values = all_values[features.index]
            if apart:
                fit_values = (fit_split.labels if name == "label" else fit_split.factors[name])[fitted_on.index]
                sides = [(fitted_on.h, fit_values, features.h, values)]
            else:
                sides = [(features.h[a], values[a], features.h[b], values[b]) for a, b in label_halves(values)]
            names = split.class_names if name == "label" else ()
            groups = _groups(context, features.index, folds=len(sides))
            found = self._estimate_known(context, sides, names, groups)
            found = found._replace(notes=(*found.notes, *_constant_columns("h", features.h)))
            metric, panel = f"mi_h_{name}_nats", PANELS["h"]
            yield self._measurement(context, metric, f"I(h; {name})", found, panel=panel)

    def _estimate_known(
        self, context: EvaluationContext, sides: Sides, names: Sequence[str], groups: _Groups
    ) -> _Estimated:
        """I(h; label or factor), with a note of what rare labels prevent."""
        discrete = not sides[0][3].is_floating_point()
        note = rare_labels(sides, names, self.k + 1) if discrete else ""
        if discrete and not all(can_be_estimated(fit, held_out) for _, fit, _, held_out in sides):
            n = sum(len(held_out) for *_, held_out in sides)
            text = "0 by default: this needs two labels where the projection learns, and one that occurs twice"
            nothing = CrossFitted(nothing_to_estimate(n, Caution("too-few-labels", text)))
            return _Estimated(nothing, "h", (note,))
        default = set_apart(partial(mixed_ksg_ross if discrete else ksg, k=self.k))
        estimator = default if self.factor_estimator is None else self.factor_estimator
        found = self._estimate(context, OntoValues(self.factor_dim), estimator, sides, "h", discrete, groups)
        if discrete:
            found = _at_most_the_entropy(found, torch.cat([values for *_, values in sides]))
        return found._replace(notes=(*found.notes, note))

    # Estimates and measurements

    def _estimate(
        self,
        context: EvaluationContext,
        projection: Projection | None,
        estimator: Estimator,
        sides: Sides,
        name: str,
        labelled: bool = False,
        groups: _Groups | None = None,
    ) -> _Estimated:
        """The estimate over the folds in `sides`, and what it is of."""
        if _collapsed(*(side for fold in sides for side in fold)):
            n = sum(len(held_out) for _, _, held_out, _ in sides)
            return _Estimated(CrossFitted(nothing_to_estimate(n, COLLAPSE)), name)
        folds: list[tuple[Any, Any]] = [(x, y) for _, _, x, y in sides]
        of = "the embeddings themselves"
        if projection is not None:
            sides, narrowed = _narrowed(sides)
            folds = [(x, y) for _, _, x, y in sides]
            fitted = [projection.fit(fit_x, fit_y, seed=self.seed) for fit_x, fit_y, _, _ in sides]
            folds = [projected(x, y) for projected, (x, y) in zip(fitted, folds, strict=True)]
            of = " and ".join(dict.fromkeys(projected.name for projected in fitted)) + narrowed
        result = cross_fit(
            as_estimates(estimator),
            folds,
            # The baseline belongs to the trained encoder; the others are what it is compared with.
            permutations=self.permutations if context.encoder == "trained" else 0,
            subsets=self.subsets,
            repeats=self.repeats,
            seed=self.seed,
            labelled=labelled,
            groups=() if groups is None else groups.of,
        )
        if len(folds) > 1:
            of += ", cross-fitted"
            result = result._replace(estimate=self._without_a_folds_own(result.estimate))
        notes = () if groups is None else (groups.note,)
        return _Estimated(result, of, notes, projected=projection is not None)

    def _without_a_folds_own(self, estimate: Estimate) -> Estimate:
        """The estimate without interval and p: those of one fold do not hold for the average over the folds."""
        if not self.subsets:
            estimate = replace(estimate, se=None, ci=None, ci_level=None)
        if not self.permutations:
            estimate = replace(estimate, null=None, p_value=None)
        return estimate

    def _measurement(
        self, context: EvaluationContext, metric: str, quantity: str, found: _Estimated, **columns: str
    ) -> Measurement:
        estimate, parts = found.result
        settings = ", ".join(f"{k}={v}" for k, v in estimate.settings.items())
        how = f"{estimate.estimator}({settings})" if settings else estimate.estimator
        # A projection can only lose information: what estimates its MI bounds that of the embeddings.
        kind = "lower bound" if estimate.kind == "point estimate" and found.projected else estimate.kind
        measured = context.measurement(
            self.name,
            metric,
            quantity,
            estimate.value,
            **estimate_columns(estimate),
            kind=kind,
            n=estimate.n or 0,
            note="; ".join([f"{how} of {found.of}", *filter(None, found.notes), *map(str, estimate.warnings)]),
            warnings="; ".join(map(str, estimate.warnings)),
            pairs=self._fingerprint(context) if parts else "",
            parts=parts,
            **columns,
        )
        return replace(measured, **_since(measured, context.earlier))

    def _fingerprint(self, context: EvaluationContext) -> str:
        """Equal when the same pairs are measured in the same way: samples, draws, halves, projections, parts."""
        rows = self._pairs(context, context.split).index.tolist()
        projections = [(name, type(p).__name__, _plain_settings(p)) for name, p in self.projections.items()]
        way: tuple = (projections, self.k, self.subsets, self.repeats, self.factor_dim, self.seed)
        if _groups(context, self._pairs(context, context.split).index).of:
            way += ("groups",)
        for estimator in (self.estimator, self.factor_estimator):
            if estimator is not None:
                way += (estimator_name(estimator), sorted(getattr(estimator, "keywords", {}).items()))
        return f"{zlib.crc32(repr((context.split, context.data.seed, rows, way)).encode()):08x}"


def _groups(context: EvaluationContext, rows: Tensor, folds: int = 1) -> _Groups:
    """The sources of the rows of a split, where its data know them and an estimate of one fold can go by them."""
    known = getattr(context.data, "groups_of", lambda split: None)(context.split)
    if known is None:
        return _Groups()
    groups = known[rows.numpy()]
    count = len(set(groups.tolist()))
    if folds > 1 or count < FEWEST_UNITS:
        why = "during training" if folds > 1 else f"of {count} groups"
        return _Groups((), f"interval and p {why} take rows for independent, and are too narrow")
    return _Groups((groups,), f"interval and p by the {count} groups of rows")


def estimate_columns(estimate: Estimate) -> dict[str, Any]:
    """The interval, baseline, ceiling, p and permutations of an estimate as columns of a measurement.

    NaN for what it lacks, and 0 permutations.
    """
    low, high = estimate.ci or (math.nan, math.nan)
    found = {"baseline": estimate.null, "ceiling": estimate.ceiling, "p_value": estimate.p_value}
    columns = {"low": low, "high": high, **{name: math.nan if x is None else x for name, x in found.items()}}
    return columns | {"permutations": estimate.permutations or 0}


def _since(measured: Measurement, earlier: Sequence[Measurement]) -> dict[str, Any]:
    """Columns of the differences to the first and the previous measurement of the same pairs, where there are any."""
    if measured.encoder != "trained" or not measured.pairs:
        return {}
    of = [m for m in earlier if (m.metric, m.pairs) == (measured.metric, measured.pairs)]
    # The random encoder is measured at the end, and is where training began.
    random = [m for m in of if m.encoder == "random" and m.epoch == measured.epoch]
    before = sorted((m for m in of if m.encoder == "trained" and m.epoch < measured.epoch), key=lambda m: m.epoch)
    columns: dict[str, float] = {}
    for name, there in (("since_first", random or before[:1]), ("since_previous", before[-1:])):
        for m in there:
            gap = difference(measured.value, measured.parts, m.value, m.parts)
            columns |= {name: gap.value, f"{name}_low": gap.low, f"{name}_high": gap.high}
    return columns


def _plain_settings(projection: Projection | None) -> dict[str, Any]:
    """Its settings that are plain values; what else it holds has no lasting name."""
    settings = getattr(projection, "__dict__", {})
    return {name: x for name, x in settings.items() if isinstance(x, int | float | str | None)}


def _at_most_the_entropy(found: _Estimated, values: Tensor) -> _Estimated:
    """The same, with a warning where it is more than the values have: I(h; u) <= H(u)."""
    estimate = found.result.estimate
    shares = values.unique(dim=0, return_counts=True)[1] / len(values)
    entropy = float(-(shares * shares.log()).sum())
    if estimate.value <= entropy:
        return found
    text = (
        f"{estimate.value:.3f} nats are more than the entropy {entropy:.3f} of the values, the most that there can "
        f"be: the estimate is too high by {estimate.value - entropy:.3f} or more"
    )
    caution = Caution("above-entropy", text, {"value": estimate.value, "entropy": entropy})
    estimate = replace(estimate, warnings=(caution, *estimate.warnings))
    return found._replace(result=found.result._replace(estimate=estimate))


def _varying(x: Tensor) -> Tensor:
    """Which columns are not constant: bool [d]."""
    found = torch.zeros(x.shape[1:], dtype=torch.bool)
    for piece in x.split(4096):
        found |= (piece != x[:1]).any(0)
    return found


def _collapsed(*sides: Tensor) -> bool:
    """Whether one of them is the same in every row: nothing can be projected, and nothing is shared."""
    return not all(_varying(x).any() for x in sides)


def _constant_columns(space: str, *views: Tensor) -> tuple[str, ...]:
    """A warning about constant columns, which projections leave out."""
    constant, width = max((int((~_varying(x)).sum()), x.shape[1]) for x in views)
    return (f"{constant} of {width} columns of {space} are constant",) if constant else ()


def _narrowed(sides: Sides) -> tuple[Sides, str]:
    """The same with wide embeddings in the span of samples that projections learn from, and a note of what was done."""
    found, notes = [], []
    for fit_x, fit_y, x, y in sides:
        (fit_x, x), note_x = narrow(fit_x, x)
        (fit_y, y), note_y = narrow(fit_y, y) if fit_y.ndim == 2 else ([fit_y, y], "")
        found.append((fit_x, fit_y, x, y))
        notes.append(note_x or note_y)
    return found, notes[0] and f" of {notes[0]}"
