"""What every objective is: embeddings in, named loss terms out.

    loss = objective(online, target)      online, target: lists of [n, d], one entry a view
    reading = objective.read(x, y, rows)  nats on held-out pairs, for objectives that bound MI

An objective knows no processes, images or optimisers. It is built with `dim`, the width of an
embedding; whatever state exists because of the loss (a critic, a moving average, a queue) is its own.
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
    """The contract. `name` heads plots and tables."""

    name = "objective"

    def forward(self, online: list[Tensor], target: list[Tensor]) -> Loss:
        """online[v], target[v]: [n, d]. `target is online` where no teacher makes the targets."""
        raise NotImplementedError

    def read(self, x: Tensor, y: Tensor, rows: int) -> Reading | None:
        """The objective's own bound on paired [n, d], read in batches of `rows`; None if it bounds nothing."""
        return None

    def facts(self, rows: int) -> dict[str, str]:
        """What a user should know before a run of `rows` pairs a step: negatives, ceiling, ..."""
        return {}


def view_pairs(online: list[Tensor], target: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Which online view meets which target view.

    Without a teacher the two lists are one and each unordered pair of views is met once; with a
    teacher view i of the online network meets every other view of the target network.
    """
    if len(online) < 2:
        raise ValueError(f"an objective over views needs 2 views or more, got {len(online)}")
    n = range(len(online))
    if target is online:
        return [(online[i], online[j]) for i in n for j in n if i < j]
    return [(online[i], target[j]) for i in n for j in range(len(target)) if i != j]
