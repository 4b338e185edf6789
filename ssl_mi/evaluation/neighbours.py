"""Nearest neighbours by cosine similarity, a tile of rows and queries at a time, and what they vote for."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ssl_mi.evaluation.wide import CACHED

BANK = 2**16  # rows of the bank that are compared at a time


def nearest(bank: Tensor, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k rows of the bank with the largest cosine similarity, a tile of rows and queries at a time.

    Args:
        bank: `[n, d]`.
        queries: `[m, d]`.
        k: How many, at most n.

    Returns:
        Similarities `[m, k]`, largest first, and row numbers int64 `[m, k]`.
    """
    length = torch.linalg.vector_norm(bank, dim=1).clamp_min(1e-12)
    wide = max(k, min(len(bank), BANK))
    best = []
    rows = max(1, min(len(queries), 1024, 8 * CACHED // max(wide, 2 * k)))
    buffer = bank.new_empty(rows * wide)  # one for all tiles: memory that is freed and taken again grows
    for part in queries.split(rows):
        part = normalize(part, dim=1)
        top, where = part.new_empty(len(part), 0), torch.empty(len(part), 0, dtype=torch.int64, device=part.device)
        for start in range(0, len(bank), wide):
            near = bank[start : start + wide]
            out = buffer[: len(part) * len(near)].view(len(part), len(near))
            similarity = torch.mm(part, near.T, out=out).div_(length[start : start + wide])
            new, place = similarity.topk(min(k, similarity.shape[1]), dim=1)
            top, where = torch.cat([top, new], 1), torch.cat([where, place + start], 1)
            if top.shape[1] > k:
                top, order = top.topk(k, dim=1)
                where = where.gather(1, order)
        best.append((top, where))
    return torch.cat([top for top, _ in best]), torch.cat([where for _, where in best])


def votes_of(similarity: Tensor, labels: Tensor, classes: int, temperature: float) -> Tensor:
    """Votes of neighbours, largest similarity first, with weights e^(similarity / temperature).

    Args:
        similarity: Of the neighbours of each query, `[m, k]`.
        labels: Of them, int64 `[m, k]`.
        classes: How many.
        temperature: Of the weights.

    Returns:
        `[m, classes]`; the nearest neighbour has weight 1.
    """
    # Relative to the nearest: the vote is the same, and nothing overflows.
    weight = ((similarity - similarity[:, :1]) / temperature).exp()
    return weight.new_zeros(len(weight), classes).scatter_add_(1, labels, weight)


def knn_votes(
    bank: Tensor, bank_labels: Tensor, queries: Tensor, classes: int, k: int = 200, temperature: float = 0.1
) -> Tensor:
    """Weighted nearest-neighbour votes by cosine similarity s: weight e^(s / temperature).

    Args:
        bank, bank_labels: What votes, `[n, d]` and int64 `[n]`.
        queries: `[m, d]`.
        classes: How many.
        k: Neighbours.
        temperature: 0.07 in the paper, 0.1 in common use.

    Returns:
        The votes for each class, `[m, classes]`; the nearest neighbour has weight 1.

    References:
        Wu et al. 2018, arXiv:1805.01978, section 3.4.
    """
    similarity, neighbour = nearest(bank, queries, k)
    return votes_of(similarity, bank_labels[neighbour], classes, temperature)


def knn_predict(
    bank: Tensor, bank_labels: Tensor, queries: Tensor, classes: int, k: int = 200, temperature: float = 0.1
) -> Tensor:
    """The classes with most of `knn_votes`, int64 `[m]`.

    Args:
        bank, bank_labels: What votes, `[n, d]` and int64 `[n]`.
        queries: `[m, d]`.
        classes: How many.
        k: Neighbours.
        temperature: 0.07 in the paper, 0.1 in common use.
    """
    similarity, neighbour = nearest(bank, queries, k)
    few = max(1, CACHED // classes)
    parts = zip(similarity.split(few), bank_labels[neighbour].split(few), strict=True)
    return torch.cat([votes_of(*part, classes, temperature).argmax(1) for part in parts])
