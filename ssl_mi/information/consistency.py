"""Does an estimator obey the laws of information on these samples? Checks that need no known answer.

Mutual information is 0 at independence, does not change when something already known is added (data processing),
adds up over independent copies, and does not change under invertible maps. An estimator that breaks a law on the
samples at hand should not be believed there. The first three are the tests of Song & Ermon 2020
(arXiv:1910.06222, section 5.2).

Each check calls the estimator, a function of two paired arrays that returns an Estimate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ssl_mi.information.samples import read_pair
from ssl_mi.information.trust import derangement


@dataclass(frozen=True)
class Check:
    """What was read, and what the law says it should be, in nats."""

    law: str
    read: float
    expected: float

    @property
    def gap(self) -> float:
        return self.read - self.expected

    def __str__(self) -> str:
        return f"{self.law}: read {self.read:.4f}, should be {self.expected:.4f} (off by {self.gap:+.4f} nats)"


def independence(estimator: Callable, x, y, seed: int = 0) -> Check:
    """I(x; y') = 0 for re-paired rows y'."""
    a, b = read_pair(x, y)
    shuffled = b.values[derangement(b.n, np.random.default_rng(seed))]
    return Check("independence", float(estimator(a.values, shuffled)), 0.0)


def data_processing(estimator: Callable, x, y, seed: int = 0) -> Check:
    """I(x; (y, h(y))) = I(x; y): h is a random orthogonal map followed by tanh, and adds nothing to y."""
    a, b = read_pair(x, y)
    more = np.concatenate([b.values, np.tanh(_standard(b.values) @ _rotation(b.d, seed))], 1)
    return Check("data processing", float(estimator(a.values, more)), float(estimator(a.values, b.values)))


def additivity(estimator: Callable, x, y, seed: int = 0) -> Check:
    """I((x1, x2); (y1, y2)) = I(x1; y1) + I(x2; y2): two halves of the rows, side by side, are independent copies."""
    a, b = read_pair(x, y)
    order = np.random.default_rng(seed).permutation(a.n)
    first, second = order[: a.n // 2], order[a.n // 2 : 2 * (a.n // 2)]
    both = [np.concatenate([v[first], v[second]], 1) for v in (a.values, b.values)]
    apart = sum(float(estimator(a.values[rows], b.values[rows])) for rows in (first, second))
    return Check("additivity", float(estimator(*both)), apart)


def invariance(estimator: Callable, x, y, seed: int = 0) -> Check:
    """I(f(x); g(y)) = I(x; y) for invertible f, g: a random rotation, then t + t³/10 and asinh(2 t) of each column."""
    a, b = read_pair(x, y)
    u = _standard(a.values) @ _rotation(a.d, seed)
    v = _standard(b.values) @ _rotation(b.d, seed + 1)
    mapped = float(estimator(u + u**3 / 10, np.arcsinh(2 * v)))
    return Check("invariance", mapped, float(estimator(a.values, b.values)))


def chain_rule(conditional: Callable, estimator: Callable, x, y, z) -> Check:
    """I(x; (y, z)) = I(x; z) + I(x; y | z); `conditional` reads the last term from (x, y, z)."""
    a, b = read_pair(x, y)
    _, c = read_pair(x, z, ("x", "z"))
    joint = float(estimator(a.values, np.concatenate([b.values, c.values], 1)))
    parts = float(estimator(a.values, c.values)) + float(conditional(a.values, b.values, c.values))
    return Check("chain rule", joint, parts)


def all_checks(estimator: Callable, x, y, seed: int = 0) -> list[Check]:
    """Independence, data processing, additivity, invariance."""
    return [law(estimator, x, y, seed) for law in (independence, data_processing, additivity, invariance)]


def _standard(values: np.ndarray) -> np.ndarray:
    deviation = values.std(0)
    return (values - values.mean(0)) / np.where(deviation > 0, deviation, 1.0)


def _rotation(d: int, seed: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))[0]
