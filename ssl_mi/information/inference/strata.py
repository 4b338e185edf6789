"""Cutting rows that carry labels, so that rare labels do not vanish from a part.

A random cut is kept where every part can be used. Otherwise the rows are dealt: sorted by label, in random order
within a label, row i goes to part i mod m. Then the counts of each label in the parts differ by at most one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from ssl_mi.information.core.inputs import read_labels


def halves(labels: ArrayLike, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first and the second half of `order`, dealt where they would lack a label that occurs twice or more.

    Args:
        labels: symbols of the rows, [n] or [n, d].
        order: a permutation of 0 .. n - 1.
    """
    codes, m = read_labels(labels)
    cut = order[: len(order) // 2], order[len(order) // 2 :]
    twice = np.bincount(codes, minlength=m) > 1
    if all((np.bincount(codes[rows], minlength=m) > 0)[twice].all() and repeats(codes[rows]) for rows in cut):
        return cut
    first, second = _deal(codes, order, 2)
    # Where labels occur two or three times, dealing leaves a half without any that occurs twice.
    return (first, second) if repeats(codes[first]) and repeats(codes[second]) else cut


def parts(labels: ArrayLike, m: int, order: np.ndarray) -> list[np.ndarray] | None:
    """`order` in m parts of nearly equal size, each with a label that occurs twice; None where there is no such cut."""
    codes, _ = read_labels(labels)
    return next((cut for cut in (np.array_split(order, m), _deal(codes, order, m)) if all_repeat(codes, cut)), None)


def all_repeat(labels: ArrayLike, cut: Sequence[np.ndarray]) -> bool:
    """Whether each part of a cut, given as its rows, holds a label that occurs twice."""
    codes, _ = read_labels(labels)
    return all(repeats(codes[rows]) for rows in cut)


def repeats(codes: np.ndarray) -> bool:
    """Whether a label occurs twice: neighbours of the same label exist."""
    return len(codes) > 0 and int(np.unique(codes, return_counts=True)[1].max()) > 1


def _deal(codes: np.ndarray, order: np.ndarray, m: int) -> list[np.ndarray]:
    by_label = order[np.argsort(codes[order], kind="stable")]
    return [by_label[part::m] for part in range(m)]
