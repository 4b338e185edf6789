"""Evaluations of any encoder and of features alone, whoever made them, by name: `MEASURES`."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from ssl_mi.evaluation.context import Evaluation, EvaluationContext
from ssl_mi.evaluation.contracts import EvaluationData, Projection
from ssl_mi.evaluation.factors import known_values
from ssl_mi.evaluation.geometry import alpha_req, collapse_in_words, effective_rank, rankme, spectrum, uniformity
from ssl_mi.evaluation.measurement import Measurement
from ssl_mi.evaluation.mutual_information import MutualInformation
from ssl_mi.evaluation.probe_protocols import FewLabels, FineTuning, KNNSweep, RegressionProbe, SGDProbe
from ssl_mi.evaluation.probes import KNN, LinearProbe
from ssl_mi.evaluation.retrieval import Retrieval, ZeroShot
from ssl_mi.evaluation.view_information import (
    PointwiseInformation,
    StrengthSweep,
    ViewFamilies,
    ViewGeometry,
    flow_family,
)

log = logging.getLogger(__name__)


class External(nn.Module):
    """An encoder as evaluations take it.

    Args:
        encoder: A clean view of some samples, or an augmented one, to h `[n, d]`.
        view: Which of the clean views it is given; -1 for the last.
        projector: h to z; None where there is none.
        second: (encoder, projector) of the second of two views, where that has a tower of its own.
        pixels: Of the images that are encoded at once: small batches keep the memory of large images low.
    """

    def __init__(
        self,
        encoder: nn.Module,
        view: int = -1,
        projector: nn.Module | None = None,
        second: tuple[nn.Module, nn.Module | None] | None = None,
        pixels: int = 2**21,
    ) -> None:
        super().__init__()
        self.encoder, self.view, self.projector, self.pixels = encoder, view, projector, pixels
        self.second = None if second is None else nn.ModuleList([part for part in second if part is not None])
        self.towers: Any = _Towers(self)

    @property
    def has_z(self) -> bool:
        """Whether z is something else than h."""
        return self.projector is not None

    @property
    def one_space(self) -> bool:
        """Whether h of both views is of one encoder, so that distances between them mean something."""
        return self.second is None

    @property
    def device(self) -> torch.device:
        return next((p.device for p in self.parameters()), torch.device("cpu"))

    def of_z(self) -> External | None:
        """The same with z in place of h; None without a projector."""
        if self.projector is None:
            return None
        return External(nn.Sequential(self.encoder, self.projector), self.view, pixels=self.pixels)

    def parts_of(self, view: int) -> tuple[nn.Module, nn.Module | None]:
        """(encoder, projector) of view 0 or 1."""
        if view == 0 or self.second is None:
            return self.encoder, self.projector
        return self.second[0], self.second[1] if len(self.second) > 1 else None

    def encode(self, x: Tensor, view: int = 0) -> tuple[Tensor, Tensor]:
        """One view of some samples -> (h, z); z is h where there is no projector."""
        encoder, projector = self.parts_of(view)
        size = max(1, self.pixels // max(1, x[0].numel() // max(1, x.shape[1]))) if x.ndim == 4 else len(x)
        parts = []
        for part in x.split(max(1, size)):
            if part.ndim == 4:
                part = part.contiguous(memory_format=torch.channels_last)
            h = encoder(part)
            parts.append((h, h if projector is None else projector(h)))
        h, z = (torch.cat(side) for side in zip(*parts, strict=True))
        return h, z


class _Towers:
    """What evaluations ask of towers, of an `External`. No module, so that it does not hold its owner."""

    def __init__(self, owner: External) -> None:
        self.owner = owner

    def encode(self, views: Sequence[Tensor]) -> Tensor:
        return self.owner.encode(views[self.owner.view])[0]

    def tower_of(self, view: int) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        return partial(self.owner.encode, view=min(view, 1))

    def __call__(self, views: Sequence[Tensor]) -> SimpleNamespace:
        seen = [self.owner.encode(x, min(v, 1)) for v, x in enumerate(views)]
        return SimpleNamespace(h=[h for h, _ in seen], z=[z for _, z in seen])


@dataclass
class LabelInformation(MutualInformation):
    """I(h; label) and I(h; factor), as `MutualInformation` measures them at the end of a run; I(z; label) with a z."""

    projections: Mapping[str, Projection | None] = field(default_factory=dict)

    def embed(self, context: EvaluationContext) -> None:
        """Features of the split, and of the validation samples, which the projection is fitted on."""
        if known_values(getattr(context.data, context.split)):
            for split in ("val", context.split):
                context.features(split, self._limit(context))

    def compute(self, context: EvaluationContext) -> list[Measurement]:
        """One estimate for each thing that is known of the samples."""
        found = list(self._with_known(context))
        of_z = getattr(context.module, "of_z", lambda: None)()
        if of_z is not None and getattr(context.data, context.split).labels is not None:
            there = EvaluationContext(of_z, context.data, context.split, context.epoch, context.encoder)
            rows = [row for row in self._with_known(there) if row.metric == "mi_h_label_nats"]
            found += [replace(row, metric="mi_z_label_nats", quantity="I(z; label)") for row in rows]
        return found

    def _fingerprint(self, context: EvaluationContext) -> str:
        return ""  # of one moment only: there is no earlier one to be compared with


@dataclass
class FeatureGeometry(Evaluation):
    """The shape of h of samples without augmentation, and in words whether it has collapsed.

    Attributes:
        limit: Samples measured.
    """

    limit: int = 2000
    name: str = field(default="geometry", init=False)
    listed: list[dict[str, Any]] = field(default_factory=list, init=False, repr=False)

    def embed(self, context: EvaluationContext) -> None:
        """Features of the split."""
        context.features(context.split)

    def compute(self, context: EvaluationContext) -> list[Measurement]:
        """Ranks, decay of the spectrum, spread of the dimensions, and uniformity, of the first `limit` samples."""
        h = context.features(context.split).h[: self.limit]
        note, spread = collapse_in_words(h), h.double().std(0)
        values = spectrum(h)
        self.listed = [{"dimension": i + 1, "eigenvalue": x} for i, x in enumerate(values.tolist())]
        most = min(len(h) - 1, h.shape[1])  # centred, n rows span at most n - 1 directions
        size = min(h.shape)
        found = [
            ("effective_rank_clean_h", "effective rank of h, unaugmented", effective_rank(h), most, note),
            ("rankme_clean_h", "RankMe of h, unaugmented", rankme(h), size, ""),
            ("alpha_req_clean_h", "alpha-ReQ of h, unaugmented", alpha_req(h), math.nan, ""),
            (
                "least_spread_clean_h",
                "least sd of a dimension of h, of the mean sd",
                (spread.min() / spread.mean().clamp_min(1e-30)).item(),
                1.0,
                "",
            ),
            ("uniformity_clean_h", "uniformity of h, unaugmented", uniformity(h), 0.0, ""),
        ]
        return [
            context.measurement(self.name, metric, words, value, ceiling=ceiling, n=len(h), note=said)
            for metric, words, value, ceiling, said in found
        ]

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """Eigenvalues of the covariance of h, the largest first."""
        return {"spectrum": self.listed}


MEASURES: dict[str, Callable[[int], Sequence[Evaluation]]] = {
    "linear": lambda seed: [LinearProbe(seed=seed, details=True)],
    "knn": lambda seed: [KNN(), KNNSweep()],
    "few_labels": lambda seed: [FewLabels(seed=seed)],
    "regression": lambda seed: [RegressionProbe()],
    "geometry": lambda seed: [FeatureGeometry()],
    "labels": lambda seed: [LabelInformation(seed=seed)],
    "views": lambda seed: [ViewFamilies(seed=seed), ViewGeometry()],
    "flow": lambda seed: [ViewFamilies(seed=seed, families=flow_family(seed))],
    "pointwise": lambda seed: [PointwiseInformation(seed=seed)],
    "retrieval": lambda seed: [Retrieval(), ZeroShot()],
    "sgd": lambda seed: [SGDProbe(seed=seed)],
    "finetune": lambda seed: [FineTuning(seed=seed)],
    "strength": lambda seed: [StrengthSweep(seed=seed)],
}
DEFAULT = ("linear", "knn", "few_labels", "regression", "geometry", "labels", "views", "pointwise")
OF_PAIRS = ("retrieval",)  # in the default where the two views are different measurements
OF_VIEWS = ("views", "flow", "pointwise", "strength", "retrieval")  # need two views of each sample
OF_IMAGES = ("finetune", "strength")  # need the samples themselves
OF_CLASSES = ("linear", "knn", "few_labels", "sgd", "finetune")  # need labels
OF_NUMBERS = ("regression",)  # need a factor that is a number


def chosen_measures(measure: str | Sequence[str], views: bool, images: bool, pairs: bool = False) -> list[str]:
    """The names of what is measured.

    Args:
        measure: "default", "all" or names of `MEASURES`, as a sequence or with commas.
        views: Whether two views of each sample can be had.
        images: Whether the samples can be had as images, and not their features alone.
        pairs: Whether the two views are different measurements of each sample.

    Raises:
        ValueError: On an unknown name, and on one that was asked for and cannot be had.
    """
    words = [word.strip() for word in measure.split(",")] if isinstance(measure, str) else list(measure)
    absent = [*(() if views else OF_VIEWS), *(() if images else OF_IMAGES)]
    found: list[str] = []
    for word in words:
        if word in ("default", "all"):
            usual = (*DEFAULT, *(OF_PAIRS if pairs else ()))
            found += [name for name in (usual if word == "default" else MEASURES) if name not in absent]
        elif word not in MEASURES:
            raise ValueError(f"measure={word!r}: choose from default, all, {', '.join(MEASURES)}")
        elif word in absent:
            needed = "the images" if word in OF_IMAGES else "two views of each sample"
            have = "pairs of other measurements" if pairs else "features alone"
            raise ValueError(f"measure={word!r} needs {needed}, and there are {have}: leave it out")
        else:
            found.append(word)
    return list(dict.fromkeys(found))


def measurable(
    names: Sequence[str], data: EvaluationData, seed: int, asked: Sequence[str] = ()
) -> tuple[list[Evaluation], list[str]]:
    """The evaluations that these data allow, and in words what was left out.

    Args:
        names: Of `MEASURES`.
        data: With test, validation and labelled samples.
        seed: Of the evaluations.
        asked: The names that must not be left out.

    Raises:
        ValueError: If nothing can be measured, or not what was asked for.
    """
    found: list[Evaluation] = []
    reasons: dict[str, list[str]] = {}
    for name in names:
        made = MEASURES[name](seed)
        try:
            _check_known(name, data)
            for evaluation in made:
                evaluation.check(data)
        except ValueError as error:
            if name in asked:
                raise ValueError(f"measure={name}: {error}") from error
            reasons.setdefault(str(error), []).append(name)
        else:
            found += made
    left = [f"{', '.join(some)} left out: {reason}" for reason, some in reasons.items()]
    if not found:
        raise ValueError("; ".join(left) or "nothing is measured: name some measures")
    return found, left


def _check_known(name: str, data: EvaluationData) -> None:
    """Raise ValueError where the labels or factors that a measure needs are not there."""
    labels, factors = data.labelled.labels, data.labelled.factors.values()
    if name in (*OF_CLASSES, "labels") and labels is not None and len(labels.unique()) == 1 and not factors:
        raise ValueError("all labels are the same: there is no class to tell from it")
    if name in OF_CLASSES and labels is None:
        raise ValueError("there are no labels of classes")
    if name in OF_NUMBERS and not any(x.is_floating_point() and x.ndim == 1 for x in factors):
        raise ValueError("there are no targets that are numbers: labels as floats, or factors of the data")
    if name == "labels" and labels is None and not factors:
        raise ValueError("there are no labels of classes")


def evaluate(module: Any, data: EvaluationData, evaluations: Sequence[Evaluation], epoch: int = 0) -> list[Measurement]:
    """Measure a module once on the test split, as a run does at its end.

    Args:
        module: A `contracts.EncoderModule`; `External` makes one of any encoder.
        data: With test, validation and labelled samples.
        evaluations: What to measure.
        epoch: Epochs of training so far, where they are known.

    Raises:
        ValueError: If the data cannot be measured; before anything is computed.
    """
    for evaluation in evaluations:
        evaluation.check(data)
    context = EvaluationContext(module, data, "test", epoch)
    found: list[Measurement] = []
    for place, evaluation in enumerate(evaluations, 1):
        began = time.monotonic()
        log.info("%s, %d of %d", type(evaluation).__name__, place, len(evaluations))
        evaluation.embed(context)
        embedded = time.monotonic()
        with threadpool_limits(1, user_api="blas"):  # small decompositions are fastest on one thread
            found += evaluation.compute(context)
        log.info("  %.0f s to encode, %.0f s to measure", embedded - began, time.monotonic() - embedded)
    return found
