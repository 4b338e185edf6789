"""The contract of an evaluation, and what all evaluations of one moment share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from ssl_mi.evaluation import embed
from ssl_mi.evaluation.contracts import EncoderModule, EvaluationData
from ssl_mi.evaluation.measurement import Measurement

EVALUATION_DRAW = 0
OF_TRAINING = "of training images (data.val_fraction=0)"


class Explanation(NamedTuple):
    """What a reader needs to know of a metric.

    Attributes:
        short: Its name in at most 20 characters.
        better: "higher", "lower", or "" where neither is better in itself.
        meaning: What it is, in one or two sentences.
    """

    short: str
    better: str
    meaning: str


class Plot(NamedTuple):
    """A picture that an evaluation returns.

    Attributes:
        caption: Its heading in the report.
        path: The file, a PNG. Its stem names the picture in loggers.
    """

    caption: str
    path: Path


@dataclass
class EvaluationContext:
    """A module, its data and the moment of an evaluation. Embeddings are computed once, whoever asks for them.

    What projections and probes learn from are other samples, always: probes learn from labelled training samples;
    projections from one half of the validation samples while the other half is measured, and from all of them while
    the test samples are measured. Where no samples are held out for validation (`val_is_training`), validation samples
    are training samples: probes learn from the others, and projections at the end from the other half of the test
    samples.

    Attributes:
        module: What is evaluated.
        data: Its data.
        split: "val" or "test", which is measured.
        epoch: Epochs of training so far.
        encoder: "trained", "random" (its own initialisation) or "pixels" (the samples themselves).
        earlier: The measurements before this moment, to be compared with.
        predicted: Classes that probes predicted for the split, int64 `[n]` by metric, for evaluations that follow.
    """

    module: EncoderModule
    data: EvaluationData
    split: str
    epoch: int
    encoder: str = "trained"
    earlier: Sequence[Measurement] = ()
    predicted: dict[str, Tensor] = field(default_factory=dict)
    _cache: dict[tuple, Any] = field(default_factory=dict)

    @property
    def val_is_training(self) -> bool:
        """Whether the validation samples are training samples too, since none are held out."""
        return getattr(self.data, "val_is_training", False)

    @property
    def final(self) -> bool:
        """Whether this is the one measurement of the test split, at the end."""
        return self.split == "test"

    def features(self, split: str, limit: int | None = None) -> embed.Features:
        """h of the samples of a split without augmentation; `limit`: of the first rows only."""
        return self._once(embed.features, split, limit)

    def fitting(self, limit: int | None = None, chooses: bool = False) -> embed.Features:
        """h of the labelled samples that a probe is fitted on, which are never those it is judged on.

        Args:
            limit: Of the first rows only.
            chooses: Whether the probe chooses a setting on the validation samples.
        """
        if self.val_is_training and (chooses or not self.final):
            apart = len(self.data.labelled) - len(self.data.val)  # validation samples are the last of them
            limit = apart if limit is None else min(limit, apart)
        return self.features("labelled", limit)

    def pairs(self, split: str, limit: int | None = None) -> embed.Pairs:
        """h and z of two views of each sample: the same views at every epoch, and none of training's."""
        return self._once(embed.pairs, split, EVALUATION_DRAW, limit)

    def _once(self, function: Callable[..., Any], split: str, *key: int | None) -> Any:
        at = (function.__name__, split, *key)
        if at not in self._cache:
            self._cache[at] = function(self.module, self.data, split, *key)
        return self._cache[at]

    def measurement(self, evaluation: str, metric: str, quantity: str, value: float, **columns: Any) -> Measurement:
        """A `Measurement` of this moment; `columns`: its other fields."""
        if self.val_is_training and self.split == "val":
            columns["note"] = "; ".join(filter(None, [columns.get("note", ""), OF_TRAINING]))
        return Measurement(evaluation, self.epoch, self.split, self.encoder, metric, quantity, float(value), **columns)


class Evaluation:
    """An entry of `evaluation.evaluations`: measures something of the embeddings, changes nothing.

    A subclass sets `name` and gives `embed` and `compute`; the rest may stay.

    Attributes:
        name: Groups its measurements, and names their CSV file. Evaluations may share one.
        wants_pixels: True: at the end it is also run on the samples themselves, flattened, in place of h.
    """

    name: str = "evaluation"
    wants_pixels: bool = False

    def check(self, data: EvaluationData) -> None:
        """Called before training.

        Raises:
            ValueError: These data cannot be measured later; with the key to set.
        """

    def embed(self, context: EvaluationContext) -> None:
        """Ask the context for all embeddings that `compute` needs. Runs in every process: they are gathered there."""

    def compute(self, context: EvaluationContext) -> Iterable[Measurement]:
        """The measurements of this moment. Runs in the first process only."""
        return ()

    def explain(self, metric: str) -> Explanation | None:
        """What one of its metrics means, for tables and reports; None: its quantity has to do.

        Args:
            metric: As in its measurements.
        """
        return None

    def plots(self, rows: Sequence[Mapping[str, Any]], folder: Path) -> Iterable[Plot]:
        """Draw into `folder` what should be seen, for the report and the loggers. Runs in the first process only.

        Args:
            rows: All measurements of the run so far, of every evaluation, as plain mappings.
            folder: An existing folder; files of the same names are replaced.
        """
        return ()

    def tables(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Lists beside the measurements, by the name of their file: one mapping per line, all with the same keys."""
        return {}
