"""Labels by a classifier: a lower bound without neighbours, which more than four dimensions do not blur.

    I(x; y) = H(y) - H(y | x) >= H(y) + E log q(y | x)         for any q, with equality at p(y | x)

q is a multinomial logistic regression on discriminants of x and their squares, fitted on one half of the rows; the mean
is taken over the other. Among classes that are Gaussian, with equal or with different spreads along the discriminants,
it can be exact.

References:
    Barber & Agakov 2003, NeurIPS (the bound); McAllester & Stratos 2020, arXiv:1811.04251 (differences of entropies).
"""

from __future__ import annotations

import numpy as np

MOST_CLASSES = 64
MOST_DISCRIMINANTS = 16
ITERATIONS = 200
PENALTY = 0.1  # of the squared weights, beside the sum over rows; classes may be far apart


class Classifier:
    """Multinomial logistic regression on the columns of u and their squares.

    Args:
        u: float64 [n, r], columns of about variance 1.
        codes: int64 [n], the class of each row.
        classes: number of classes; some may have no row.
    """

    def __init__(self, u: np.ndarray, codes: np.ndarray, classes: int) -> None:
        from scipy.optimize import minimize

        self.classes, self.n = classes, len(u)
        features, own = _features(u), np.eye(classes)[codes]
        start = np.zeros((features.shape[1], classes))
        start[0] = np.log((own.sum(0) + 0.5) / (len(u) + 0.5 * classes))

        def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
            weights = flat.reshape(start.shape)
            logs = _log_softmax(features @ weights)
            slope = features.T @ (np.exp(logs) - own)
            shrunk = PENALTY * weights
            shrunk[0] = 0.0
            return float((weights * shrunk).sum() / 2 - (own * logs).sum()), (slope + shrunk).ravel()

        found = minimize(loss, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": ITERATIONS})
        self.weights = found.x.reshape(start.shape)

    def log_probability(self, u: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """log q(code | u), float64 [n].

        One part in n goes to all classes alike, so that one row of a class that was not seen does not cost everything.
        """
        logs = _log_softmax(_features(u) @ self.weights)[np.arange(len(u)), codes]
        return np.logaddexp(logs + np.log1p(-1 / self.n), -np.log(self.n * self.classes))


def _features(u: np.ndarray) -> np.ndarray:
    return np.column_stack([np.ones(len(u)), u, u**2])


def _log_softmax(scores: np.ndarray) -> np.ndarray:
    scores = scores - scores.max(1, keepdims=True)
    return scores - np.log(np.exp(scores).sum(1, keepdims=True))
