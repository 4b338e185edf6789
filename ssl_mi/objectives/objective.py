"""What every objective is: embeddings in, named loss terms out.

    loss = objective(online, target)      online, target: lists of [n, d], one entry a view
    reading = objective.read(x, y, rows)  nats on held-out pairs, for objectives that bound MI

An objective knows no processes, images or optimisers. It is built with `dim`, the width of an
embedding; whatever state exists because of the loss (a critic, a predictor, a moving average, a queue) is its
own: parameters and buffers, so that it moves, checkpoints and resumes with the model. State moves in training
mode only. The rows it sees are those of all processes, so its statistics are those of the whole batch.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from torch import Tensor, nn


class Loss(NamedTuple):
    """terms: what is summed and followed. metrics: what is logged beside them, detached."""

    terms: dict[str, Tensor]
    metrics: dict[str, Tensor]

    @property
    def total(self) -> Tensor:
        return sum(self.terms.values())


class Reading(NamedTuple):
    """A bound's value on pairs that it was not trained on.

    value, ceiling: nats. kind: "lower bound" or "point estimate". negatives: per row.
    """

    value: float
    kind: str
    ceiling: float
    negatives: int


class Objective(nn.Module):
    """The contract between an objective and the module that trains it.

    An objective over embeddings (`learns_from = "embeddings"`, the default) implements

        forward(online, target, **required) -> Loss

    where online[v] and target[v] are the embeddings [n, d] of view v, of all processes, and `target is online` where
    no teacher makes the targets. An objective that learns from something else says so in `learns_from` and documents
    its own `forward`; the module whose `gives` is the same word trains it. What is declared here is checked when the
    module is built, before anything is computed.

    Attributes:
        name: Heads plots and tables.
        learns_from: What the training step gives it: "embeddings", or the `gives` of another module.
        requires: What `forward` takes beside embeddings, by name, for the rows of all processes: "labels" int64 [n];
            "index" int64 [n], the image's row in the training set; "maps" maps[v][s] [n, locations, d], local
            embeddings of view v at scale s.
        teacher: Whether a teacher makes the targets: "required", "optional", or "unused" where `forward` ignores
            `target` and a teacher would cost time for nothing.
        min_views: The least number of views.
        information: What the loss has to do with mutual information, in a line, for those that estimate none.
    """

    name: str = "objective"
    learns_from: str = "embeddings"
    requires: tuple[str, ...] = ()
    teacher: Literal["required", "optional", "unused"] = "optional"
    min_views: int = 2
    information: str = "estimated by none of the loss"

    def read(self, x: Tensor, y: Tensor, rows: int) -> Reading | None:
        """The objective's own bound on paired [n, d], read in batches of `rows`; None if it bounds nothing."""
        return None

    def can_shard(self) -> bool:
        """Whether the loss is a mean over rows, each of which needs the others as columns only.

        Then `forward` also takes `rows`, a slice of the batch: it scores these rows against all columns and returns
        means over them. The mean over slices of equal length that cover the batch is the loss of the whole batch, in
        value and in gradient. With W processes each scores n of the W n rows: 1/W of the work.
        """
        return False

    def check(self, images: int) -> None:
        """Raise ValueError, with the key to set, before training on so many images where that cannot go well."""

    def check_settings(self) -> None:
        """Raise ValueError unless the settings go together; constructors call it, and schedules at their two ends."""

    def facts(self, rows: int) -> dict[str, str]:
        """What a user should know before a run of `rows` pairs a step: negatives, ceiling, ..."""
        return {"mutual information": self.information}


def view_pairs(online: list[Tensor], target: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Which online view meets which target view.

    Without a teacher the two lists are one and each unordered pair of views is met once; with a
    teacher view i of the online network meets every other view of the target network.
    """
    need_views(online)
    n = range(len(online))
    if target is online:
        return [(online[i], online[j]) for i in n for j in n if i < j]
    return crossings(online, target)


def crossings(online: list[Tensor], target: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Every online view with every target view but its own, in order: the swap of BYOL, multi-crop of DINO.

    For losses whose two sides play different parts. A teacher may see the first views only.
    """
    need_views(online)
    return [(x, y) for i, x in enumerate(online) for j, y in enumerate(target) if i != j]


def need_views(online: list[Tensor]) -> None:
    if len(online) < 2:
        raise ValueError(f"an objective over views needs 2 views or more, got {len(online)}")
