"""Linear algebra and marginal maps that several estimators share."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ssl_mi.information.core.inputs import Variable, read


class Whitened(NamedTuple):
    """x - mean = basis @ diag(scale) @ axes, r being the numerical rank.

    Args:
        mean: [d].
        basis: [n, r], orthonormal columns.
        scale: [r], singular values, descending.
        axes: [r, d], orthonormal rows.
    """

    mean: np.ndarray
    basis: np.ndarray
    scale: np.ndarray
    axes: np.ndarray


def whiten(values: np.ndarray) -> Whitened:
    """Thin SVD of the centred values [n, d], directions of no variance left out."""
    mean = values.mean(0)
    basis, scale, axes = np.linalg.svd(values - mean, full_matrices=False)
    largest = scale[0] if len(scale) else 0.0
    keep = scale > largest * max(values.shape) * np.finfo(np.float64).eps
    return Whitened(mean, basis[:, keep], scale[keep], axes[keep])


def rank_gaussianize(x: ArrayLike | Variable, name: str = "x", rng: np.random.Generator | None = None) -> np.ndarray:
    """Each column through its ranks to the standard normal, Φ^-1(rank / (n + 1)).

    Mutual information does not change under invertible maps of each column, and long tails and odd units are gone.

    Args:
        x: [n] or [n, d].
        name: of x, in messages.
        rng: None lets ties share their mean rank. A generator puts them in random order: noise that knows nothing of
            the other side, from which the tied value can still be recovered, so that no information is gained or lost.

    Returns:
        float64 [n, d].

    Example:
        >>> import numpy as np
        >>> z = rank_gaussianize(np.array([3.0, 100.0, 5.0]))  # ranks 1, 3, 2 of 3: Phi^-1 of 1/4, 3/4, 2/4
        >>> z.ravel().round(3).tolist()
        [-0.674, 0.674, 0.0]
    """
    return normal_scores(x.values if isinstance(x, Variable) else read(x, name).values, rng)


def normal_scores(values: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
    """`rank_gaussianize` of float64 [n, d], unchecked."""
    from scipy.special import ndtri
    from scipy.stats import rankdata

    n = len(values)
    scores = np.empty(values.shape)
    of_rank = ndtri(np.arange(1, n + 1) / (n + 1))
    for column, of in enumerate(values.T):
        order = np.argsort(of) if rng is None else np.lexsort((rng.random(n), of))
        scores[order, column] = of_rank
        if rng is None and (np.diff(of[order]) == 0).any():
            scores[:, column] = ndtri(rankdata(of) / (n + 1))
    return scores
