"""What every evaluation of one moment shares: embeddings are computed once, whoever asks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import pytorch_lightning as pl

from ssl_mi.evaluation import embed
from ssl_mi.evaluation.measurement import Row

EVALUATION_DRAW = 0


@dataclass
class Bench:
    """A module, its data and the moment: epoch, the split that is read, which encoder this is.

    What projections and probes learn from are other images, always: probes learn from labelled training
    images; projections from one half of the validation images while the other half is read, and from all of
    them while the test images are read.

    earlier: the rows measured before this moment, to be compared with.
    """

    module: pl.LightningModule
    data: object
    split: str
    epoch: int
    encoder: str = "trained"
    earlier: Sequence[Row] = ()
    _cache: dict = field(default_factory=dict)

    @property
    def final(self) -> bool:
        """Whether this is the one reading of the test split, at the end."""
        return self.split == "test"

    def features(self, split: str, limit: int | None = None) -> embed.Features:
        """h of clean images."""
        return self._once(embed.features, split, limit)

    def pairs(self, split: str, limit: int | None = None) -> embed.Pairs:
        """Two views of each image: the same at every epoch, which can so be compared, and none of training's."""
        return self._once(embed.pairs, split, EVALUATION_DRAW, limit)

    def _once(self, function, split: str, *key):
        at = (function.__name__, split, *key)
        if at not in self._cache:
            self._cache[at] = function(self.module, self.data, split, *key)
        return self._cache[at]

    def row(self, evaluation: str, metric: str, quantity: str, value: float, **rest) -> Row:
        return Row(evaluation, self.epoch, self.split, self.encoder, metric, quantity, float(value), **rest)


class Evaluation(Protocol):
    """An entry of conf/evaluation: measures something of the embeddings, changes nothing.

    `collect` runs in every process and asks the bench for embeddings (which are gathered there); `measure`
    runs in the first process only and turns them into rows.
    """

    name: str

    def check(self, data) -> None:
        """Before training: raise ValueError if these data can not be measured later."""

    def collect(self, bench: Bench) -> None: ...

    def measure(self, bench: Bench) -> Iterable[Row]: ...
