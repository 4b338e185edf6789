"""Regression on a few columns: ridge regression on random Fourier features that are drawn twice.

    E[t | z] ~ w · φ(z),   φ = (z, u, u², cos(Ω u + b)),   u = normal scores of z,   Ω of three widths

The first features are the same in all directions of u. The gradients of the first fit f show in which directions t
changes, M = E[∇f ∇f'], and the second features have Ω M^(1/2) for frequencies: a function of one direction of five is
then fitted as one of one. The ridge penalty is chosen by generalised cross-validation and then divided by 4: what is
left of t should hold less of the regression than of its own noise, for a test on two residuals sees the product of what
both have left (Shah & Peters 2020, arXiv:1804.07203).

References:
    Rahimi & Recht 2007, NeurIPS (random Fourier features); Golub, Heath & Wahba 1979, Technometrics 21, 215 (the
    penalty); Radhakrishnan, Beaglehole, Pandit & Belkin 2024, arXiv:2212.13881 (gradients as a metric).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ssl_mi.information.core.linalg import normal_scores

FEATURES = 200  # of each draw
ROWS_PER_FEATURE = 10
WIDTHS = 0.7, 1.3, 2.6  # times the root of the number of columns
UNDER = 0.25


class _Fit(NamedTuple):
    """coefficients [p], and the share of the variance that is left, as cross-validation has it."""

    coefficients: np.ndarray
    left: float


class Smoother:
    """Fits columns of numbers on z, and gives what is left of them.

    Args:
        z: float64 [n, d].
        rng: of the random features and of the order of ties.
    """

    def __init__(self, z: np.ndarray, rng: np.random.Generator) -> None:
        n = len(z)
        deviation = z.std(0)
        z = (z - z.mean(0))[:, deviation > 0] / deviation[deviation > 0]
        self.u = normal_scores(z, rng)
        d = max(z.shape[1], 1)
        count = min(FEATURES, n // ROWS_PER_FEATURE)
        widths = np.asarray(WIDTHS)[rng.integers(0, len(WIDTHS), count)] * np.sqrt(d)
        self.frequencies = rng.standard_normal((z.shape[1], count)) / widths
        self.phases = rng.uniform(0, 2 * np.pi, count)
        self.plain = _centred(np.concatenate([z, self.u, self.u**2], 1))
        self.waves = _centred(np.cos(self.u @ self.frequencies + self.phases))

    def residual(self, target: np.ndarray) -> np.ndarray:
        """target [n] less its regression on z."""
        return self._residual(target)[0]

    def standardized_residual(self, target: np.ndarray) -> np.ndarray:
        """The residual of target [n] over its standard deviation given z, exp E[log r² | z] / 2.

        For every z an invertible map of the target, taken as it is or, where z explains more of them, by its normal
        scores.
        """
        scores = normal_scores(target[:, None])[:, 0]
        left = min((self._residual(t) for t in (scores, target)), key=lambda found: found[1])[0]
        typical = float(np.mean(left**2))
        if typical <= 1e-20:
            return np.zeros(len(left))
        logs = np.log(left**2 + 1e-4 * typical)
        return left / np.exp((logs - self.residual(logs)) / 2)

    def _residual(self, target: np.ndarray) -> tuple[np.ndarray, float]:
        """What is left of target [n], and its share of the variance."""
        deviation = float(target.std())
        if deviation <= 1e-12 * float(np.abs(target).max(initial=0.0)):
            return np.zeros(len(target)), 1.0
        centred = (target - target.mean()) / deviation
        features = np.concatenate([self.plain, self.waves], 1)
        fit = _ridge(features, centred)
        if self.u.shape[1] > 1:
            again = np.concatenate([features, self._adapted(fit.coefficients)], 1)
            refit = _ridge(again, centred)
            features, fit = (again, refit) if refit.left < fit.left else (features, fit)
        return deviation * (centred - features @ fit.coefficients), fit.left

    def _adapted(self, coefficients: np.ndarray) -> np.ndarray:
        """Waves [n, count] along the directions in which the first fit changes."""
        d = self.u.shape[1]
        of_waves = coefficients[self.plain.shape[1] :]
        gradients = -np.sin(self.u @ self.frequencies + self.phases) * of_waves @ self.frequencies.T
        gradients += coefficients[:d] + coefficients[d : 2 * d] + 2 * self.u * coefficients[2 * d : 3 * d]
        scale, axes = np.linalg.eigh(gradients.T @ gradients / len(gradients))
        root = (axes * np.sqrt(np.maximum(scale, 0))) @ axes.T
        root *= np.sqrt(d / max(float((root**2).sum()), 1e-12))
        return _centred(np.cos(self.u @ root @ self.frequencies * np.sqrt(d) + self.phases))


def _centred(features: np.ndarray) -> np.ndarray:
    return features - features.mean(0)


def _ridge(features: np.ndarray, target: np.ndarray) -> _Fit:
    """Ridge regression of target [n], mean 0 and variance 1, on centred features [n, p]."""
    n = len(target)
    scale, axes = np.linalg.eigh(features.T @ features)
    scale = np.maximum(scale, 0.0)
    along = axes.T @ (features.T @ target)
    penalties = n * 10.0 ** np.arange(-8, 0.6, 0.5)
    shrunk = 1 / (scale + penalties[:, None])
    left = target @ target - 2 * (along**2 * shrunk).sum(1) + (along**2 * scale * shrunk**2).sum(1)
    validated = n * left / np.maximum(n - 1 - (scale * shrunk).sum(1), 1.0) ** 2
    best = int(np.argmin(validated))
    return _Fit(axes @ (along / (scale + UNDER * penalties[best])), float(validated[best]))
