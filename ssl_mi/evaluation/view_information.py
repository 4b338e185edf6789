"""Evaluations of two views of each sample by several estimators, pair by pair, and as the views differ more.

    ViewFamilies          I(Z_X; Z_Y) and I(H_X; H_Y) by estimators of different families, side by side
    PointwiseInformation  what each pair contributes; the pairs that share least are candidates for wrong pairs
    StrengthSweep         I(H_X; H_Y) as the augmentation grows stronger
    ViewGeometry          alignment and uniformity of the views, LiDAR

All projections are fitted on validation pairs and applied to test pairs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ssl_mi.evaluation import embed
from ssl_mi.evaluation.context import Evaluation, EvaluationContext, Explanation
from ssl_mi.evaluation.contracts import Estimator, EvaluationData, Projection
from ssl_mi.evaluation.embed import Pairs
from ssl_mi.evaluation.estimators import set_apart
from ssl_mi.evaluation.geometry import alignment, lidar, uniformity
from ssl_mi.evaluation.measurement import Measurement
from ssl_mi.evaluation.mutual_information import SPACES, MutualInformation
from ssl_mi.evaluation.wide import narrow
from ssl_mi.information.estimators.gaussian import copula_mi, rank_gaussianize
from ssl_mi.information.estimators.ksg import ksg
from ssl_mi.information.projections.linear import CCA
from ssl_mi.information.variational.bound_estimators import infonce
from ssl_mi.information.variational.flow import flow_mi


class Family(NamedTuple):
    """An estimator, and what it is applied to.

    Attributes:
        words: Its name in a table.
        estimator: Of two arrays.
        projection: Fitted on validation pairs.
        resampled: Whether interval and null come from parts and re-pairings of the rows. Where it is False, the
            estimator is too dear for that: it has an interval of its own, and the null is that of one re-pairing.
    """

    words: str
    estimator: Estimator
    projection: Projection
    resampled: bool = True


def families(k: int = 3, seed: int = 0) -> dict[str, Family]:
    """Nearest neighbours, a Gaussian copula, and a variational bound with a learned critic.

    Args:
        k: Neighbours of KSG.
        seed: Of what is learned.
    """
    return {
        "ksg": Family("KSG", set_apart(partial(ksg, k=k)), CCA(4)),
        "copula": Family("Gaussian copula", copula_mi, CCA(8)),
        "infonce": Family("InfoNCE", partial(infonce, seed=seed), CCA(8), resampled=False),
    }


def flow_family(seed: int = 0) -> dict[str, Family]:
    """A normalising flow, which takes a minute.

    Args:
        seed: Of what is learned.
    """
    return {"flow": Family("flow", partial(flow_mi, seed=seed), CCA(4), resampled=False)}


@dataclass
class ViewFamilies(MutualInformation):
    """I(Z_X; Z_Y) and I(H_X; H_Y) by estimators of different families, on the same pairs.

    They agree where all are right. Where they differ, the warnings of each name its limits: KSG is of 4 dimensions and
    the others of 8, the copula is blind to what is not monotone, InfoNCE has a ceiling.

    Attributes:
        families: Name -> family; None: `families()`.
        k: Neighbours of KSG.
        permutations, subsets, repeats: See `MutualInformation`; for families that are resampled.
        limit: Pairs that are measured during training; at the end all.
        seed: Of projections, parts, re-pairings, and of what is learned.
        projections, estimator, factor_estimator, factor_dim: Not used: families have their own.
    """

    projections: Mapping[str, Projection | None] = field(default_factory=dict)
    families: Mapping[str, Family] | None = None
    name: str = field(default="views", init=False)

    def embed(self, context: EvaluationContext) -> None:
        """Pairs of the split, and those that projections are fitted on."""
        for split in ("val", context.split):
            self._pairs(context, split)

    def compute(self, context: EvaluationContext) -> list[Measurement]:
        """A measurement for each space and family."""
        pairs = self._pairs(context, context.split)
        used = families(self.k, self.seed) if self.families is None else self.families
        has_z = getattr(context.module, "has_z", True)
        spaces = [space for space in SPACES if has_z or space != "z"]
        found = []
        for space in spaces:
            for name, family in used.items():
                found.append(self._of_family(context, space, name, family, pairs))
        return found

    def _of_family(
        self, context: EvaluationContext, space: str, name: str, family: Family, pairs: Pairs
    ) -> Measurement:
        x, y = getattr(pairs, space)
        one = self if family.resampled else replace(self, subsets=0, permutations=0)
        sides = self._view_sides(context, space, family.projection, x, y)
        metric, words = f"mi_{space}_{name}_nats", f"{SPACES[space]} by {family.words}"
        try:
            found = one._estimate(context, family.projection, family.estimator, sides, name)
        except ValueError as error:  # what one estimator refuses, such as too few rows, another one may take
            said = f"not measured: {error}"
            return context.measurement(self.name, metric, words, math.nan, n=len(x), note=said)
        measured = self._measurement(context, metric, words, found)
        if family.resampled or math.isfinite(measured.baseline):
            return measured
        return replace(measured, baseline=self._null(family, sides))

    def _null(self, family: Family, sides: Any) -> float:
        """The estimate where every row is paired with another one, once."""
        fit_x, fit_y, x, y = sides[0]
        (fit_x, x), _ = narrow(fit_x, x)
        (fit_y, y), _ = narrow(fit_y, y)
        a, b = family.projection.fit(fit_x, fit_y, seed=self.seed)(x, y)
        cycle = np.random.default_rng(self.seed).permutation(len(b))
        partner = np.empty_like(cycle)
        partner[cycle] = np.roll(cycle, 1)  # one cycle through all rows: none is its own partner
        return float(family.estimator(a, np.asarray(b)[partner]))


# ------------------------------------------------------------------------------------------------------- pair by pair


def gaussian_pointwise(
    fit_x: Tensor, fit_y: Tensor, x: Tensor, y: Tensor, dim: int = 16, seed: int = 0
) -> tuple[np.ndarray, str]:
    """What each pair contributes under a Gaussian copula on canonical variables, in nats: float64 `[n]`.

    i(x; y) = log p(x, y) / (p(x) p(y)) for the Gaussian with the correlations of the rows, after CCA to `dim`
    dimensions that was fitted on other rows and a Gaussian transform of every column by its ranks.

    Args:
        fit_x, fit_y: Pairs `[m, d]` that the projection is fitted on.
        x, y: Pairs `[n, d]` that are scored.
        dim: Canonical variables a side.
        seed: Of the projection.

    Returns:
        The scores, and the projection in words.
    """
    (fit_x, x), _ = narrow(fit_x, x)
    (fit_y, y), _ = narrow(fit_y, y)
    projected = CCA(dim).fit(fit_x, fit_y, seed=seed)
    a, b = (rank_gaussianize(side) for side in projected(x, y))
    both, d = np.hstack([a, b]), a.shape[1]
    covariance = np.cov(both.T) + 1e-9 * np.eye(2 * d)

    def squares(rows: np.ndarray, block: np.ndarray) -> np.ndarray:
        return (rows * np.linalg.solve(block, rows.T).T).sum(1)

    first, second = covariance[:d, :d], covariance[d:, d:]
    log_det = sum(np.linalg.slogdet(c)[1] for c in (first, second)) - np.linalg.slogdet(covariance)[1]
    return 0.5 * (log_det - squares(both, covariance) + squares(a, first) + squares(b, second)), projected.name


@dataclass
class PointwiseInformation(Evaluation):
    """What each pair of views contributes to I(H_X; H_Y), in nats: which share most, and which least.

    The pairs of lowest values are candidates for wrong pairs: views of different things, or a caption of another
    picture. `tables` lists all pairs, the lowest first.

    Attributes:
        dim: Canonical variables a side.
        share: Of the pairs, that are marked as candidates.
        seed: Of the projection.
    """

    dim: int = 16
    share: float = 0.05
    seed: int = 0
    name: str = field(default="views", init=False)
    listed: list[dict[str, Any]] = field(default_factory=list, init=False, repr=False)

    def embed(self, context: EvaluationContext) -> None:
        """Pairs of the split, and those that the projection is fitted on."""
        for split in ("val", context.split):
            context.pairs(split)

    def compute(self, context: EvaluationContext) -> list[Measurement]:
        """The value that the lowest `share` of the pairs lie below."""
        fit, pairs = context.pairs("val"), context.pairs(context.split)
        dim = max(1, min(self.dim, (len(fit.index) - 1) // 8, len(pairs.index) // 8))
        nats, of = gaussian_pointwise(*fit.h, *pairs.h, dim, self.seed)
        order = np.argsort(nats, kind="stable")
        few = max(1, round(self.share * len(nats)))
        rows = pairs.index.numpy()
        names, labels = getattr(context.data, "row_names", None), getattr(context.data, context.split).labels
        self.listed = [
            {
                "rank": place + 1,
                "row": int(rows[i]),
                "file": names(context.split, int(rows[i])) if names is not None else "",
                "label": "" if labels is None else getattr(context.data, context.split).class_names[labels[rows[i]]],
                "nats": float(nats[i]),
                "candidate": place < few,
            }
            for place, i in enumerate(order)
        ]
        return [
            context.measurement(
                self.name,
                "pointwise_mi_lowest_nats",
                f"pointwise I(h_x; h_y): the lowest {self.share:.0%} lie below",
                float(nats[order[few - 1]]),
                n=len(nats),
                kind="point estimate",
                note=f"Gaussian copula of {of}; mean {nats.mean():.3f} nats, highest {nats.max():.3f}",
            )
        ]

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """All pairs, those that share least first."""
        return {"pointwise": self.listed}

    def explain(self, metric: str) -> Explanation | None:
        """What the value is below which the lowest pairs lie."""
        if metric != "pointwise_mi_lowest_nats":
            return None
        return Explanation(
            "lowest pairs below", "", "The nats below which the pairs lie that share least: candidates for wrong pairs."
        )


# ------------------------------------------------------------------------------------------------------------ strength


class _Alone(MutualInformation):
    """Estimates that are compared with no earlier ones."""

    def _fingerprint(self, context: EvaluationContext) -> str:
        return ""


@dataclass
class StrengthSweep(Evaluation):
    """I(H_X; H_Y) by KSG on cca4 as the augmentation grows stronger: views that differ more share less.

    Attributes:
        strengths: 1 is the augmentation as it is; crops, colours and chances are scaled.
        limit: Samples of each split.
        seed: Of projection, parts and re-pairings.
    """

    strengths: Sequence[float] = (0.25, 0.5, 1.0, 1.5)
    limit: int | None = 1000
    seed: int = 0
    name: str = field(default="strength", init=False)
    listed: list[dict[str, Any]] = field(default_factory=list, init=False, repr=False)

    def compute(self, context: EvaluationContext) -> list[Measurement]:
        """One measurement for each strength."""
        at: Callable[[float], EvaluationData] | None = getattr(context.data, "at_strength", None)
        if at is None:
            return []
        found: list[Measurement] = []
        self.listed = []
        for strength in self.strengths:
            data = at(strength)
            pairs = {split: embed.pairs(context.module, data, split, 0, self.limit) for split in ("val", context.split)}
            inner = _Alone(projections={}, seed=self.seed)
            sides = [(*pairs["val"].h, *pairs[context.split].h)]
            estimated = inner._estimate(context, CCA(4), set_apart(partial(ksg, k=3)), sides, "cca4")
            row = inner._measurement(
                context, f"mi_h_strength_{strength:g}_nats", f"I(H_X; H_Y), strength {strength:g}", estimated
            )
            found.append(replace(row, evaluation=self.name))
            self.listed.append({"strength": strength, "nats": row.value, "low": row.low, "high": row.high})
        return found

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """Strength and nats, with the interval."""
        return {"strength": self.listed}


# ------------------------------------------------------------------------------------------------------------ geometry


@dataclass
class ViewGeometry(Evaluation):
    """Alignment and uniformity of the views in h (and z), and LiDAR.

    Attributes:
        limit: Samples whose alignment and uniformity are measured.
        images: Samples of LiDAR.
        draws: Draws of two views of each, for LiDAR: twice as many views.
    """

    limit: int = 2000
    images: int = 100
    draws: int = 4
    name: str = field(default="geometry", init=False)

    def embed(self, context: EvaluationContext) -> None:
        """Pairs of the split."""
        context.pairs(context.split)

    def compute(self, context: EvaluationContext) -> list[Measurement]:
        """All of them."""
        pairs = context.pairs(context.split)
        found = []
        one_space = getattr(context.module, "one_space", True)
        spaces = ("z", "h") if getattr(context.module, "has_z", True) else ("h",)
        for space in spaces if one_space else spaces[:1]:  # h of two encoders lie in spaces of their own
            x, y = (side[: self.limit] for side in getattr(pairs, space))
            for metric, words, value, most in (
                ("alignment", "alignment of {}, E|x - y|^2", alignment(x, y), 4.0),
                ("uniformity", "uniformity of {}, views", uniformity(x), 0.0),
            ):
                found.append(
                    context.measurement(
                        self.name, f"{metric}_{space}", words.format(space), value, ceiling=most, n=len(x)
                    )
                )
        return [*found, *self._lidar(context)] if one_space else found

    def _lidar(self, context: EvaluationContext) -> list[Measurement]:
        drawn = getattr(context.data, "draws_views", True)
        if not drawn:
            return []
        pairs = [
            embed.pairs(context.module, context.data, context.split, draw, self.images) for draw in range(self.draws)
        ]
        groups = torch.stack([side for some in pairs for side in some.h], dim=1)
        n, q, d = groups.shape
        value = lidar(groups)
        note = f"{q} views of each of {n} images"
        return [context.measurement(self.name, "lidar_h", "LiDAR of h", value, ceiling=min(n - 1, d), n=n, note=note)]
