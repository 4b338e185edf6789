"""`neighbours` in torch, for samples on a GPU: the questions of KSG by brute force over tiles, in float64.

    pass 1: ε_i, the k-th smallest of max(|x_i - x_j|, |y_i - y_j|) over j ≠ i: a running k smallest, tile after tile
    pass 2: (KSG 2 only) ε_x,i and ε_y,i, the largest |x_i - x_j| and |y_i - y_j| among the j within ε_i
    pass 3: how many |x_i - x_j| < ε_i and |y_i - y_j| < ε_i (KSG 2: <= ε_x,i, <= ε_y,i)

A tile is some rows against some columns, no larger than `elements` numbers. Distances are computed anew in each pass,
by the same operations in the same order as `trees` (subtract, absolute value, maximum: all exact or rounded once), so
the counts are the same integers. Several pairings of the same rows are one more dimension: `partners` [B, n].
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

CPU_ELEMENTS, GPU_ELEMENTS = 2**18, 2**24  # of a tile: 2 MiB stay in a processor's cache, 128 MiB fill a GPU


def chosen_device(device: torch.device | str | None, *samples: object) -> torch.device | None:
    """Where to count: on `device` if one is named, on that of a CUDA tensor among the samples, else None: `neighbours`.

    Raises ValueError for a device that is not there or has no float64.
    """
    if device is None:
        return next((s.device for s in samples if isinstance(s, Tensor) and s.device.type == "cuda"), None)
    try:
        one = torch.ones(1, dtype=torch.float64, device=device)
        one.item()  # which "meta" has not
        return one.device
    except (RuntimeError, TypeError, AssertionError, NotImplementedError) as error:
        raise ValueError(
            f"device {str(device)!r} cannot hold float64 numbers here ({str(error).splitlines()[0]}): pass "
            f"device=None for the compiled trees on the CPU"
        ) from error


def counts_on(
    device: torch.device | str,
    x: np.ndarray,
    y: np.ndarray,
    k: int,
    variant: int = 1,
    partners: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """`counts` of numpy arrays, taken to the device and brought back."""
    on_device = None if partners is None else torch.from_numpy(partners).to(device)
    n_x, n_y = counts(torch.from_numpy(x).to(device), torch.from_numpy(y).to(device), k, variant, on_device)
    return n_x.cpu().numpy(), n_y.cpu().numpy()


def counts(
    x: Tensor, y: Tensor, k: int, variant: int = 1, partners: Tensor | None = None, elements: int | None = None
) -> tuple[Tensor, Tensor]:
    """x: float64 [n, dx], y: [n, dy], on one device -> n_x, n_y of KSG variant 1 or 2: int64 [B, n], [B, n].

    partners: int64 [B, n], each row a permutation: sample b pairs x[i] with y[partners[b, i]]. None is one sample,
    as it stands. Time O(B n²), memory O(B n + elements).
    """
    n = len(x)
    if partners is None:
        partners = torch.arange(n, device=x.device)[None]
    if elements is None:
        elements = CPU_ELEMENTS if x.device.type == "cpu" else GPU_ELEMENTS
    # Pairings that share a tile, so that there are at least 256 columns to it.
    together = max(1, min(len(partners), elements // min(n, 256)))
    parts = [_counts(x, y, k, variant, some, elements) for some in partners.split(together)]
    n_x, n_y = zip(*parts, strict=True)
    return torch.cat(n_x), torch.cat(n_y)


def _counts(x: Tensor, y: Tensor, k: int, variant: int, partners: Tensor, elements: int) -> tuple[Tensor, Tensor]:
    pairings, n = partners.shape
    n_x = torch.empty(pairings, n, dtype=torch.int64, device=x.device)
    n_y = torch.empty_like(n_x)
    columns = max(1, min(n, elements // pairings))
    height = max(1, elements // (pairings * columns))
    for rows in torch.arange(n, device=x.device).split(height):
        nearest = torch.full((pairings, len(rows), k), torch.inf, dtype=torch.float64, device=x.device)
        for far_x, far_y in _tiles(x, y, partners, rows, columns):
            candidates = torch.maximum(far_x, far_y)
            if candidates.shape[2] > k:
                candidates = candidates.topk(k, largest=False, sorted=False).values
            nearest = torch.cat([nearest, candidates], 2).topk(k, largest=False, sorted=False).values
        radius = radius_x = radius_y = nearest.amax(2, keepdim=True)
        if variant == 2:
            radius_x, radius_y = torch.zeros_like(radius), torch.zeros_like(radius)
            for far_x, far_y in _tiles(x, y, partners, rows, columns):
                beyond = torch.maximum(far_x, far_y) > radius
                radius_x = radius_x.maximum(far_x.expand_as(beyond).masked_fill(beyond, 0).amax(2, keepdim=True))
                radius_y = radius_y.maximum(far_y.masked_fill(beyond, 0).amax(2, keepdim=True))
        within = torch.lt if variant == 1 else torch.le
        inside_x = inside_y = torch.zeros((), dtype=torch.int64, device=x.device)
        for far_x, far_y in _tiles(x, y, partners, rows, columns):
            inside_x = inside_x + within(far_x, radius_x).sum(2)
            inside_y = inside_y + within(far_y, radius_y).sum(2)
        n_x[:, rows], n_y[:, rows] = inside_x, inside_y
    return n_x, n_y


def _tiles(x: Tensor, y: Tensor, partners: Tensor, rows: Tensor, width: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Distances of `rows` to all points, `width` of them at a time: in x [1, rows, width], in y [B, rows, width]."""
    for columns in torch.arange(len(x), device=x.device).split(width):
        far_x = _distances(x[rows][None], x[columns][None])
        far_y = _distances(y[partners[:, rows]], y[partners[:, columns]])
        itself = rows[:, None] == columns
        yield far_x.masked_fill_(itself, torch.inf), far_y.masked_fill_(itself, torch.inf)


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """a: [B, m, d], b: [B, n, d] -> max_c |a_c - b_c|: [B, m, n], one column after the other."""
    largest = (a[:, :, None, 0] - b[:, None, :, 0]).abs_()
    for c in range(1, a.shape[2]):
        torch.maximum(largest, (a[:, :, None, c] - b[:, None, :, c]).abs_(), out=largest)
    return largest
