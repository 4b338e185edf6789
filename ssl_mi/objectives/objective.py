"""What every objective is: embeddings in, named loss terms out.

    loss = objective(online, target)      online, target: lists of [n, d], one entry a view
    reading = objective.read(x, y, rows)  nats on held-out pairs, for objectives that bound MI

An objective knows no processes, images or optimisers. It is built with `dim`, the width of an
embedding; whatever state exists because of the loss (a critic, a predictor, a moving average, a queue) is its
own: parameters and buffers, so that it moves, checkpoints and resumes with the model. State moves in training
mode only. The rows it sees are those of all processes, so its statistics are those of the whole batch.
"""

from __future__ import annotations

from typing import NamedTuple

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
    """The contract. `name` heads plots and tables.

    step:        the module whose training step it is made for.
    takes:       what forward takes beside embeddings, by name, of the rows of all processes:
                 "labels" int64 [n], or None where the images have none; "index" int64 [n], the image's row in the
                 training set; "maps" maps[v][s] [n, locations, d], local embeddings of view v at scale s.
    information: what the loss has to do with mutual information, in a line, for those that estimate none.
    """

    name = "objective"
    step = "ssl_mi.module.JointEmbedding"
    takes: tuple[str, ...] = ()
    information = "estimated by none of the loss"

    def forward(self, online: list[Tensor], target: list[Tensor]) -> Loss:
        """online[v], target[v]: [n, d]. `target is online` where no teacher makes the targets."""
        raise NotImplementedError

    def read(self, x: Tensor, y: Tensor, rows: int) -> Reading | None:
        """The objective's own bound on paired [n, d], read in batches of `rows`; None if it bounds nothing."""
        return None

    def check(self, images: int) -> None:
        """Raise ValueError, with the key to set, before training on so many images where that can not go well."""

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
