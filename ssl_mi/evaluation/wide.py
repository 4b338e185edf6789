"""Embeddings of more columns than a decomposition of columns by columns allows.

An evaluation must not need d x d numbers or d^3 steps for whatever an encoder hands out. n rows of more columns than
`WIDEST` span at most n directions. In an orthonormal basis of the span of `WIDEST` of them they are as many numbers,
with the same lengths and angles. That loses nothing where there are no more rows than that; what the other rows hold
outside of that span is left out, and whoever uses it says so.

    X_m X_m^T = U s^2 U^T                        m rows, inner products taken in pieces of columns
    coordinates of a row x:   x X_m^T U / s

The basis itself, d x m, is never held.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

WIDEST = 2048  # columns that are decomposed as they are
PIXELS = 32  # a side, of the images that are the baseline of the probes
PIECE = 2**22  # numbers of a piece: 32 MiB in float64
CACHED = 2**20  # numbers that are worked on at a time and stay in a processor's cache


def eigh(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues, ascending, and eigenvectors of a symmetric matrix `[d, d]`.

    In single precision LAPACK can fail on a matrix of which most rows are 0, that of features that mostly do not vary;
    it is then decomposed in double precision.
    """
    try:
        values, axes = torch.linalg.eigh(gram)
    except torch.linalg.LinAlgError:
        if gram.dtype == torch.float64:
            raise
        values, axes = torch.linalg.eigh(gram.double())
    return values.to(gram.dtype), axes.to(gram.dtype)


@dataclass(frozen=True)
class Span:
    """The span of some rows, whose columns are shifted and scaled first: x -> (x - shift) * gain."""

    rows: Tensor
    coefficients: Tensor
    shift: Tensor | None = None
    gain: Tensor | None = None

    @property
    def dim(self) -> int:
        return self.coefficients.shape[1]

    @classmethod
    def of(cls, rows: Tensor, shift: Tensor | None = None, gain: Tensor | None = None) -> Span:
        """rows: [m, d]. Directions in which they differ by rounding only are left out."""
        gram = _inner(rows, rows, shift, gain)
        squares, axes = torch.linalg.eigh(gram)
        kept = squares > squares[-1].clamp_min(torch.finfo(gram.dtype).tiny) * len(rows) * torch.finfo(gram.dtype).eps
        return cls(rows, axes[:, kept] / squares[kept].sqrt(), shift, gain)

    def back(self, weight: Tensor) -> Tensor:
        """weight: [k, dim] on coordinates -> [k, d] on the shifted and scaled columns."""
        mixed = (weight.to(self.coefficients) @ self.coefficients.T).to(weight.dtype)
        size = max(1, PIECE // len(self.rows))
        pieces = []
        for start in range(0, self.rows.shape[1], size):
            piece = slice(start, start + size)
            rows = self.rows[:, piece]
            rows = rows if self.shift is None else rows - self.shift[piece]
            pieces.append(mixed @ (rows if self.gain is None else rows * self.gain[piece]))
        return torch.cat(pieces, 1)

    def __call__(self, x: Tensor) -> Tensor:
        """x: [n, d] -> its coordinates [n, dim], in x's own precision."""
        size = max(1, PIECE // max(len(self.rows), 1))
        parts = [_inner(part, self.rows, self.shift, self.gain) @ self.coefficients for part in x.split(size)]
        return torch.cat(parts).to(x.dtype)


def narrow(fit: Tensor, *others: Tensor) -> tuple[list[Tensor], str]:
    """`fit` and others of the same columns in at most `WIDEST` columns, and a note of what was done, "" for nothing.

    Args:
        fit: [n, d], whose first rows span the space.
        others: [n', d] each.
    """
    d = fit.shape[1]
    if d <= WIDEST:
        return [fit, *others], ""
    span = Span.of(fit[:WIDEST])
    return [span(x) for x in (fit, *others)], f"{d:,} columns in the span of {min(WIDEST, len(fit)):,} images"


def reduced_pixels(x: Tensor) -> tuple[Tensor, str]:
    """Images [n, c, h, w] with sides of at most `PIXELS`, and a note of what was done; "" where they were no larger.

    224 x 224 pixels are 150,528 numbers: 30 GB of 50,000 images, of which a linear classifier makes little more than
    of 3,072.
    """
    if x.ndim != 4 or max(x.shape[2:]) <= PIXELS:
        return x, ""
    height, width = x.shape[2:]
    low, wide = (max(1, round(side * PIXELS / max(height, width))) for side in (height, width))
    small = interpolate(x.float(), (low, wide), mode="bilinear", antialias=True)
    return small, f"pixels reduced from {height} x {width} to {low} x {wide}"


def singular_values(x: Tensor) -> Tensor:
    """Of x: [n, d] less its mean row, float64, largest first; of wide x from inner products of its rows."""
    if x.shape[1] <= WIDEST:
        return torch.linalg.svdvals((x - x.mean(0)).double())
    squares = torch.linalg.eigvalsh(_inner(x, x, x.mean(0), None))
    return squares.clamp_min(0).sqrt().flip(0)


def exact(x: Tensor) -> torch.dtype:
    """What long sums are taken in: float64 where the device has it."""
    return torch.float32 if x.device.type == "mps" else torch.float64


def _inner(a: Tensor, b: Tensor, shift: Tensor | None, gain: Tensor | None) -> Tensor:
    """Inner products of the rows of a and b, [n, m], over pieces of their columns."""
    precise = exact(a)
    found = torch.zeros(len(a), len(b), dtype=precise, device=a.device)
    size = max(1, PIECE // max(len(a), len(b), 1))
    for start in range(0, a.shape[1], size):
        piece = slice(start, start + size)

        def taken(x: Tensor, piece: slice = piece) -> Tensor:
            x = x[:, piece].to(precise)
            x = x if shift is None else x - shift[piece]
            return x if gain is None else x * gain[piece]

        left = taken(a)
        found += left @ (left if b is a else taken(b)).T
    return found
