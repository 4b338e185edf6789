"""Evaluations of features alone, whoever made them: they need no views, no projector and no training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from torch import Tensor, nn

from ssl_mi.evaluation.context import Evaluation, EvaluationContext
from ssl_mi.evaluation.contracts import EvaluationData, Projection
from ssl_mi.evaluation.geometry import effective_rank, uniformity
from ssl_mi.evaluation.measurement import Measurement
from ssl_mi.evaluation.mutual_information import MutualInformation
from ssl_mi.evaluation.probes import KNN, LinearProbe


class External(nn.Module):
    """An encoder as evaluations take it.

    Args:
        encoder: The clean views of some samples to h; a module that maps one of them.
        view: Which of the clean views it is given; -1 for the last.
    """

    def __init__(self, encoder: nn.Module, view: int = -1) -> None:
        super().__init__()
        self.encoder, self.view = encoder, view
        self.towers: Any = SimpleNamespace(encode=self._encode)

    @property
    def device(self) -> torch.device:
        return next((p.device for p in self.parameters()), torch.device("cpu"))

    def _encode(self, views: Sequence[Tensor]) -> Tensor:
        return self.encoder(views[self.view])


@dataclass
class LabelInformation(MutualInformation):
    """I(h; label) and I(h; factor), as `MutualInformation` measures them at the end of a run, and nothing of views."""

    projections: Mapping[str, Projection | None] = field(default_factory=dict)

    def embed(self, context: EvaluationContext) -> None:
        """Features of the split, and of the validation samples, which the projection is fitted on."""
        for split in ("val", context.split):
            context.features(split, self._limit(context))

    def compute(self, context: EvaluationContext) -> list[Measurement]:
        """One estimate for each thing that is known of the samples."""
        return list(self._with_known(context))

    def _fingerprint(self, context: EvaluationContext) -> str:
        return ""  # of one moment only: there is no earlier one to be compared with


@dataclass
class FeatureGeometry(Evaluation):
    """Effective rank and uniformity of h of samples without augmentation.

    Attributes:
        limit: Samples measured.
    """

    limit: int = 2000
    name: str = field(default="geometry", init=False)

    def embed(self, context: EvaluationContext) -> None:
        """Features of the split."""
        context.features(context.split)

    def compute(self, context: EvaluationContext) -> list[Measurement]:
        """Both, of the first `limit` samples."""
        h = context.features(context.split).h[: self.limit]
        rank = context.measurement(
            self.name,
            "effective_rank_clean_h",
            "effective rank of h, unaugmented",
            effective_rank(h),
            ceiling=min(len(h) - 1, h.shape[1]),  # centred, n rows span at most n - 1 directions
            n=len(h),
        )
        spread = context.measurement(
            self.name,
            "uniformity_clean_h",
            "uniformity of h, unaugmented",
            uniformity(h),
            ceiling=0.0,
            n=len(h),
        )
        return [rank, spread]


def feature_evaluations(seed: int = 0) -> list[Evaluation]:
    """What can be measured of features alone, with the settings of a run: the evaluations of `evaluate`."""
    return [LinearProbe(seed=seed), KNN(), FeatureGeometry(), LabelInformation(seed=seed)]


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
    for evaluation in evaluations:
        evaluation.embed(context)
        with threadpool_limits(1, user_api="blas"):  # small decompositions are fastest on one thread
            found += evaluation.compute(context)
    return found
